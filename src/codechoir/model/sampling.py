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
        # However small a temperature is: it must not round to 0, and what is divided by it is at most 0.
        temperatures_S1 = torch.tensor([[draws[row].temperature] for row in sampled]).clamp_min(_SMALLEST)
        logits_SV = logits_BV[sampled].cpu()
        logits_SV = logits_SV - logits_SV.amax(dim=-1, keepdim=True)
        probabilities_SV = torch.softmax(logits_SV / temperatures_S1, dim=-1)
        for row, probabilities_V in zip(sampled, probabilities_SV, strict=True):
            tokens[row] = _sample(probabilities_V, draws[row])
    return tokens


def _sample(probabilities_V: torch.Tensor, draw: Draw) -> int | ValueError:
    """Inverts the distribution function, tokens in the order of their ids: one random number a token."""
    if bool(probabilities_V.isnan().any()):
        return ValueError("the model gave no probabilities (NaN)")
    chosen_K = None
    if draw.top_p < 1:
        chosen_K = _nucleus(probabilities_V, draw.top_p)
        probabilities_V = probabilities_V[chosen_K]
    below_K = probabilities_V.double().cumsum(dim=-1)
    drawn = torch.rand(1, generator=draw.generator, dtype=torch.float64) * below_K[-1]
    place = int(torch.searchsorted(below_K, drawn, right=True).clamp_max(len(below_K) - 1))
    return place if chosen_K is None else int(chosen_K[place])


def _nucleus(probabilities_V: torch.Tensor, top_p: float) -> torch.Tensor:
    """The ids of the smallest set of tokens with probability `top_p` (arXiv 1904.09751), ascending."""
    most_K, order_K = probabilities_V.topk(min(_FIRST_LOOK, len(probabilities_V)))
    if float(most_K.sum()) < top_p:
        most_K, order_K = probabilities_V.sort(descending=True)
    before_K = most_K.cumsum(dim=-1) - most_K
    inside_K = before_K < top_p
    inside_K[0] = True  # a top_p that rounds to 0
    return order_K[inside_K].sort().values
