"""What the tests of training share: packed sequences made from arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
import torch


@dataclass(frozen=True)
class Packed:
    tokens_BT: torch.Tensor
    positions_BT: torch.Tensor


class Rows:
    """Packed sequences of arrays; without positions each sequence is one document."""

    def __init__(self, tokens_NT: npt.NDArray[np.int64], positions_NT: npt.NDArray[np.int64] | None = None) -> None:
        self.tokens = torch.from_numpy(np.asarray(tokens_NT, dtype=np.int64))
        whole = torch.arange(self.tokens.shape[1]).expand_as(self.tokens)
        self.positions = whole if positions_NT is None else torch.from_numpy(positions_NT)

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, rows: slice) -> Packed:
        return Packed(self.tokens[rows], self.positions[rows])


@pytest.fixture(scope="session")
def packed() -> type[Rows]:
    """Makes packed sequences of arrays."""
    return Rows
