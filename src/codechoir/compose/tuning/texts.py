"""The text that a composed model is tuned on: each language's training documents, some set aside for validation.

Held-out documents are never read. Which documents validate is by the seed alone; their order is another than that of
training and of the routers' fit, so that what these read first is not what validates.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from codechoir.compose.config import TuneConfig
from codechoir.compose.texts import sequences_of
from codechoir.documents import in_turn, read_texts
from codechoir.errors import InputError


@dataclass(frozen=True, slots=True)
class TuneTexts:
    """Token ids (N, T) by language. No document is in both; the same number of sequences validates each language."""

    validation: Mapping[str, torch.Tensor]
    training: Mapping[str, torch.Tensor]

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages, in the experts' order."""
        return tuple(self.training)

    def batch(self, number: int) -> torch.Tensor:
        """The forward pass `number`: one sequence of each language, (languages, T); all are gone through in turn."""
        return torch.stack([tokens_NT[number % len(tokens_NT)] for tokens_NT in self.training.values()])


def read_tune_texts(documents: Path, languages: Sequence[str], tokenizer: Any, config: TuneConfig) -> TuneTexts:
    """Reads curate's documents. Raises InputError where a language has none or too few."""
    validation, training = {}, {}
    wanted = config.validation_sequences + config.steps * config.sequences_per_language
    for name in languages:
        texts = read_texts(documents, name, "train")
        random.Random(f"tune {config.seed}").shuffle(texts)
        found = list(islice(sequences_of(in_turn(texts), tokenizer, config.sequence_length), wanted))
        if len(found) <= config.validation_sequences:
            raise InputError(
                "too little text to tune on",
                seen=f"{name}: {len(texts)} documents, {len(found)} sequences of {config.sequence_length} tokens",
                allowed=f"at least {config.validation_sequences + 1} sequences: {config.validation_sequences} validate",
                next_step="curate more, or lower sequence_length or validation_sequences",
            )
        validation[name] = torch.stack(found[: config.validation_sequences])
        training[name] = torch.stack(found[config.validation_sequences :])
    return TuneTexts(validation, training)
