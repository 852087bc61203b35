"""What token routers keep when the experts change: the same tokens, routed before and after.

In: the states that each layer's router reads as a language's own expert runs, and two sets of routers. Out: by layer,
how often each set sends a token to its own language's expert, and how often both send it to the same one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from codechoir.compose.token_routers import States, in_batches


@dataclass(frozen=True, slots=True)
class NamedRouters:
    """One router a layer, (E, D), and the experts that its rows are of."""

    experts: tuple[str, ...]
    weights: Sequence[torch.Tensor]

    def is_fitted(self) -> bool:
        """Whether any row says anything: without a fit all are zeros."""
        return any(bool(weight.any()) for weight in self.weights)

    def knows(self, expert: str) -> bool:
        """Whether there is a row of this expert that says anything."""
        return expert in self.experts and any(bool(weight[self.experts.index(expert)].any()) for weight in self.weights)


def retention(
    states: States, sequences: Mapping[str, torch.Tensor], before: NamedRouters, after: NamedRouters
) -> dict[str, Any]:
    """For each language that both have: tokens, and by layer and on the mean over layers accuracies and agreement."""
    return {
        name: _of_language(states, name, tokens_NT, before, after)
        for name, tokens_NT in sequences.items()
        if name in before.experts and name in after.experts
    }


def _of_language(
    states: States, language: str, tokens_NT: torch.Tensor, before: NamedRouters, after: NamedRouters
) -> dict[str, Any]:
    numbers = {name: number for number, name in enumerate(dict.fromkeys((*before.experts, *after.experts)))}
    number_of = [torch.tensor([numbers[name] for name in routers.experts]) for routers in (before, after)]
    counts = {kind: [0] * len(after.weights) for kind in ("accuracy_before", "accuracy_after", "agreement")}

    def use(layer: int, x_ND: torch.Tensor) -> None:
        chosen = []
        for routers, number in zip((before, after), number_of, strict=True):
            logits_NE = x_ND @ routers.weights[layer].to(x_ND.device, torch.float32).T
            chosen.append(number[logits_NE.argmax(dim=-1).cpu()])
        for kind, wanted in (
            ("accuracy_before", chosen[0] == numbers[language]),
            ("accuracy_after", chosen[1] == numbers[language]),
            ("agreement", chosen[0] == chosen[1]),
        ):
            counts[kind][layer] += int(wanted.sum())

    for batch_NT in in_batches(tokens_NT):
        states(language, batch_NT, use)
    total = tokens_NT.numel()
    figures: dict[str, Any] = {"tokens": total}
    for kind, by_layer in counts.items():
        figures[kind] = round(sum(by_layer) / (total * len(by_layer)), 4)
        figures[f"{kind}_by_layer"] = [round(count / total, 4) for count in by_layer]
    return figures
