"""The one pass over contents: each file is judged by itself, cleaned and measured.

Goes in: gathered rows (GATHERED_SCHEMA). Comes out: the same files with the columns EXAMINED, where a rejected file
has `reason` and `detail` and no content, and a kept one its content with secrets replaced, its recomputed columns,
its rank and its LSH bands. The steps, in order: reading, licence, the source's flags, filters, benchmarks, secrets.
Knows no second file: duplicates and the split come later.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from daft import DataFrame, DataType, Series, col

from codechoir.data.config import CurateConfig
from codechoir.data.corpus import near
from codechoir.data.corpus.ranks import Preference, rank
from codechoir.data.engine import batch_function
from codechoir.data.files.columns import Measures, git_blob_id, measure_all
from codechoir.data.files.contamination import Benchmarks
from codechoir.data.files.filters import decisions as filter_decisions
from codechoir.data.files.licences import LicenceDecision, LicensedFile, decide
from codechoir.data.files.notice import copyright_lines
from codechoir.data.files.rejection import Decision, FileText, Rejection
from codechoir.data.files.secrets import redact
from codechoir.documents import EVENT_COLUMNS
from codechoir.languages import language

_EVENTS = tuple(name for name, _ in EVENT_COLUMNS)
_STORED = ("size", "avg_line_length", "max_line_length", "alphanum_fraction", "hexsha")
_STORED_TOLERANCE = 1e-4  # relative: some copies of The Stack hold figures rounded to three digits or in 32 bits

# What `examine` computes; the event columns, `key`, `package` and `language` pass through.
_COMPUTED = {
    "reason": DataType.string(),  # null: kept
    "detail": DataType.string(),
    "rank": DataType.string(),
    "licence": DataType.string(),
    "content": DataType.string(),
    "ext": DataType.string(),
    "size": DataType.int64(),
    "avg_line_length": DataType.float64(),
    "max_line_length": DataType.int64(),
    "alphanum_fraction": DataType.float64(),
    "hexsha": DataType.string(),
    "differs": DataType.string(),  # the stored columns that are not what the content says; empty: none, or none stored
    "copyrights": DataType.list(DataType.string()),
    "num_replaced": DataType.int64(),
    "num_tokens": DataType.int64(),
    "bands": DataType.list(DataType.uint64()),
}
EXAMINED = (*_COMPUTED, "source", "key", "package", "path", "language", "doubt", *_EVENTS)


@dataclass(frozen=True, slots=True)
class Steps:
    """What a file goes through; what it needs beside the config."""

    config: CurateConfig
    benchmarks: Benchmarks


@dataclass(frozen=True, slots=True)
class Gathered:
    """What the steps read of one gathered row."""

    key: str
    package: str
    path: str
    language: str  # Language.id
    licences: Sequence[str] | None
    is_vendor: bool | None
    is_generated: bool | None
    damage: str | None
    source: str
    max_stars_count: int | None
    max_stars_repo_head_hexsha: str | None
    max_forks_count: int | None
    max_issues_count: int | None
    content: str | None


_READ = tuple(field.name for field in fields(Gathered))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of one file by itself."""

    rejection: Rejection | None
    licence: LicenceDecision | None  # None where the file could not be read
    content: str | None  # cleaned; None where it is rejected
    num_replaced: int


def examine(gathered: DataFrame, steps: Steps) -> DataFrame:
    """The files of `gathered` with what the steps say of each: the columns of EXAMINED."""
    names = (*_READ, *(f"stored_{name}" for name in _STORED))

    def run(*columns: Series) -> pa.Array:
        return examine_rows(dict(zip(names, (column.to_arrow() for column in columns), strict=True)), steps)

    found = batch_function(run, DataType.struct(_COMPUTED))(*map(col, names))
    passed = [name for name in EXAMINED if name not in _COMPUTED]
    judged = gathered.select(*passed, found.alias("found"))
    return judged.select(*(col("found").get(name).alias(name) if name in _COMPUTED else name for name in EXAMINED))


def examine_rows(columns: Mapping[str, pa.Array], steps: Steps) -> pa.Array:
    """The computed columns of some rows, as structs; `columns` are those of GATHERED_SCHEMA that are read here."""
    rows = list(map(Gathered, *(columns[name].to_pylist() for name in _READ)))
    measured = measure_all(columns["content"])
    outcomes = [judge(row, measures, steps) for row, measures in zip(rows, measured, strict=True)]
    cleaned = pa.array([outcome.content for outcome in outcomes], pa.large_string())
    final = measured if not any(outcome.num_replaced for outcome in outcomes) else measure_all(cleaned)
    languages = pa.array([row.language for row in rows])
    lists, num_tokens = near.bands(cleaned, languages, steps.config.dedup)
    ids = [None if outcome.content is None else git_blob_id(outcome.content.encode()) for outcome in outcomes]
    found: dict[str, Any] = {
        "reason": [outcome.rejection and outcome.rejection.reason for outcome in outcomes],
        "detail": [outcome.rejection and outcome.rejection.detail for outcome in outcomes],
        "rank": [_rank(row, outcome, sha) for row, outcome, sha in zip(rows, outcomes, ids, strict=True)],
        "licence": [outcome.licence and outcome.licence.licence for outcome in outcomes],
        "content": cleaned,
        "ext": [PurePosixPath(row.path).suffix.removeprefix(".") for row in rows],
        **{name: [getattr(measures, name) for measures in final] for name in _STORED if name != "hexsha"},
        "hexsha": ids,
        "differs": _differing(columns, rows, measured),
        "copyrights": [copyright_lines(outcome.content) if outcome.content else [] for outcome in outcomes],
        "num_replaced": [outcome.num_replaced for outcome in outcomes],
        "num_tokens": num_tokens,
        "bands": lists,
    }
    arrays = [pa.array(found[name]) if isinstance(found[name], np.ndarray) else found[name] for name in _COMPUTED]
    types = [kind.to_arrow_dtype() for kind in _COMPUTED.values()]
    return pa.StructArray.from_arrays(
        [
            pa.array(values, kind) if isinstance(values, list) else values.cast(kind)
            for values, kind in zip(arrays, types, strict=True)
        ],
        list(_COMPUTED),
    )


def judge(row: Gathered, measures: Measures, steps: Steps) -> Outcome:
    """What becomes of a file: the first rejection that a step gives, else its cleaned content."""
    licence = _licence(row, steps) if row.content is not None else None
    for decision in decisions(row, measures, steps, licence):
        if decision.rejection is not None:
            return Outcome(decision.rejection, licence, None, 0)
    assert row.content is not None
    redaction = redact(row.content, language(row.language), steps.config.secrets)
    return Outcome(None, licence, redaction.content, len(redaction.findings))


def decisions(
    row: Gathered, measures: Measures, steps: Steps, licence: LicenceDecision | None = None
) -> Iterator[Decision]:
    """What each step says of a file, lazily and in order; after a rejection the later ones may still be asked."""
    if row.content is None:
        reason, _, detail = (row.damage or "no-content: null").partition(": ")
        yield Decision("read", Rejection(reason, detail), detail)
        return
    yield Decision("read", None, f"{measures.size} bytes of UTF-8, {row.language}")
    licence = licence or _licence(row, steps)
    yield Decision("licence", licence.rejection, licence.detail)
    yield from _flags(row, steps)
    file = FileText(row.path, language(row.language), row.content)
    yield from filter_decisions(file, measures, steps.config.filters)
    match = steps.benchmarks.match(row.content)
    found = match.rejection() if match else None
    yield Decision("benchmarks", found, found.detail if found else "no problem of theirs in it")


def _licence(row: Gathered, steps: Steps) -> LicenceDecision:
    assert row.content is not None
    file = LicensedFile(row.key, row.package, row.path, row.content)
    return decide(file, row.licences or (), steps.config.licences)


def _flags(row: Gathered, steps: Steps) -> Iterator[Decision]:
    """What The Stack v2 says of a file beside its content."""
    filters = steps.config.filters
    for name, flag, reason, wanted in (
        ("is_generated", row.is_generated, "auto-generated", filters.auto_generated),
        ("is_vendor", row.is_vendor, "vendored", filters.vendored),
    ):
        if flag is not None:
            rejection = Rejection(reason, f"the source's {name}") if flag and wanted else None
            yield Decision(name, rejection, f"the source says {str(flag).lower()}")


def _rank(row: Gathered, outcome: Outcome, hexsha: str | None) -> str | None:
    """The place of a kept file in the order of preference."""
    if outcome.licence is None or hexsha is None:
        return None
    rest = (row.source, row.max_stars_repo_head_hexsha, row.max_forks_count, row.max_issues_count)
    return rank(Preference(outcome.licence.rating, row.max_stars_count or 0, row.key, hexsha), rest)


def _differing(columns: Mapping[str, pa.Array], rows: Sequence[Gathered], measured: Sequence[Measures]) -> list[str]:
    """For each row the names of the stored columns that differ from what its content, as it was read, says."""
    stored = {name: columns[f"stored_{name}"] for name in _STORED}
    present = {name: values.to_pylist() for name, values in stored.items() if values.null_count < len(values)}
    found = []
    for number, (row, measures) in enumerate(zip(rows, measured, strict=True)):
        differing = []
        for name, values in present.items():
            was = values[number]
            if was is None or row.content is None:
                continue
            if name == "hexsha":
                same = was == git_blob_id(row.content.encode())
            else:
                same = math.isclose(was, getattr(measures, name), rel_tol=_STORED_TOLERANCE)
            if not same:
                differing.append(name)
        found.append(" ".join(differing))
    return found
