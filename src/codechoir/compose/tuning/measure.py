"""A composed model's loss, and validation: that loss by language under a routing, and the load of its experts.

The loss is plain cross-entropy in nats a token; languages count alike in validation's mean. There the model runs as it
is used: no bias of the choice, no straight-through weight. Shapes: B sequences, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from codechoir.compose.tuning.objective import NO_TARGET, cross_entropy
from codechoir.compose.tuning.texts import Sequences
from codechoir.compose.tuning.watch import Watch
from codechoir.model.head_loss import head_is_plain, head_loss, last_states
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


class NextTokenLoss:
    """The mean loss of a batch's next tokens, or each sequence's (B); where the head is plain, without whole logits."""

    def __init__(self, model: Any) -> None:
        self.model = model
        model.set_routing(Routing.TOKEN)  # which needs no route that is told
        self._is_plain = head_is_plain(model)

    def __call__(self, batch: Sequences, *, by_row: bool = False) -> torch.Tensor:
        """One forward pass under the model's routing."""
        targets_BT = batch.targets()
        if not self._is_plain:
            return cross_entropy(self.model(**batch.told(self.model)).logits, targets_BT, by_row=by_row)
        states_BTD = last_states(self.model, **batch.told(self.model))
        if not by_row:
            return self._mean(states_BTD, targets_BT)
        return torch.stack([self._mean(*row) for row in zip(states_BTD, targets_BT, strict=True)])

    def _mean(self, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        has_next = targets != NO_TARGET
        return head_loss(self.model, states[has_next], targets[has_next]) / has_next.sum()


@torch.no_grad()
def validate(
    loss_of: NextTokenLoss, watch: Watch, routing: Routing, top_k: int, sequences: Mapping[str, Sequences]
) -> Validation:
    """Runs the model over the sequences of each language; fixed routing sends each to its own expert."""
    model = loss_of.model
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
                    losses_B = loss_of(batch, by_row=True)
                counts.append(watch.counts())
            else:
                losses_B = loss_of(batch, by_row=True)
            total += float(losses_B.double().sum())
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
