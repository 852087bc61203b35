"""The next tokens of many sequences from their logits. A sampled one draws from its own generator.

Shapes: B sequences, V vocabulary, S those that sample, K the most probable tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

_SMALLEST = torch.finfo(torch.float32).tiny
_FIRST_LOOK = 256  # so many of the most probable tokens hold top_p nearly always; sorting all costs much more


@dataclass(frozen=True, slots=True)
class Draw:
    """How a sequence's next token is chosen: greedily at temperature 0, else from the smallest set of `top_p`."""

    temperature: float
    top_p: float
    generator: torch.Generator


def generator(seed: int) -> torch.Generator:
    """A sequence's own source of chance, on the CPU whatever the model's device."""
    return torch.Generator().manual_seed(seed)


def next_tokens(logits_BV: torch.Tensor, draws: Sequence[Draw]) -> list[int | ValueError]:
    """A token each, or the error of a row that holds no probabilities (NaN)."""
    tokens: list[int | ValueError] = logits_BV.argmax(dim=-1).tolist()
    sampled = [row for row, draw in enumerate(draws) if draw.temperature > 0]
    if sampled:
        logits_SV = logits_BV[torch.tensor(sampled, device=logits_BV.device)]
        for row, token in zip(sampled, _sample(logits_SV, [draws[row] for row in sampled]), strict=True):
            tokens[row] = token
    return tokens


def _sample(logits_SV: torch.Tensor, draws: Sequence[Draw]) -> list[int | ValueError]:
    """Inverts each distribution function, tokens in the order of their ids: one random number a token.

    All on the logits' device but the random numbers.
    """
    # However small a temperature is: it must not round to 0, and what is divided by it is at most 0.
    temperatures_S1 = torch.tensor([[draw.temperature] for draw in draws]).clamp_min(_SMALLEST)
    logits_SV = logits_SV - logits_SV.amax(dim=-1, keepdim=True)
    probabilities_SV = torch.softmax(logits_SV / temperatures_S1.to(logits_SV.device), dim=-1)
    drawn_S1 = torch.stack([torch.rand(1, generator=draw.generator, dtype=torch.float64) for draw in draws])
    drawn_S1 = drawn_S1.to(logits_SV.device)
    tokens_S1 = torch.zeros(len(draws), 1, dtype=torch.long, device=logits_SV.device)
    whole = [row for row, draw in enumerate(draws) if draw.top_p == 1]
    if whole:
        tokens_S1[whole] = _invert(probabilities_SV[whole], drawn_S1[whole])
    cut = [row for row, draw in enumerate(draws) if draw.top_p < 1]
    if cut:
        most_SK, order_SK = probabilities_SV[cut].topk(min(_FIRST_LOOK, probabilities_SV.shape[1]))
        top_p_S1 = torch.tensor([[draws[row].top_p] for row in cut], device=logits_SV.device)
        tokens_S1[cut] = _in_nucleus(most_SK, order_SK, top_p_S1, drawn_S1[cut])
        is_wide = (most_SK.sum(dim=-1, keepdim=True) < top_p_S1)[:, 0].tolist()
        if any(is_wide):
            wide = [row for row, is_one in zip(cut, is_wide, strict=True) if is_one]
            all_SV, order_SV = probabilities_SV[wide].sort(dim=-1, descending=True)
            top_p_S1 = top_p_S1[torch.tensor(is_wide)]
            tokens_S1[wide] = _in_nucleus(all_SV, order_SV, top_p_S1, drawn_S1[wide])
    is_broken = (
        probabilities_SV[:, 0].isnan().tolist()
    )  # one such makes the whole row so: they were divided by their sum
    return [
        ValueError("the model gave no probabilities (NaN)") if broken else token
        for token, broken in zip(tokens_S1[:, 0].tolist(), is_broken, strict=True)
    ]


def _in_nucleus(
    most_SK: torch.Tensor, order_SK: torch.Tensor, top_p_S1: torch.Tensor, drawn_S1: torch.Tensor
) -> torch.Tensor:
    """A token (S, 1) of each row's smallest set with probability `top_p` (arXiv 1904.09751).

    `most_SK`: probabilities, the largest first; `order_SK`: their tokens.
    """
    inside_SK = most_SK.cumsum(dim=-1) - most_SK < top_p_S1
    inside_SK[:, 0] = True  # a top_p that rounds to 0
    tokens_SK, places_SK = order_SK.sort(dim=-1)
    return tokens_SK.gather(1, _invert((most_SK * inside_SK).gather(1, places_SK), drawn_S1))


def _invert(probabilities_SK: torch.Tensor, drawn_S1: torch.Tensor) -> torch.Tensor:
    """Each row's place (S, 1) by a number from 0 to 1, through its distribution function."""
    below_SK = probabilities_SK.double().cumsum(dim=-1)
    whole_S1 = below_SK[:, -1:]
    chosen_S1 = torch.searchsorted(below_SK, drawn_S1 * whole_S1, right=True)
    last_S1 = (below_SK < whole_S1).sum(dim=-1, keepdim=True)  # of any probability: the product may round to the whole
    return torch.minimum(chosen_S1, last_S1)
