"""From documents to packed sequences, and which branch reads which.

A language's documents, in a seeded order, are tokenised, joined by the separator token and cut into sequences of
equal length. The trunk reads the first of them, mixed over languages; each expert reads its language's next ones; the
universal model reads exactly what all the experts read, mixed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from codechoir.documents import Text, in_seeded_order, in_turn
from codechoir.errors import InputError
from codechoir.train.config import TrainConfig

Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Packed:
    """One language's sequences, shape (sequences, sequence_length), and how often its documents were gone through."""

    tokens: Tokens
    epochs: float


def pack(texts: Sequence[Text], tokenizer: Any, separator: int, config: TrainConfig, num_sequences: int) -> Packed:
    """The first `num_sequences` packed sequences of a language; documents are gone through again when they run out."""
    if not texts:
        raise InputError("no training documents", next_step="run the curate stage with more sources")
    wanted = num_sequences * config.sequence_length
    ordered = in_turn(in_seeded_order(texts, config.seed))  # no large package crowds out the others
    stream: list[int] = []
    num_read = 0
    while len(stream) < wanted:
        stream.append(separator)
        text = ordered[num_read % len(ordered)].content
        stream += tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"][: config.document_tokens]
        num_read += 1
    tokens = np.asarray(stream[:wanted], dtype=np.int64).reshape(num_sequences, config.sequence_length)
    return Packed(tokens, round(num_read / len(ordered), 3))


def trunk_sequences(packed: Mapping[str, Packed], config: TrainConfig) -> Tokens:
    """The trunk's sequences: the first of every language, in turn."""
    return _in_turn([language.tokens[: config.trunk_sequences] for language in packed.values()])


def expert_sequences(packed: Packed, config: TrainConfig) -> Tokens:
    """An expert's sequences: its language's next after the trunk's."""
    return packed.tokens[config.trunk_sequences :][: config.expert_sequences]


def universal_sequences(packed: Mapping[str, Packed], config: TrainConfig) -> Tokens:
    """The universal model's sequences: all that the experts read, the languages in turn."""
    return _in_turn([expert_sequences(language, config) for language in packed.values()])


def _in_turn(blocks: Sequence[Tokens]) -> Tokens:
    """Sequence 0 of every block, then sequence 1 of every block, and so on."""
    stacked: Tokens = np.stack(blocks, axis=1).reshape(-1, blocks[0].shape[1])
    return stacked
