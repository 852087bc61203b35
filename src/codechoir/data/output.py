"""Writes what curation leaves: documents, rejections with their reasons, and the counts that the manifest tells.

Goes in: the examined rows, the verdicts of the corpus-wide steps, and the split. Comes out: `documents/LANG/*.parquet`
(DOCUMENT_SCHEMA), `rejected/*.parquet` (REJECTED_SCHEMA), each batch's rows sorted by key, and facts. Decides nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from daft import DataFrame, DataType, col, lit
from daft.functions import coalesce, when

from codechoir.artifacts import disk_full_told
from codechoir.data.engine import batch_function, frame_of, read
from codechoir.data.files.notice import NoticeEntry
from codechoir.data.selection import left_over
from codechoir.documents import DOCUMENT_SCHEMA, REJECTED_SCHEMA
from codechoir.languages import LANGUAGES, language


@dataclass(frozen=True, slots=True)
class Curated:
    """What all steps have said."""

    examined: Sequence[Path]  # a folder a batch
    verdicts: Sequence[Path]
    clashing: Path  # the ranks of files that share their key with one ranked before them
    held_out: frozenset[str]


def write_outputs(curated: Curated, out: Path) -> None:
    """Writes all documents and rejections anew."""
    for name in ("documents", "rejected"):
        shutil.rmtree(out / name, ignore_errors=True)
    for folder in curated.examined:
        final = _final(folder, curated).collect()
        kept, gone = final.where(col("reason").is_null()), final.where(col("reason").not_null())
        _write(kept.select(*DOCUMENT_SCHEMA.names, "language"), out / "documents", folder.name, by="language")
        _write(gone.with_column("lang", col("language")).select(*REJECTED_SCHEMA.names), out / "rejected", folder.name)


def _final(examined: Path, curated: Curated) -> DataFrame:
    """One batch's files as they end, sorted by key: the columns of both schemas; a kept file has no `reason`."""
    rows = read(examined).with_columns_renamed({"reason": "own_reason", "detail": "own_detail", "key": "own_key"})
    held_out = frame_of("package", sorted(curated.held_out)).with_column("is_held_out", lit(True))
    clashing = read(curated.clashing).with_column("clashes", lit(True))
    rows = rows.join(read(*curated.verdicts), on="rank", how="left").join(clashing, on="rank", how="left")
    rows = rows.join(held_out, on="package", how="left")
    names = {name: language(name).stack_name for name in LANGUAGES}
    stack_name = batch_function(
        lambda ids: pa.array([names[name] for name in ids.to_pylist()], pa.string()), DataType.string(), rows=4096
    )
    return rows.with_columns(
        {
            "key": when(col("clashes").not_null(), then=col("own_key") + lit("#") + col("hexsha")).otherwise(
                col("own_key")
            ),
            "reason": coalesce(col("own_reason"), col("reason")),
            "detail": coalesce(col("own_detail"), col("detail")),
            "split": when(col("is_held_out").not_null(), then=lit("held_out")).otherwise(lit("train")),
            "lang": stack_name(col("language")),
        }
    ).sort("key")


def _write(rows: DataFrame, folder: Path, name: str, by: str | None = None) -> None:
    """Adds the rows as Parquet files named after the batch, in a folder for each value of the column `by`."""
    partial = folder / f".{name}"
    partial.mkdir(parents=True)
    with disk_full_told(folder):
        rows.write_parquet(str(partial.resolve()), compression="zstd", partition_cols=[by] if by else None)
    for number, path in enumerate(sorted(partial.rglob("*.parquet"))):
        home = folder / path.parent.name.removeprefix(f"{by}=") if by else folder
        home.mkdir(exist_ok=True)
        path.rename(home / f"part-{name}-{number:05}.parquet")
    shutil.rmtree(partial)


def facts(curated: Curated, languages: Sequence[str], out: Path) -> dict[str, Any]:
    """What the manifest tells of the documents and rejections that lie below `out`."""
    left = left_over(curated.examined, curated.verdicts, "source", "licence", "doubt", "differs", "num_replaced")
    sources = left.groupby("source", "licence").agg(col("num_replaced").count().alias("documents")).to_pylist()
    doubtful = left.where(col("doubt").not_null()).groupby("doubt").agg(col("doubt").count().alias("count"))
    differing = left.where(col("differs") != "").groupby("differs").agg(col("differs").count().alias("count"))
    return {
        "languages": _by_language(languages, out),
        "rejected": _rejected(languages, out),
        "sources": sorted(
            ({"name": row["source"], "licence": row["licence"], "documents": row["documents"]} for row in sources),
            key=lambda row: (row["name"], row["licence"]),
        ),
        "replaced": left.agg(col("num_replaced").sum()).to_pydict()["num_replaced"][0] or 0,
        "doubtful": {row["doubt"]: row["count"] for row in doubtful.sort("doubt").to_pylist()},
        "differing_columns": {row["differs"]: row["count"] for row in differing.sort("differs").to_pylist()},
    }


def _by_language(languages: Sequence[str], out: Path) -> dict[str, Any]:
    grouped = read(*sorted((out / "documents").glob("*"))).groupby("lang", "package", "split")
    rows = grouped.agg(col("key").count().alias("documents"), col("size").sum().alias("bytes")).to_pylist()
    found = {}
    for name in languages:
        mine = [row for row in rows if row["lang"] == language(name).stack_name]
        sides = {side: _side([row for row in mine if row["split"] == side]) for side in ("train", "held_out")}
        total = {key: sum(side[key] for side in sides.values()) for key in ("documents", "bytes")}
        found[name] = {**total, **sides}
    return found


def _side(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    total = {key: sum(row[key] for row in rows) for key in ("documents", "bytes")}
    return {**total, "packages": sorted(row["package"] for row in rows)}


def _rejected(languages: Sequence[str], out: Path) -> dict[str, dict[str, int]]:
    grouped = read(out / "rejected").groupby("lang", "reason").agg(col("key").count().alias("count"))
    counts: dict[str, dict[str, int]] = {name: {} for name in languages}
    for row in grouped.sort(["lang", "reason"]).to_pylist():
        counts[row["lang"]][row["reason"]] = row["count"]
    return counts


def notice_entries(curated: Curated) -> Iterator[NoticeEntry]:
    """What went in, by package, commit and licence."""
    names = ("package", "max_stars_repo_head_hexsha", "licence", "copyrights")
    left = left_over(curated.examined, curated.verdicts, *names)
    counted = left.groupby(*names[:3]).agg(
        col("copyrights").count("all").alias("files"), col("copyrights").list_agg().alias("lists")
    )
    for row in counted.to_pylist():
        lines = sorted({line for some in row["lists"] for line in some or ()})
        yield NoticeEntry(row["package"], row[names[1]] or "", row["licence"], row["files"], tuple(lines))
