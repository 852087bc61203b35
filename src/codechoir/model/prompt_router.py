"""The prompt router: from a prefix's token ids to an expert, with no model in between.

A prefix is a bag of its tokens and of its pairs of neighbouring tokens, hashed into buckets. Layout and punctuation
tell languages apart, words hardly do (a licence text says nothing of the language below it), so what is letters alone
counts a quarter. A linear map gives each expert a score, a softmax at the calibrated temperature its probability. Where
the largest probability is under the stated confidence, a fallback decides. The router lives in the sidecar files beside
a composed checkpoint. Copied into each composed folder with the modelling code, so it needs torch, transformers and
safetensors alone.

Shapes: N prefixes, F buckets, E experts, V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch.nn import functional

ROUTING_JSON = "routing.json"
ROUTING_TENSORS = "routing.safetensors"
BUCKETS = 2**15
WORD_WEIGHT = 0.25
_TOKEN_FACTOR, _PAIR_FACTOR, _PAIR_OFFSET = 2654435761, 40503, 12345  # any odd constants will do


class Fallback(StrEnum):
    """Where a prefix goes whose largest probability is under the confidence."""

    NONE = "none"  # to the most probable expert all the same
    GENERALIST = "generalist"
    TOP_2 = "top-2"  # to the two most probable, mixed by their renormalised probabilities
    UNIFORM = "uniform"  # to all experts alike


@dataclass(frozen=True, slots=True)
class PromptRouter:
    """`weight_FE`: float32. `words_V`: which tokens hold letters. `prefix_tokens`: how much of an input is read.

    `ignored`: special tokens, which say nothing of the language. `generalist`: that expert's number, for its fallback.
    """

    weight_FE: torch.Tensor
    words_V: torch.Tensor
    temperature: float
    prefix_tokens: int
    fallback: Fallback = Fallback.NONE
    confidence: float = 0.0
    generalist: int | None = None
    ignored: tuple[int, ...] = ()

    def probabilities(self, prefixes: Sequence[torch.Tensor]) -> torch.Tensor:
        """Each prefix's probability of each expert, shape (N, E), on the CPU. A prefix is 1-d token ids."""
        read = [self._read(prefix)[: self.prefix_tokens] for prefix in prefixes]
        scores_NE = torch.sparse.mm(hashed_bags(read, self.words_V), self.weight_FE)
        return torch.softmax(scores_NE / self.temperature, dim=-1)

    def routes(self, prefixes: Sequence[torch.Tensor]) -> torch.Tensor:
        """Each prefix's weight of each expert, float32, shape (N, E), rows of sum 1: one expert, or the fallback."""
        return self.decide(self.probabilities(prefixes))

    def decide(self, probabilities_NE: torch.Tensor) -> torch.Tensor:
        """The weights (N, E) that the probabilities (N, E) lead to.

        Where all are the same, as for an empty prefix, there are no two most probable: all experts are mixed alike.
        """
        num_experts = probabilities_NE.shape[1]
        sure_NE = functional.one_hot(probabilities_NE.argmax(dim=-1), num_experts).float()
        if self.fallback is Fallback.NONE:
            return sure_NE
        alike_NE = torch.full_like(probabilities_NE, 1 / num_experts)
        if self.fallback is Fallback.GENERALIST:
            assert self.generalist is not None
            unsure_NE = torch.zeros_like(alike_NE)
            unsure_NE[:, self.generalist] = 1
        elif self.fallback is Fallback.TOP_2:
            shares_N2, chosen_N2 = probabilities_NE.topk(2, dim=-1)
            shares_N2 = shares_N2 / shares_N2.sum(dim=-1, keepdim=True)
            unsure_NE = torch.zeros_like(alike_NE).scatter_(1, chosen_N2, shares_N2)
            unsure_NE = torch.where(_says_nothing(probabilities_NE), alike_NE, unsure_NE)
        else:
            unsure_NE = alike_NE
        return torch.where(self.is_sure(probabilities_NE)[:, None], sure_NE, unsure_NE)

    def is_sure(self, probabilities_NE: torch.Tensor) -> torch.Tensor:
        """For which rows the largest probability reaches the confidence, and is larger than another: bool (N)."""
        reached_N = probabilities_NE.amax(dim=-1) >= self.confidence
        return reached_N & ~_says_nothing(probabilities_NE)[:, 0]

    def _read(self, prefix: torch.Tensor) -> torch.Tensor:
        prefix = prefix.cpu()
        return prefix[~torch.isin(prefix, torch.tensor(self.ignored))] if self.ignored else prefix

    def settings(self) -> dict[str, Any]:
        """What of it goes into `routing.json`, under `prompt_router`."""
        return {
            "temperature": self.temperature,
            "prefix_tokens": self.prefix_tokens,
            "fallback": str(self.fallback),
            "confidence": self.confidence,
            "generalist": self.generalist,
            "ignored": list(self.ignored),
        }

    def tensors(self) -> dict[str, torch.Tensor]:
        """What of it goes into `routing.safetensors`."""
        return {"prompt_router.weight": self.weight_FE, "prompt_router.words": self.words_V}

    @classmethod
    def restore(cls, settings: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> PromptRouter:
        """The router that `settings` and `tensors` were written of; settings without a fallback have none.

        Raises KeyError, TypeError or ValueError.
        """
        router = cls(
            tensors["prompt_router.weight"],
            tensors["prompt_router.words"],
            settings["temperature"],
            settings["prefix_tokens"],
            Fallback(settings.get("fallback", "none")),
            float(settings.get("confidence", 0.0)),
            settings.get("generalist"),
            tuple(map(int, settings.get("ignored", ()))),
        )
        if router.fallback is Fallback.GENERALIST and router.generalist not in range(router.weight_FE.shape[1]):
            raise ValueError(f"the generalist is expert {router.generalist} of {router.weight_FE.shape[1]}")
        return router


def _says_nothing(probabilities_NE: torch.Tensor) -> torch.Tensor:
    """Which rows give all experts the same probability: bool (N, 1)."""
    return probabilities_NE.amax(dim=-1, keepdim=True) == probabilities_NE.amin(dim=-1, keepdim=True)


def find_prompt_router(model: str) -> PromptRouter:
    """Reads the sidecar of a folder or hub id. Raises OSError where there is none."""
    from transformers.utils import cached_file

    routing = json.loads(Path(cached_file(model, ROUTING_JSON)).read_text(encoding="utf-8"))
    return PromptRouter.restore(routing["prompt_router"], load_file(cached_file(model, ROUTING_TENSORS)))


def save_prompt_router(folder: Path, experts: Sequence[str], dense_config: Any, router: PromptRouter) -> None:
    """Writes the sidecar into a model's folder."""
    (folder / ROUTING_TENSORS).write_bytes(save(router.tensors(), {"format": "pt"}))  # with any new file's rights
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
