"""The text that a composed model is tuned on: sequences of each language, some set aside for validation.

Drawn from curate's training documents, or what training has left of its own packed sequences: these the universal model
has read as well. Held-out documents are never read. Shapes: N sequences of T tokens, B of them in a batch.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch.nn import functional

from codechoir.compose.config import TuneConfig
from codechoir.compose.texts import sequences_of
from codechoir.compose.tuning.objective import NO_TARGET
from codechoir.console import say
from codechoir.documents import in_turn, read_texts
from codechoir.errors import InputError
from codechoir.model.packed_attention import document_ends
from codechoir.model.token_shards import LeftSequences


@dataclass(frozen=True, slots=True)
class Sequences:
    """Token ids (N, T), and their positions within documents; None where each sequence is read as one."""

    tokens_NT: torch.Tensor
    positions_NT: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.tokens_NT)

    def part(self, rows: slice | torch.Tensor) -> Self:
        """Some of them."""
        return type(self)(self.tokens_NT[rows], None if self.positions_NT is None else self.positions_NT[rows])

    def split(self, size: int) -> Iterator[Self]:
        """All of them, at most `size` at a time."""
        return (self.part(slice(start, start + size)) for start in range(0, len(self), size))

    def to(self, device: torch.device) -> Self:
        """The same as the model takes them, in int64 on its device."""
        positions = None if self.positions_NT is None else self.positions_NT.to(device, torch.int64)
        return type(self)(self.tokens_NT.to(device, torch.int64), positions)

    def told(self, model: Any) -> dict[str, Any]:
        """What a model is called with: packed attention, or else positions that begin anew, keep documents apart."""
        if self.positions_NT is None:
            return {"input_ids": self.tokens_NT, "use_cache": False}
        positions = {"position_ids": self.positions_NT} | document_ends(model, self.positions_NT)
        return {"input_ids": self.tokens_NT, "use_cache": False} | positions

    def targets(self) -> torch.Tensor:
        """Each place's next token (N, T): NO_TARGET at a sequence's end, and where the next one begins a document."""
        targets_NT = functional.pad(self.tokens_NT[:, 1:], (0, 1), value=NO_TARGET)
        if self.positions_NT is not None:
            targets_NT[:, :-1].masked_fill_(self.positions_NT[:, 1:] == 0, NO_TARGET)
        return targets_NT


@dataclass(frozen=True, slots=True)
class TuneTexts:
    """Sequences by language; the same number validates each language, and tuning reads none of these."""

    validation: Mapping[str, Sequences]
    training: Mapping[str, Sequences]

    @property
    def are_packed(self) -> bool:
        """Whether sequences hold documents that are to be kept apart."""
        return any(each.positions_NT is not None for each in self.training.values())

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages, in the experts' order."""
        return tuple(self.training)

    def batch(self, start: int, stop: int) -> Sequences:
        """Sequences `start` to `stop` of each language, one language after the other; the first follows the last."""
        rows_N = torch.arange(start, stop)
        rows = [each.part(rows_N % len(each)) for each in self.training.values()]
        positions = [row.positions_NT for row in rows if row.positions_NT is not None]
        return Sequences(torch.cat([row.tokens_NT for row in rows]), torch.cat(positions) if positions else None)


def read_tune_texts(documents: Path, languages: Sequence[str], tokenizer: Any, config: TuneConfig) -> TuneTexts:
    """Draws from curate's documents. Raises InputError where a language has none or too few.

    Which documents validate is by the seed alone; their order is another than that of training and of the routers'
    fit, so that what these read first is not what validates. No document is in both.
    """
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
        validation[name] = Sequences(torch.stack(found[: config.validation_sequences]))
        training[name] = Sequences(torch.stack(found[config.validation_sequences :]))
    return TuneTexts(validation, training)


def read_left(left: LeftSequences, languages: Sequence[str], config: TuneConfig) -> TuneTexts:
    """What training has left: steps read as many rows as they need, in order; those after validate.

    Where documents were too few for all rows these are of documents that were read before, which is told.
    """
    validation, training = {}, {}
    shards = left.shards()
    for name in languages:
        shard, first = shards[name], left.first[name]
        last = first + config.steps * config.sequences_per_language
        end = last + config.validation_sequences
        assert shard.tokens_NT.shape[0] >= end and shard.tokens_NT.shape[1] == config.sequence_length
        if shard.epochs > 1:
            say(f"tune: {name} has {shard.epochs:.2g} times less text than is read: what validates has been trained on")
        both = (shard.tokens_NT[first:end], shard.positions_NT[first:end])
        found = Sequences(*(torch.from_numpy(np.array(each)) for each in both))
        training[name], validation[name] = found.part(slice(last - first)), found.part(slice(last - first, None))
    return TuneTexts(validation, training)
