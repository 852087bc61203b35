"""Packed sequences as the training loop reads them: by row, tokens with their positions within documents.

Shapes: N sequences of T tokens, B of them in a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch


class Batch(Protocol):
    """Some packed sequences; integers of shape (B, T)."""

    @property
    def tokens_BT(self) -> torch.Tensor: ...  # noqa: N802

    @property
    def positions_BT(self) -> torch.Tensor: ...  # noqa: N802


class Sequences(Protocol):
    """A branch's packed sequences, in order."""

    def __len__(self) -> int: ...

    def batch(self, rows: slice) -> Batch: ...


@dataclass(frozen=True, slots=True)
class Rows:
    """A batch."""

    tokens_BT: torch.Tensor
    positions_BT: torch.Tensor


@dataclass(frozen=True, slots=True)
class ArraySequences:
    """Sequences that lie in memory; a document begins at each separator, and with each sequence."""

    tokens_NT: npt.NDArray[np.int64]
    separator: int

    def __len__(self) -> int:
        return len(self.tokens_NT)

    def batch(self, rows: slice) -> Rows:
        """The sequences of `rows`."""
        tokens_BT = self.tokens_NT[rows]
        columns_T = np.arange(tokens_BT.shape[1])
        starts_BT = np.maximum.accumulate(np.where(tokens_BT == self.separator, columns_T, 0), axis=1)
        return Rows(torch.from_numpy(tokens_BT), torch.from_numpy(columns_T - starts_BT))


@dataclass(frozen=True, slots=True)
class First:
    """The first `count` of other sequences."""

    whole: Sequences
    count: int

    def __len__(self) -> int:
        return min(self.count, len(self.whole))

    def batch(self, rows: slice) -> Batch:
        """The sequences of `rows`."""
        return self.whole.batch(slice(rows.start, min(rows.stop, self.count)))
