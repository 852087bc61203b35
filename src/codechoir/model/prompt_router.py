"""The prompt router: from a prefix's token ids to an expert, with no model in between.

A prefix is a bag of its tokens and of its pairs of neighbouring tokens, hashed into buckets. Layout and punctuation
tell languages apart, words hardly do (a licence text says nothing of the language below it), so what is letters alone
counts a quarter. A linear map gives each expert a score, a softmax at the calibrated temperature its probability. The
router lives in the sidecar files beside a composed checkpoint. Copied into each composed folder with the modelling
code, so it needs torch, transformers and safetensors alone.

Shapes: N prefixes, F buckets, E experts, V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

ROUTING_JSON = "routing.json"
ROUTING_TENSORS = "routing.safetensors"
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

    def settings(self) -> dict[str, Any]:
        """What of it goes into `routing.json`, under `prompt_router`."""
        return {"temperature": self.temperature, "prefix_tokens": self.prefix_tokens}

    def tensors(self) -> dict[str, torch.Tensor]:
        """What of it goes into `routing.safetensors`."""
        return {"prompt_router.weight": self.weight_FE, "prompt_router.words": self.words_V}

    @classmethod
    def restore(cls, settings: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> PromptRouter:
        """The router that `settings` and `tensors` were written of. Raises KeyError or TypeError."""
        return cls(
            tensors["prompt_router.weight"],
            tensors["prompt_router.words"],
            settings["temperature"],
            settings["prefix_tokens"],
        )


def find_prompt_router(model: str) -> PromptRouter:
    """Reads the sidecar of a folder or hub id. Raises OSError where there is none."""
    from transformers.utils import cached_file

    routing = json.loads(Path(cached_file(model, ROUTING_JSON)).read_text(encoding="utf-8"))
    return PromptRouter.restore(routing["prompt_router"], load_file(cached_file(model, ROUTING_TENSORS)))


def save_prompt_router(folder: Path, experts: Sequence[str], dense_config: Any, router: PromptRouter) -> None:
    """Writes the sidecar into a model's folder."""
    save_file(router.tensors(), folder / ROUTING_TENSORS, {"format": "pt"})
    routing = {"experts": list(experts), "dense_config": dense_config, "prompt_router": router.settings()}
    (folder / ROUTING_JSON).write_text(json.dumps(routing, indent=1) + "\n", encoding="utf-8")


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
