"""What makes training fast: packed attention, and decoder layers compiled once.

In: a model on its device, without dropout. Out: the same function of the same weights, to rounding; gradients of
embeddings are no worse than others'. Compiled layers keep less for the backward pass, too: what takes no product of
matrices is computed again. Knows no loss and no data.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from codechoir.model.compilation import compile_forward
from codechoir.model.packed_attention import keep_documents_apart
from codechoir.train.embeddings import add_up_in_float32


def accelerate(model: Any, layers: nn.ModuleList, compiled: bool) -> None:
    """Readies the model for training on the device that it is on; `compiled`, where this machine can.

    Raises IncompatibleModelError where packed documents do not stay apart in it.
    """
    keep_documents_apart(model)
    add_up_in_float32(model)
    if compiled:
        compile_forward(layers, model.device)
