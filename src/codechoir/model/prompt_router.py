"""The prompt router: from a prefix's token ids to an expert, with no model in between.

A prefix is a bag of its tokens and of its pairs of neighbouring tokens, hashed into buckets. Layout and punctuation
tell languages apart, words hardly do (a licence text says nothing of the language below it), so what is letters alone
counts a quarter. A linear map gives each expert a score, a softmax at the calibrated temperature its probability. The
router lives in the sidecar files beside a composed checkpoint.

Shapes: N prefixes, F buckets, E experts, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

BUCKETS = 2**15
WORD_WEIGHT = 0.25
_TOKEN_FACTOR, _PAIR_FACTOR, _PAIR_OFFSET = 2654435761, 40503, 12345  # any odd constants will do


@dataclass(frozen=True, slots=True)
class PromptRouter:
    """`weight_FE`: float32. `words_V`: which tokens hold letters. `prefix_tokens`: how much of an input is read."""

    weight_FE: torch.Tensor
    words_V: torch.Tensor
    temperature: float
    prefix_tokens: int

    def probabilities(self, prefixes: Sequence[torch.Tensor]) -> torch.Tensor:
        """Each prefix's probability of each expert, shape (N, E), on the CPU. A prefix is 1-d token ids."""
        features_NF = hashed_bags([prefix[: self.prefix_tokens].cpu() for prefix in prefixes], self.words_V)
        return torch.softmax(torch.sparse.mm(features_NF, self.weight_FE) / self.temperature, dim=-1)


def tokens_with_letters(tokenizer: Any, vocabulary: int) -> torch.Tensor:
    """Which token ids hold an ASCII letter: bool, shape (V,)."""
    tokens = tokenizer.convert_ids_to_tokens(range(min(vocabulary, len(tokenizer))))
    letters = [token is not None and any(c.isascii() and c.isalpha() for c in token) for token in tokens]
    return torch.tensor(letters + [False] * (vocabulary - len(letters)))


def hashed_bags(prefixes: Sequence[torch.Tensor], words_V: torch.Tensor) -> torch.Tensor:
    """The prefixes' features: sparse float32 (N, F), rows of unit length; an empty prefix is all 0.

    A bucket's value is log(1 + weighted count) of the tokens and pairs that fall into it, before scaling.
    """
    none = torch.zeros(0, dtype=torch.long)  # without prefixes, a matrix of no rows
    rows, columns, values = [none], [none], [none.float()]
    for row, ids in enumerate(prefixes):
        words = words_V[ids]
        tokens = ids * _TOKEN_FACTOR % BUCKETS
        pairs = (ids[:-1] * _TOKEN_FACTOR + ids[1:] * _PAIR_FACTOR + _PAIR_OFFSET) % BUCKETS
        buckets, places = torch.unique(torch.cat([tokens, pairs]), return_inverse=True)
        plain = torch.cat([words, words[:-1] & words[1:]])
        counts = torch.zeros(len(buckets)).index_add_(0, places, torch.where(plain, WORD_WEIGHT, 1.0))
        weights = torch.log1p(counts)
        rows.append(torch.full_like(buckets, row))
        columns.append(buckets)
        values.append(weights / weights.norm().clamp_min(1e-12))
    indices = torch.stack([torch.cat(rows), torch.cat(columns)])
    shape = (len(prefixes), BUCKETS)
    return torch.sparse_coo_tensor(indices, torch.cat(values), shape, check_invariants=False).coalesce()
