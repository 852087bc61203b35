"""Copies and near-duplicates over the whole corpus: what goes in favour of which file that stays.

Goes in: the examined rows. Comes out: verdicts, a row (rank, reason, detail) for each file that goes, and what the
manifest tells about them. Knows of contents only what `near.py` compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import daft
import pyarrow as pa
from daft import DataFrame, DataType, Series, col

from codechoir.artifacts import write_json
from codechoir.data.config import DedupConfig
from codechoir.data.corpus import near
from codechoir.data.corpus.ranks import key_of
from codechoir.data.engine import batch_function, read, store

VERDICT_SCHEMA = pa.schema([("rank", pa.string()), ("reason", pa.string()), ("detail", pa.string())])


def kept_rows(examined: Sequence[Path], *columns: str) -> DataFrame:
    """Those columns of the files that no step has rejected by itself."""
    return read(*examined).where(col("reason").is_null()).select(*columns)


def find_copies(examined: Sequence[Path], work: Path) -> Path:
    """Every file whose content one ranked before it has, in any language: the verdict `duplicate`."""
    folder = work / "copies"
    if not folder.exists():
        copies = copies_of(kept_rows(examined, "rank", "hexsha"))
        key = batch_function(_keys, DataType.string(), rows=4096)
        store(copies.select("rank", daft.lit("duplicate").alias("reason"), key(col("first")).alias("detail")), folder)
    return folder


def copies_of(files: DataFrame) -> DataFrame:
    """Of `files` (rank, hexsha), those whose content one ranked before them has: rank, and that `first` one."""
    first = files.groupby("hexsha").agg(col("rank").min().alias("first"))
    return files.join(first, on="hexsha").where(col("rank") != col("first")).select("rank", "first")


def _keys(ranks: Series) -> pa.Array:
    return pa.array([key_of(rank) for rank in ranks.to_pylist()], pa.string())


def find_near_duplicates(examined: Sequence[Path], copies: Path, work: Path, config: DedupConfig) -> Path:
    """Every file that has to go for a near-duplicate that stays: the verdict `near-duplicate`."""
    folder, figures = work / "near", work / "near.json"
    if not figures.exists():
        signatures = kept_rows(examined, "rank", "bands").join(read(copies).select("rank"), on="rank", how="anti")
        corpus = near.Corpus(
            read(store(signatures, work / "signatures")),
            [partial(kept_rows, [part], "rank", "content") for part in examined],
            work / "comparing",
        )
        resolution = near.resolve(corpus, config)
        rows = [
            {"rank": rank, "reason": "near-duplicate", "detail": f"{key_of(kept)}: Jaccard similarity {similarity:.4f}"}
            for rank, (kept, _, similarity) in sorted(resolution.removed.items())
        ]
        store(daft.from_arrow(pa.Table.from_pylist(rows, VERDICT_SCHEMA)), folder)
        counts = {"compared": resolution.num_pairs, "verified": len(resolution.edges)}
        write_json(figures, {**counts, "removed": len(rows), "crowded_buckets": resolution.num_crowded})
    return folder


def find_clashes(examined: Sequence[Path], verdicts: Sequence[Path], work: Path) -> Path:
    """Of the files that are kept, those whose key one ranked before them has, with another content: their `rank`s."""
    folder = work / "clashes"
    if not folder.exists():
        kept = kept_rows(examined, "rank", "key").join(read(*verdicts).select("rank"), on="rank", how="anti")
        first = kept.groupby("key").agg(col("rank").min().alias("first"), col("rank").count().alias("count"))
        shared = kept.join(first.where(col("count") > 1), on="key")
        store(shared.where(col("rank") != col("first")).select("rank"), folder)
    return folder
