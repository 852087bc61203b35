"""How many near-duplicates the LSH proposes, estimated on a sample: the realised recall by similarity.

Goes in: the examined files without their copies. Comes out: for each interval of exact Jaccard similarity, the pairs
of a sampled file with any file of its language, and those of them that share a band. Precision needs no estimate: a
file goes only for a verified pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from daft import DataFrame, DataType, Series, col

from codechoir.data import kernels
from codechoir.data.config import CurateConfig
from codechoir.data.corpus import near
from codechoir.data.duplicates import kept_rows
from codechoir.data.engine import batch_function, read
from codechoir.data.selection import with_draws

EDGES = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)  # of the intervals, the last closed
_FOUND = DataType.list(DataType.struct({"similarity": DataType.float64(), "proposed": DataType.bool()}))


@dataclass(frozen=True, slots=True)
class _Sample:
    """The sampled files (S), and their distinct shingles (T) in one sorted table."""

    ranks: tuple[str, ...]
    languages: tuple[str, ...]
    bands: tuple[frozenset[int], ...]
    sizes_S: kernels.Offsets
    hashes_T: kernels.Hashes
    owners_T: kernels.Offsets  # which sampled file has the shingle


def estimate_recall(examined: Sequence[Path], copies: Path, config: CurateConfig) -> list[dict[str, Any]]:
    """A row for each interval of similarity: low, high, pairs, proposed. Nothing where no sample is asked for."""
    if not config.dedup.recall_sample:
        return []
    sample = _draw(_compared(examined, copies), config)
    counts = np.zeros((len(EDGES) - 1, 2), np.int64)
    names = ("rank", "language", "bands", "content")
    pairs = batch_function(partial(_pairs, sample, config.dedup.ngram), _FOUND)
    for folder in examined:
        found = _compared([folder], copies).select(pairs(*map(col, names)).alias("found")).explode("found").to_pydict()
        for pair in filter(None, found["found"]):
            interval = min(int(np.searchsorted(EDGES, pair["similarity"], side="right")) - 1, len(EDGES) - 2)
            counts[interval] += (1, pair["proposed"])
    return [
        {"low": low, "high": high, "pairs": int(pairs), "proposed": int(proposed)}
        for low, high, (pairs, proposed) in zip(EDGES, EDGES[1:], counts, strict=False)
    ]


def _compared(examined: Sequence[Path], copies: Path) -> DataFrame:
    """The files that are long enough to be compared, without copies."""
    files = kept_rows(examined, "rank", "key", "language", "bands", "content").where(col("bands").length() > 0)
    return files.join(read(copies).select("rank"), on="rank", how="anti")


def _draw(files: DataFrame, config: CurateConfig) -> _Sample:
    chosen = (
        with_draws(files, config.seed)
        .select("draw", "rank")
        .sort(["draw", "rank"])
        .limit(config.dedup.recall_sample)
        .select("rank")
    )
    rows = files.join(chosen, on="rank").select("rank", "language", "bands", "content").sort("rank").to_pylist()
    shingles = near.shingle(pa.array([row["content"] for row in rows], pa.large_string()), config.dedup.ngram)
    hashes_T, bounds_S = kernels.distinct_rows(shingles.hashes_T, shingles.bounds_R)
    order = np.argsort(hashes_T, kind="stable")
    return _Sample(
        tuple(row["rank"] for row in rows),
        tuple(row["language"] for row in rows),
        tuple(frozenset(row["bands"]) for row in rows),
        np.diff(bounds_S),
        hashes_T[order],
        np.repeat(np.arange(len(rows)), np.diff(bounds_S))[order],
    )


def _pairs(
    sample: _Sample, ngram: int, ranks: Series, languages: Series, bands: Series, contents: Series
) -> list[list[dict[str, Any]]]:
    """For each file, the sampled files of its language that are at least half like it."""
    shingles = near.shingle(contents.to_arrow(), ngram)
    hashes_T, bounds_R = kernels.distinct_rows(shingles.hashes_T, shingles.bounds_R)
    shared_RS = _shared(sample, hashes_T, bounds_R)
    union_RS = np.diff(bounds_R)[:, None] + sample.sizes_S - shared_RS
    similarity_RS = shared_RS / np.maximum(union_RS, 1)
    found: list[list[dict[str, Any]]] = []
    columns = (ranks.to_pylist(), languages.to_pylist(), bands.to_pylist())
    for row, (rank, language, mine) in enumerate(zip(*columns, strict=True)):
        like = np.flatnonzero(similarity_RS[row] >= EDGES[0])
        found.append(
            [
                {"similarity": float(similarity_RS[row, other]), "proposed": not sample.bands[other].isdisjoint(mine)}
                for other in like
                if sample.ranks[other] != rank and sample.languages[other] == language
            ]
        )
    return found


def _shared(sample: _Sample, hashes_T: kernels.Hashes, bounds_R: kernels.Offsets) -> npt.NDArray[np.int64]:
    """The number of shingles that each row has in common with each sampled file, [rows, sampled files]."""
    num_rows, num_sampled = bounds_R.size - 1, len(sample.ranks)
    first = np.searchsorted(sample.hashes_T, hashes_T, side="left")
    count = np.searchsorted(sample.hashes_T, hashes_T, side="right") - first
    rows = np.repeat(np.repeat(np.arange(num_rows), np.diff(bounds_R)), count)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    owners = sample.owners_T[np.repeat(first, count) + within]
    return np.bincount(rows * num_sampled + owners, minlength=num_rows * num_sampled).reshape(num_rows, num_sampled)
