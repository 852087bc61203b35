"""A layer's experts while they are tuned: transformers' backend of experts, with gradients written where they belong.

In: a block's tokens, which experts each goes to, and their weights. Out: what the block's own forward gives, to
rounding. Each expert's gradient is a product written straight into the packed weights' gradient, where autograd would
join gate and up, then all experts; tokens go out and come back by gathers, whose gradients are gathers, so that sums
are made in one order. An expert's tokens are filled up, so that products have few shapes.

Shapes: N tokens, K experts a token, E experts, D width, H outputs of the first product, I inputs of the last, P places:
the N x K pairs by expert, and spare.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from transformers.integrations.moe import ExpertsInterface

from codechoir.model.device import SHAPE_STEP
from codechoir.model.moe import Experts

BACKEND = "codechoir_tuning"  # transformers' name of it


@dataclass(frozen=True, slots=True)
class _Places:
    """Where each token is among its experts' places. Spare places hold token 0 and count for nothing."""

    tokens_P: torch.Tensor
    pairs_P: torch.Tensor  # which of the N x K pairs
    counts_P1: torch.Tensor  # 1, or 0 where the place is spare
    places_NK: torch.Tensor
    sizes: tuple[int, ...]  # an expert's places

    def experts(self) -> Iterator[tuple[int, slice]]:
        """Each expert that has tokens, and its places."""
        start = 0
        for expert, size in enumerate(self.sizes):
            if size:
                yield expert, slice(start, start + size)
            start += size


def places_of(chosen_NK: torch.Tensor, num_experts: int) -> _Places:
    """The places of tokens that go to these experts."""
    num_tokens, top_k = chosen_NK.shape
    chosen, numbers_E = chosen_NK.flatten(), torch.arange(num_experts, device=chosen_NK.device)
    counts = (chosen[:, None] == numbers_E).sum(dim=0)  # a GPU waits for a count by bins
    sizes = -(-counts // SHAPE_STEP) * SHAPE_STEP
    order = chosen.argsort(stable=True)
    spare_before_E = (sizes - counts).cumsum(0) - (sizes - counts)
    places = torch.arange(len(chosen), device=chosen.device) + spare_before_E[chosen[order]]
    given = sizes.tolist()
    pairs_P, counts_P1 = chosen.new_zeros(sum(given)), torch.zeros(sum(given), 1, device=chosen.device)
    pairs_P[places], counts_P1[places] = order, 1.0
    places_NK = torch.empty_like(order)
    places_NK[order] = places
    return _Places(pairs_P // top_k, pairs_P, counts_P1, places_NK.view(num_tokens, top_k), tuple(given))


class _Routed(torch.autograd.Function):
    """The experts' weighted outputs (N, D)."""

    @staticmethod
    def forward(
        ctx: Any, experts: Experts, places: _Places, x_ND: torch.Tensor, weights_NK: torch.Tensor, *packed: torch.Tensor
    ) -> torch.Tensor:
        """`packed`: up (or gate and up), down, and where there are some their biases."""
        first, last, first_bias, last_bias = _parts(packed)
        x_PD = x_ND[places.tokens_P]
        outer_PH, out_PD = x_PD.new_empty(len(x_PD), first.shape[1]), torch.empty_like(x_PD)
        for expert, part in places.experts():
            _product(x_PD[part], first[expert], _of(first_bias, expert), outer_PH[part])
        inner_PI = _inner(experts, outer_PH)
        for expert, part in places.experts():
            _product(inner_PI[part], last[expert], _of(last_bias, expert), out_PD[part])
        out_NKD = out_PD[places.places_NK] * weights_NK[..., None]
        ctx.experts, ctx.places = experts, places
        ctx.save_for_backward(x_ND, weights_NK, outer_PH, *packed)
        return out_NKD.sum(dim=1).to(x_ND.dtype)

    @staticmethod
    def backward(ctx: Any, gradient_ND: torch.Tensor) -> Any:
        """Of the tokens, their weights and the packed tensors."""
        x_ND, weights_NK, outer_PH, *packed = ctx.saved_tensors
        first, last, _, last_bias = _parts(packed)
        places: _Places = ctx.places
        wanted = ctx.needs_input_grad[4:]
        like = torch.empty_like if all(places.sizes) else torch.zeros_like  # an expert without tokens has none
        of_packed = [like(each) if want else None for each, want in zip(packed, wanted, strict=True)]
        of_first, of_last, of_first_bias, of_last_bias = _parts(of_packed)
        x_PD, gradient_PD = x_ND[places.tokens_P], gradient_ND[places.tokens_P]
        weights_P1 = weights_NK.reshape(-1, 1)[places.pairs_P] * places.counts_P1.to(weights_NK.dtype)
        of_inner_PI, of_x_PD = x_PD.new_empty(len(x_PD), last.shape[2]), torch.empty_like(x_PD)
        for expert, part in places.experts():
            torch.mm(gradient_PD[part], last[expert], out=of_inner_PI[part])
        pull = _compiled_pulled() if x_PD.is_cuda else _pulled
        inner_PI, of_outer_PH, of_weights_P = pull(ctx.experts, outer_PH, of_inner_PI, weights_P1)
        weighted_PD = gradient_PD * weights_P1.to(x_PD.dtype)
        for expert, part in places.experts():
            if last_bias is not None:
                of_weights_P[part] += (gradient_PD[part] @ last_bias[expert]).to(weights_P1.dtype)
            if of_last is not None:
                torch.mm(weighted_PD[part].T, inner_PI[part], out=of_last[expert])
            if of_last_bias is not None:
                of_last_bias[expert] = weighted_PD[part].sum(dim=0)
            if of_first is not None:
                torch.mm(of_outer_PH[part].T, x_PD[part], out=of_first[expert])
            if of_first_bias is not None:
                of_first_bias[expert] = of_outer_PH[part].sum(dim=0)
            torch.mm(of_outer_PH[part], first[expert], out=of_x_PD[part])
        of_x_ND = of_x_PD[places.places_NK].sum(dim=1)
        return None, None, of_x_ND, of_weights_P[places.places_NK], *of_packed


def _parts(packed: Any) -> tuple[Any, Any, Any, Any]:
    """First and last products' weights and biases, which may not be there."""
    return (*packed, None, None) if len(packed) == 2 else tuple(packed)


def _of(bias_EH: torch.Tensor | None, expert: int) -> torch.Tensor | None:
    return None if bias_EH is None else bias_EH[expert]


def _product(x_nD: torch.Tensor, weight_HD: torch.Tensor, bias_H: torch.Tensor | None, out_nH: torch.Tensor) -> None:
    if bias_H is None:
        torch.mm(x_nD, weight_HD.T, out=out_nH)
    else:
        torch.addmm(bias_H, x_nD, weight_HD.T, out=out_nH)


def _inner(experts: Experts, outer_PH: torch.Tensor) -> torch.Tensor:
    """What the last product reads (P, I)."""
    if not experts.gated:
        activated: torch.Tensor = experts.act_fn(outer_PH)
        return activated
    gate_PI, up_PI = outer_PH.chunk(2, dim=-1)
    multiplied: torch.Tensor = experts.act_fn(gate_PI) * up_PI
    return multiplied


def _pulled(
    experts: Experts, outer_PH: torch.Tensor, of_inner_PI: torch.Tensor, weights_P1: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the last product read, and the gradients of the first one's outputs and of the weights (P).

    `of_inner_PI` is the gradient before it is weighted.
    """
    both: Any = torch.func.vjp(lambda outer_PH: _inner(experts, outer_PH), outer_PH)
    inner_PI, pull = both
    of_weights_P = (of_inner_PI * inner_PI).sum(dim=-1, dtype=weights_P1.dtype)
    (of_outer_PH,) = pull(of_inner_PI * weights_P1.to(of_inner_PI.dtype))
    return inner_PI, of_outer_PH, of_weights_P


@cache
def _compiled_pulled() -> Any:
    """The same for a GPU: reads and writes each number once."""
    return torch.compile(_pulled, dynamic=True)


def tuned_experts(
    experts: Experts, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """The backend, as transformers calls it: (N, D), experts (N, K) and weights (N, K), to (N, D)."""
    names = ["gate_up_proj" if experts.gated else "up_proj", "down_proj"]
    names += [f"{name}_bias" for name in names] if experts.biased else []
    packed = [getattr(experts, name) for name in names]
    places = places_of(top_k_index, experts.num_experts)
    out_ND: torch.Tensor = _Routed.apply(experts, places, hidden_states, top_k_weights, *packed)  # type: ignore[no-untyped-call]
    return out_ND


ExpertsInterface.register(BACKEND, tuned_experts)
