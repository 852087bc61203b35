"""A language's packed sequences on disk, read as memory maps: a finished folder with two arrays. Knows no tokenizer.

Shapes: N sequences of T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from codechoir.artifacts import read_manifest

TOKENS, POSITIONS = "tokens.npy", "positions.npy"


@dataclass(frozen=True, slots=True)
class TokenShard:
    """One language's packed sequences, memory-mapped, shape (N, T), in the smallest format that holds them.

    A position is a token's place within its document; position 0 is a document's first token (the separator), or the
    first after a cut. `epochs` tells how often the documents were gone through, `num_infillings` how many documents or
    parts of them are infillings, `num_bytes` the UTF-8 bytes of text.
    """

    tokens_NT: npt.NDArray[Any]
    positions_NT: npt.NDArray[Any]
    num_documents: int
    num_infillings: int
    epochs: float
    num_bytes: int


def open_token_shard(folder: Path) -> TokenShard:
    """A finished shard. Raises InputError where it is not finished."""
    facts = read_manifest(folder).facts
    tokens_NT, positions_NT = (np.load(folder / name, mmap_mode="r") for name in (TOKENS, POSITIONS))
    return TokenShard(
        tokens_NT,
        positions_NT,
        num_documents=facts["num_documents"],
        num_infillings=facts["num_infillings"],
        epochs=facts["epochs"],
        num_bytes=facts["num_bytes"],
    )


@dataclass(frozen=True, slots=True)
class LeftSequences:
    """What training has left of its sequences: by language the first row that no expert has read, and the shards.

    `shards` opens them, and makes those anew that are not there.
    """

    first: Mapping[str, int]
    shards: Callable[[], Mapping[str, TokenShard]]
