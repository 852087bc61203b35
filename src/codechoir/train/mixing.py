"""Which packed sequence of which language is at which place of a branch's reading.

The trunk reads the first sequences of every language, mixed by their weights; each expert reads its language's next
ones; where the composed model's experts are tuned, tuning reads those after. The universal model reads exactly what all
the experts and tuning read, mixed. An order is a table of rows that depends on
counts alone: not on where a run carries on, nor on how many processes share it. Shapes: N sequences of T tokens, B of
them in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from codechoir.errors import ConfigError
from codechoir.model.token_shards import TokenShard
from codechoir.train.config import NOT_TUNED, TrainConfig, Tuning


@dataclass(frozen=True, slots=True)
class Order:
    """Row n of a branch is row `index_N[n]` of the shard of `languages[language_N[n]]`."""

    languages: tuple[str, ...]
    language_N: npt.NDArray[np.int32]
    index_N: npt.NDArray[np.int64]


def mixed(rows: Mapping[str, range]) -> Order:
    """Rows of several languages, each language's in order and spread evenly over the whole; equal counts take turns."""
    languages = tuple(rows)
    language_N = np.concatenate([np.full(len(some), number, np.int32) for number, some in enumerate(rows.values())])
    index_N = np.concatenate([np.asarray(some, dtype=np.int64) for some in rows.values()])
    place_N = np.concatenate([(np.arange(len(some)) + 0.5) / max(len(some), 1) for some in rows.values()])
    order_N = np.lexsort((language_N, place_N))
    return Order(languages, language_N[order_N], index_N[order_N])


@dataclass(frozen=True, slots=True)
class Arms:
    """How many sequences each branch reads: the trunk's by language, every expert's, and tuning's."""

    trunk: Mapping[str, int]
    expert: int
    tuning: Tuning = NOT_TUNED

    def num_sequences(self, language: str) -> int:
        """The sequences that a language's shard must have."""
        return self.first_tuned(language) + self.tuning.sequences + self.tuning.validation

    def first_tuned(self, language: str) -> int:
        """The shard's first sequence after the experts'."""
        return self.trunk[language] + self.expert

    def trunk_order(self) -> Order:
        """The trunk's: the first of every language."""
        return mixed({name: range(count) for name, count in self.trunk.items()})

    def expert_order(self, language: str) -> Order:
        """An expert's: its language's next after the trunk's."""
        return mixed({language: range(self.trunk[language], self.first_tuned(language))})

    def universal_order(self) -> Order:
        """The universal model's: all that the experts and tuning read."""
        num_tuned = self.tuning.sequences
        return mixed({name: range(first, self.first_tuned(name) + num_tuned) for name, first in self.trunk.items()})


def arms(languages: Sequence[str], config: TrainConfig, tuning: Tuning = NOT_TUNED) -> Arms:
    """What each branch reads. Raises ConfigError where a weight's language is not trained.

    The weights of `mixing` share out the trunk's sequences, as many in all as with equal weights, by largest
    remainders; of equal remainders the earlier language's goes first.
    """
    unknown = sorted(set(config.mixing) - set(languages))
    if unknown:
        raise ConfigError("a weight of a language that is not trained", seen=unknown[0], allowed=", ".join(languages))
    total = config.trunk_sequences * len(languages)
    weights = [config.mixing.get(name, 1.0) for name in languages]
    scale = math.frexp(max(weights))[1]
    weights = [math.ldexp(weight, -scale) for weight in weights]  # the sum of huge ones would be no number
    exact = [total * weight / sum(weights) for weight in weights]
    counts = [int(share) for share in exact]
    by_remainder = sorted(range(len(languages)), key=lambda number: counts[number] - exact[number])
    for number in by_remainder[: total - sum(counts)]:
        counts[number] += 1
    return Arms(dict(zip(languages, counts, strict=True)), config.expert_sequences, tuning)


@dataclass(frozen=True, slots=True)
class Batch:
    """Some packed sequences as the model takes them: int64, shape (B, T), and each one's number in the languages."""

    tokens_BT: torch.Tensor
    positions_BT: torch.Tensor
    language_B: torch.Tensor


@dataclass(frozen=True, slots=True)
class ShardSequences:
    """A branch's sequences: read from the shards as they are asked for, in the order's order."""

    order: Order
    shards: Mapping[str, TokenShard]

    def __len__(self) -> int:
        return len(self.order.index_N)

    def batch(self, rows: slice | npt.NDArray[Any]) -> Batch:
        """The sequences of `rows`, by their numbers in the branch."""
        language_B, index_B = self.order.language_N[rows], self.order.index_N[rows]
        length = next(iter(self.shards.values())).tokens_NT.shape[1]
        tokens_BT, positions_BT = (np.empty((len(index_B), length), np.int64) for _ in range(2))
        for number, name in enumerate(self.order.languages):
            here_B = language_B == number
            tokens_BT[here_B] = self.shards[name].tokens_NT[index_B[here_B]]
            positions_BT[here_B] = self.shards[name].positions_NT[index_B[here_B]]
        return Batch(
            torch.from_numpy(tokens_BT), torch.from_numpy(positions_BT), torch.from_numpy(language_B.astype(np.int64))
        )
