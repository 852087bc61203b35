"""Validation: a composed model's loss by language under a routing, and the load of its experts.

The loss is plain cross-entropy in nats a token; languages count alike in its mean. The model runs as it is used: no
bias of the choice, no straight-through weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from codechoir.compose.tuning.objective import cross_entropy
from codechoir.compose.tuning.texts import Sequences
from codechoir.compose.tuning.watch import Watch
from codechoir.model.moe import Routing

MEAN = "mean"
_TOKENS_AT_ONCE = 2048


@dataclass(frozen=True, slots=True)
class Validation:
    """The losses by language and their mean; under token routing also how often each layer chose each expert (L, E)."""

    losses: Mapping[str, float]
    counts_LE: torch.Tensor | None = None

    @property
    def mean(self) -> float:
        """The mean over languages."""
        return self.losses[MEAN]


@torch.no_grad()
def validate(model: Any, watch: Watch, routing: Routing, top_k: int, sequences: Mapping[str, Sequences]) -> Validation:
    """Runs the model over the sequences of each language; fixed routing sends each to its own expert."""
    model.set_routing(routing, top_k)
    losses: dict[str, float] = {}
    counts: list[torch.Tensor] = []
    for language, given in sequences.items():
        total = 0.0
        for batch in given.to(model.device).split(max(1, _TOKENS_AT_ONCE // given.tokens_NT.shape[1])):
            if routing is Routing.FIXED:
                model.fix_routes([language])
            if routing is Routing.TOKEN:
                with watch.watching():
                    logits = model(**batch.told()).logits
                counts.append(watch.counts())
            else:
                logits = model(**batch.told()).logits
            total += float(cross_entropy(logits, batch.targets(), by_row=True).double().sum())
        losses[language] = total / len(given)
    losses[MEAN] = sum(losses.values()) / len(losses)
    return Validation(losses, sum(counts[1:], counts[0]) if counts else None)


def load_facts(
    counts_LE: torch.Tensor, layers: Sequence[int], experts: Sequence[str]
) -> tuple[dict[str, dict[str, float]], dict[str, list[str]]]:
    """By layer each expert's share of the choices, and the experts that nothing was sent to."""
    shares, dead = {}, {}
    for layer, row in zip(layers, counts_LE.double(), strict=True):
        share_E = row / row.sum()
        shares[str(layer)] = {name: round(float(each), 4) for name, each in zip(experts, share_E, strict=True)}
        dead[str(layer)] = [name for name, count in zip(experts, row, strict=True) if not count]
    return shares, dead
