"""How well a prompt router does on held-out documents: accuracy, calibration, and what its fallback takes.

In: a router, and each language's held-out documents as token ids. Out: plain figures by prefix length, for the
manifest. In means over languages each language weighs the same, however many documents it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from codechoir.compose.prompt_routers import prefix_lengths
from codechoir.model.prompt_router import PromptRouter

CALIBRATION_BINS = 15


def prompt_router_facts(
    router: PromptRouter, held_out: Mapping[str, Sequence[torch.Tensor]], experts: Sequence[str]
) -> dict[str, Any]:
    """The figures, each by prefix length in tokens. A language without documents has an accuracy of NaN.

    `accuracy`, `accuracy_by_language` and `confusion` are of the most probable expert, whatever the fallback makes of
    it; `accuracy_when_sure` is of those documents alone that the fallback does not take, `fallback_share` the share of
    those that it takes, `own_share_when_unsure` the mean weight that it gives to their own language's expert (None
    where there are no such documents).
    """
    lengths = {
        str(length): _measure(router, held_out, experts, length) for length in prefix_lengths(router.prefix_tokens)
    }
    by_language = {
        name: {length: round(one.confusion[name][name], 5) for length, one in lengths.items()} for name in held_out
    }
    return {
        "accuracy": {
            length: round(sum(by[length] for by in by_language.values()) / len(by_language), 5) for length in lengths
        },
        "accuracy_by_language": by_language,
        "confusion": {
            length: {name: {to: round(share, 4) for to, share in row.items()} for name, row in one.confusion.items()}
            for length, one in lengths.items()
        },
        "documents": {name: len(documents) for name, documents in held_out.items()},
        "temperature": router.temperature,
        "fallback": str(router.fallback),
        "confidence": router.confidence,
        "calibration_error": {length: _round(one.calibration_error) for length, one in lengths.items()},
        "fallback_share": {length: _round(one.fallback_share) for length, one in lengths.items()},
        "accuracy_when_sure": {length: _round(one.accuracy_when_sure) for length, one in lengths.items()},
        "own_share_when_unsure": {length: _round(one.own_share_when_unsure) for length, one in lengths.items()},
    }


@dataclass(frozen=True, slots=True)
class _Measured:
    """The figures at one prefix length; `confusion` is language -> expert -> share."""

    confusion: Mapping[str, Mapping[str, float]]
    calibration_error: float | None
    fallback_share: float | None
    accuracy_when_sure: float | None
    own_share_when_unsure: float | None


def _measure(
    router: PromptRouter, held_out: Mapping[str, Sequence[torch.Tensor]], experts: Sequence[str], length: int
) -> _Measured:
    confusion, rows, labels, weights = {}, [], [], []
    for name, documents in held_out.items():
        probabilities_NE = router.probabilities([document[:length] for document in documents])
        chosen_N = probabilities_NE.argmax(dim=-1)
        confusion[name] = {expert: float((chosen_N == n).float().mean()) for n, expert in enumerate(experts)}
        rows.append(probabilities_NE)
        labels += [list(experts).index(name)] * len(documents)
        weights += [1 / len(documents) for _ in documents]
    probabilities_NE, label_N = torch.cat(rows), torch.tensor(labels, dtype=torch.long)
    weight_N = torch.tensor(weights, dtype=torch.float32)
    largest_N, chosen_N = probabilities_NE.max(dim=-1)
    right_N, sure_N = (chosen_N == label_N).float(), router.is_sure(probabilities_NE)
    own_N = router.decide(probabilities_NE).gather(1, label_N[:, None])[:, 0]
    return _Measured(
        confusion,
        calibration_error(largest_N, right_N, weight_N),
        _mean((~sure_N).float(), weight_N),
        _mean(right_N[sure_N], weight_N[sure_N]),
        _mean(own_N[~sure_N], weight_N[~sure_N]),
    )


def calibration_error(confidence_N: torch.Tensor, right_N: torch.Tensor, weight_N: torch.Tensor) -> float | None:
    """The expected calibration error over 15 bins of equal width (Guo and others, arXiv 1706.04599, equation 3).

    The mean over decisions of how far their bin's accuracy is from its mean confidence; a decision counts `weight_N`.
    """
    bins_N = (confidence_N * CALIBRATION_BINS).ceil().long().clamp(1, CALIBRATION_BINS) - 1
    gaps_B = torch.zeros(CALIBRATION_BINS).index_add_(0, bins_N, weight_N * (right_N - confidence_N))
    total = float(weight_N.sum())
    return float(gaps_B.abs().sum()) / total if total else None


def _mean(value_N: torch.Tensor, weight_N: torch.Tensor) -> float | None:
    total = float(weight_N.sum())
    return float((value_N * weight_N).sum()) / total if total else None


def _round(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 5)
