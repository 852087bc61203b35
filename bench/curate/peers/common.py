"""What the peers' scripts share: the corpus' columns, the filters, the shingles, and how removals are told.

Runs in each peer's own environment: the standard library, and pyarrow where rows are read; nothing of the project.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

WORKERS = 2
BATCH_ROWS = 1000

MAX_MEAN_LINE = 100
MAX_LINE = 1000
MIN_ALPHANUM = 0.25
FIRST_LINES = 5
MARKER = r"(?i)auto-?generated|automatically generated|@generated|code generated .*do not edit"

NGRAM = 5
THRESHOLD = 0.7
BANDS, BAND_ROWS = 25, 10  # of 250 permutations: The Stack v2's
NUM_PERM = BANDS * BAND_ROWS
TOKEN = re.compile(r"\w+")

_MARKER = re.compile(MARKER)


def batches(folder: Path) -> Iterator[tuple[list[int], list[str]]]:
    """Ids and contents of a corpus, BATCH_ROWS at a time."""
    import pyarrow.parquet as pq

    for path in sorted(folder.glob("*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(BATCH_ROWS, columns=["id", "content"]):
            yield batch["id"].to_pylist(), batch["content"].to_pylist()


def shingles(content: str) -> list[str]:
    """The 5-grams of lower-cased tokens, joined by spaces; the whole text where it has fewer tokens."""
    tokens = TOKEN.findall(content.lower())
    if len(tokens) < NGRAM:
        return [" ".join(tokens)] if tokens else []
    return list(map(" ".join, zip(*(tokens[place:] for place in range(NGRAM)), strict=False)))


def write_removed(path: Path, ids: Iterable[int]) -> None:
    """One id a line, ascending."""
    path.write_text("".join(f"{number}\n" for number in sorted(ids)))


def passes(content: str) -> bool:
    """The brief's four filters; an empty file passes, having nothing too long and no letters to count."""
    lines = content.split("\n")
    if len(content) - len(lines) + 1 > MAX_MEAN_LINE * len(lines) or max(map(len, lines)) > MAX_LINE:
        return False
    if sum(map(str.isalnum, content)) < MIN_ALPHANUM * len(content):
        return False
    return _MARKER.search("\n".join(lines[:FIRST_LINES])) is None
