"""What makes training fast: packed attention, and decoder layers compiled once.

In: a model on its device, without dropout. Out: the same function of the same weights, to rounding; gradients of
embeddings are no worse than others'. Compiled layers keep less for the backward pass, too: what takes no product of
matrices is computed again. The environment variable TORCH_COMPILE_DISABLE=1 keeps torch from compiling. Knows no loss
and no data.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn

from codechoir.console import say
from codechoir.model.device import compute_device
from codechoir.model.packed_attention import keep_documents_apart
from codechoir.train.embeddings import add_up_in_float32

_MAX_GRAPHS = 200  # within torch's limit for a function in all its uses, 256
_WORTH_COMPILING = 2e12  # parameters times tokens: about two minutes on two cores, of which compiling takes 20 s


def accelerate(model: Any, layers: nn.ModuleList, compiled: bool) -> None:
    """Readies the model for training on the device that it is on; `compiled`, where this machine can.

    Raises IncompatibleModelError where packed documents do not stay apart in it.
    """
    keep_documents_apart(model)
    add_up_in_float32(model)
    if compiled and _can_compile(model.device.type):
        # Each shape and way has a graph; past torch's own limit of 8 for all branches layers would run uncompiled.
        torch._dynamo.config.recompile_limit = max(_MAX_GRAPHS, torch._dynamo.config.recompile_limit)
        for layer in layers:
            layer.forward = _compiled(layer.forward)


def pays_to_compile(num_parameters: int, num_tokens: int) -> bool:
    """Whether training so large a model on so many tokens is shortened by more than compiling takes."""
    return compute_device().type != "cpu" or num_parameters * num_tokens >= _WORTH_COMPILING


@cache
def _can_compile(device: str) -> bool:
    """Whether torch finds the compiler that it needs: it looks for one when first asked to compile."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(2, device=device))
    except Exception as error:  # of many kinds, by what is missing
        cause = str(getattr(error, "inner_exception", error)).strip()
        say(f"training without torch.compile, which fails here: {cause.splitlines()[0] if cause else type(error)}")
        return False
    return True


def _compiled(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A layer's forward, compiled where gradients are wanted; measuring, in sequences of any length, stays as it is.

    One compilation serves all layers, for their code is one; the whole model would take minutes. Each shape has its
    own, so that a step computes the same whatever went before it.
    """
    compiled = torch.compile(forward, dynamic=False)

    def either(*arguments: Any, **named: Any) -> Any:
        return (compiled if torch.is_grad_enabled() else forward)(*arguments, **named)

    return either
