"""Embeddings whose gradients are added up in float32, where torch would add them in the weights' number format.

On a CPU torch adds the gradients of a token's every occurrence in the format of the weight: in bfloat16 a sum stays
where it is once it is 256 times what is added. In: a model. Out: the same model, the embeddings that need it of another
class. Shapes: V rows, D width; ids and gradients of any number of dimensions before.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def add_up_in_float32(model: nn.Module) -> None:
    """Mends the gradients of all trained embeddings on a CPU that are narrower than float32."""
    for module in model.modules():
        if isinstance(module, nn.Embedding) and not isinstance(module, _Exact) and _needs_it(module):
            kind = type(module)
            # Last but for nn.Embedding: what a model's own class does before and after the look-up stays.
            bases = (_Exact,) if kind is nn.Embedding else (kind, _Exact)
            module.__class__ = type(kind.__name__, bases, {})


def _needs_it(module: nn.Embedding) -> bool:
    weight = module.weight
    narrow = weight.is_floating_point() and weight.dtype.itemsize < torch.float32.itemsize
    return narrow and weight.requires_grad and weight.device.type == "cpu" and module.max_norm is None


class _Exact(nn.Embedding):
    """An embedding with the same look-up and the gradient rounded once."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        how = (self.padding_idx, self.scale_grad_by_freq)
        found: torch.Tensor = _LookUp.apply(input, self.weight, *how)  # type: ignore[no-untyped-call]
        return found


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, ids: torch.Tensor, weight_VD: torch.Tensor, padding: int | None, by_frequency: bool
    ) -> torch.Tensor:
        ctx.save_for_backward(ids)
        ctx.of = (len(weight_VD), -1 if padding is None else padding, by_frequency)
        ctx.dtype = weight_VD.dtype
        return nn.functional.embedding(ids, weight_VD)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        (ids,) = ctx.saved_tensors
        of_weight_VD = torch.ops.aten.embedding_dense_backward(gradient.float(), ids, *ctx.of)
        return None, of_weight_VD.to(ctx.dtype), None, None
