"""How the project's own tools read the benchmark's corpus and say what they remove.

CORPUS is a folder of Parquet files with The Stack's columns and `id`; REMOVED gets the removed ids, one a line.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import daft
import pyarrow.parquet as pq
from daft import DataFrame, DataType, col

from codechoir.data.engine import start

BATCH_BYTES = 12 * 2**20
Batch = Callable[[], DataFrame]


def batches(corpus: Path) -> Iterator[Batch]:
    """The corpus in runs of row groups of about BATCH_BYTES."""
    groups: dict[str, list[int]] = {}
    size = 0
    for path in sorted(corpus.glob("*.parquet")):
        metadata = pq.ParquetFile(path).metadata
        for number in range(metadata.num_row_groups):
            if size >= BATCH_BYTES:
                yield partial(_read, groups)
                groups, size = {}, 0
            groups.setdefault(str(path), []).append(number)
            size += metadata.row_group(number).total_byte_size
    yield partial(_read, groups)


def _read(groups: dict[str, list[int]]) -> DataFrame:
    frame = daft.read_parquet(list(groups), row_groups=list(groups.values()))
    return frame.select(col("id").cast(DataType.string()).alias("rank"), "lang", "content")


def main(task: Callable[[Path, Path], Sequence[str]]) -> None:
    """Runs a task on the arguments CORPUS REMOVED."""
    corpus, removed = Path(sys.argv[1]), Path(sys.argv[2])
    start("native")
    found = task(corpus, removed.with_suffix(".work"))
    removed.write_text("".join(f"{one}\n" for one in sorted(found)))
