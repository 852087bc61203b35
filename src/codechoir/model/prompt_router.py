"""The prompt router: from a prefix's token ids to an expert, with no model in between.

A prefix is the bag of its tokens: log(1 + count) of each, scaled to unit length. A linear map gives a score an expert,
a softmax at the calibrated temperature its probability. It lives in the sidecar files beside a composed checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class PromptRouter:
    """`weight_VE`: float32, (vocabulary, experts). `prefix_tokens`: how much of an input is read."""

    weight_VE: torch.Tensor
    temperature: float
    prefix_tokens: int

    def probabilities(self, prefixes: Sequence[torch.Tensor]) -> torch.Tensor:
        """Each prefix's probability of each expert, shape (prefixes, experts). A prefix is 1-d token ids."""
        features = bag_of_tokens([prefix[: self.prefix_tokens] for prefix in prefixes], len(self.weight_VE))
        scores_NE = torch.sparse.mm(features, self.weight_VE.to(features.device))
        return torch.softmax(scores_NE / self.temperature, dim=-1)


def bag_of_tokens(prefixes: Sequence[torch.Tensor], vocabulary: int) -> torch.Tensor:
    """The prefixes' features, a sparse float32 (prefixes, vocabulary) matrix of unit rows; an empty prefix is all 0."""
    rows, columns, values = [], [], []
    for row, prefix in enumerate(prefixes):
        tokens, counts = torch.unique(prefix, return_counts=True)
        weights = torch.log1p(counts.float())
        rows.append(torch.full_like(tokens, row))
        columns.append(tokens)
        values.append(weights / weights.norm().clamp_min(1e-12))
    indices = torch.stack([torch.cat(rows), torch.cat(columns)])
    return torch.sparse_coo_tensor(
        indices, torch.cat(values), (len(prefixes), vocabulary), check_invariants=False
    ).coalesce()
