"""A layer's experts while they are tuned: transformers' backend of experts, with gradients written where they belong.

In: a block's tokens, which experts each goes to, and their weights. Out: what the block's own forward gives, to
rounding. Each expert's gradient is a product written straight into the packed weights' gradient, where autograd would
join gate and up, then all experts; tokens go out and come back by gathers, whose gradients are gathers, so that sums
are made in one order. An expert's tokens are filled up, so that products have few shapes. On a GPU one kernel makes all
experts' products, and nothing waits to learn how many tokens each has.

Shapes: N tokens, K experts a token, E experts, D width, H outputs of the first product, I inputs of the last, P places:
the N x K pairs by expert, and spare.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.nn import functional
from transformers.integrations.moe import ExpertsInterface

from codechoir.model.device import ROW_STEP, SHAPE_STEP
from codechoir.model.moe import Experts

BACKEND = "codechoir_tuning"  # transformers' name of it


@dataclass(frozen=True, slots=True)
class _Places:
    """Where each token is among its experts' places. Spare places hold token 0 and count for nothing."""

    tokens_P: torch.Tensor
    pairs_P: torch.Tensor  # which of the N x K pairs
    counts_P1: torch.Tensor  # 1, or 0 where the place is spare
    experts_P: torch.Tensor
    places_NK: torch.Tensor
    ends_E: torch.Tensor  # of each expert's places; what lies after the last is nobody's
    sizes: tuple[int, ...] | None  # an expert's places, where products are made one by one

    def experts(self) -> Iterator[tuple[int, slice]]:
        """Each expert that has tokens, and its places."""
        start = 0
        for expert, size in enumerate(self.sizes or ()):
            if size:
                yield expert, slice(start, start + size)
            start += size


def places_of(chosen_NK: torch.Tensor, num_experts: int, *, grouped: bool) -> _Places:
    """The places of tokens that go to these experts; `grouped`, where one kernel makes all experts' products."""
    num_tokens, top_k = chosen_NK.shape
    chosen, numbers_E = chosen_NK.flatten(), torch.arange(num_experts, device=chosen_NK.device)
    counts_E = (chosen[:, None] == numbers_E).sum(dim=0)
    sizes_E = -(-counts_E // SHAPE_STEP) * SHAPE_STEP
    ends_E = sizes_E.cumsum(0)
    order = chosen.argsort(stable=True)
    spare_before_E = ends_E - sizes_E - (counts_E.cumsum(0) - counts_E)
    places = torch.arange(len(chosen), device=chosen.device) + spare_before_E[chosen[order]]
    sizes = None if grouped else tuple(sizes_E.tolist())
    num_places = (-(-len(chosen) // SHAPE_STEP) + num_experts) * SHAPE_STEP if sizes is None else sum(sizes)
    pairs_P, counts_P1 = chosen.new_zeros(num_places), torch.zeros(num_places, 1, device=chosen.device)
    pairs_P[places], counts_P1[places] = order, 1.0
    places_NK = torch.empty_like(order)
    places_NK[order] = places
    experts_P = torch.searchsorted(ends_E, torch.arange(num_places, device=chosen.device), right=True)
    return _Places(
        pairs_P // top_k,
        pairs_P,
        counts_P1,
        experts_P.clamp_max(num_experts - 1),
        places_NK.view(num_tokens, top_k),
        ends_E.to(torch.int32),
        sizes,
    )


class _Routed(torch.autograd.Function):
    """The experts' weighted outputs (N, D)."""

    @staticmethod
    def forward(
        ctx: Any, experts: Experts, places: _Places, x_ND: torch.Tensor, weights_NK: torch.Tensor, *packed: torch.Tensor
    ) -> torch.Tensor:
        """`packed`: up (or gate and up), down, and where there are some their biases."""
        first, last, first_bias, last_bias = _parts(packed)
        outer_PH = _products(x_ND[places.tokens_P], first.transpose(1, 2), places)
        if first_bias is not None:
            outer_PH += first_bias[places.experts_P]
        out_PD = _products(_inner(experts, outer_PH), last.transpose(1, 2), places)
        if last_bias is not None:
            out_PD += last_bias[places.experts_P]
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
        first_wanted, last_wanted, *bias_wanted = ctx.needs_input_grad[4:]
        x_PD, gradient_PD = x_ND[places.tokens_P], gradient_ND[places.tokens_P]
        weights_P1 = weights_NK.reshape(-1, 1)[places.pairs_P] * places.counts_P1.to(weights_NK.dtype)
        pull = _compiled_pulled() if x_PD.is_cuda else _pulled
        pulled = pull(ctx.experts, outer_PH, _products(gradient_PD, last, places), weights_P1)
        inner_PI, of_outer_PH, of_weights_P = pulled
        if last_bias is not None:
            of_weights_P += (gradient_PD * last_bias[places.experts_P]).sum(dim=-1, dtype=of_weights_P.dtype)
        weighted_PD = gradient_PD * weights_P1.to(x_PD.dtype)
        of_packed = [
            _gradient(of_outer_PH, x_PD, places) if first_wanted else None,
            _gradient(weighted_PD, inner_PI, places) if last_wanted else None,
        ]
        for wanted, of_bias_PH in zip(bias_wanted, (of_outer_PH, weighted_PD), strict=False):
            of_packed.append(_sums(of_bias_PH, places) if wanted else None)
        of_x_ND = _products(of_outer_PH, first, places)[places.places_NK].sum(dim=1)
        return None, None, of_x_ND, of_weights_P[places.places_NK], *of_packed


def _parts(packed: Any) -> tuple[Any, Any, Any, Any]:
    """First and last products' weights and biases, which may not be there."""
    return (*packed, None, None) if len(packed) == 2 else tuple(packed)


def _products(x_PA: torch.Tensor, weight_EAB: torch.Tensor, places: _Places) -> torch.Tensor:
    """Each place by its expert's weight (P, B); nobody's places hold anything."""
    if places.sizes is None:
        return functional.grouped_mm(x_PA, weight_EAB, offs=places.ends_E)
    out_PB = x_PA.new_empty(len(x_PA), weight_EAB.shape[2])
    for expert, part in places.experts():
        torch.mm(x_PA[part], weight_EAB[expert], out=out_PB[part])
    return out_PB


def _gradient(of_PA: torch.Tensor, x_PB: torch.Tensor, places: _Places) -> torch.Tensor:
    """The packed weight's gradient (E, A, B), by those of what it gave and by what it was given."""
    if places.sizes is None:
        return functional.grouped_mm(of_PA.T, x_PB, offs=places.ends_E)
    shape = (len(places.sizes), of_PA.shape[1], x_PB.shape[1])
    found_EAB = x_PB.new_empty(shape) if all(places.sizes) else x_PB.new_zeros(shape)  # without tokens there is none
    for expert, part in places.experts():
        torch.mm(of_PA[part].T, x_PB[part], out=found_EAB[expert])
    return found_EAB


def _sums(of_PH: torch.Tensor, places: _Places) -> torch.Tensor:
    """A packed bias's gradient (E, H)."""
    of_PH = torch.where(places.counts_P1 > 0, of_PH, 0)
    is_own_EP = places.experts_P == torch.arange(len(places.ends_E), device=of_PH.device)[:, None]
    return is_own_EP.to(of_PH.dtype) @ of_PH


@cache
def _can_group(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch has a kernel for all experts' products on this device: on GPUs, for numbers of 16 bits."""
    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return False
    x, ends = torch.ones(2 * SHAPE_STEP, SHAPE_STEP, device=device, dtype=dtype), torch.tensor([SHAPE_STEP] * 2)
    try:
        functional.grouped_mm(x.T, x, offs=ends.to(device, torch.int32))
    except (AttributeError, RuntimeError):  # an older torch, or none for this GPU
        return False
    return True


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
    is_aligned = experts.hidden_dim % ROW_STEP == 0 and experts.intermediate_dim % ROW_STEP == 0
    grouped = is_aligned and _can_group(hidden_states.device, hidden_states.dtype)
    places = places_of(top_k_index, experts.num_experts, grouped=grouped)
    out_ND: torch.Tensor = _Routed.apply(experts, places, hidden_states, top_k_weights, *packed)  # type: ignore[no-untyped-call]
    return out_ND


ExpertsInterface.register(BACKEND, tuned_experts)
