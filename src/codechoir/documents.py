"""Documents: source files as rows with The Stack's columns, in Parquet.

Owns the schema, the reader and the writer that the stages share. Our own columns follow The Stack's: `key` (unique),
`package` (what the split goes by) and `split`. Files lie in one folder a language, `documents/LANG/*.parquet`; the
folder is not named `lang=LANG`, since a hive key would collide with The Stack's own `lang` column.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from codechoir.artifacts import write_atomically
from codechoir.config import digest_of
from codechoir.errors import InputError

STREAM_ROWS = 1000

EVENT_COLUMNS = tuple(
    (f"{event}_{suffix}", kind)
    for event in ("max_stars", "max_forks", "max_issues")
    for suffix, kind in (
        ("repo_path", pa.string()),
        ("repo_name", pa.string()),
        ("repo_head_hexsha", pa.string()),
        ("repo_licenses", pa.list_(pa.string())),
        ("count", pa.int64()),
    )
)

STACK_SCHEMA = pa.schema(
    [
        ("content", pa.string()),
        ("size", pa.int64()),
        ("lang", pa.string()),
        ("ext", pa.string()),
        ("avg_line_length", pa.float64()),
        ("max_line_length", pa.int64()),
        ("alphanum_fraction", pa.float64()),
        ("hexsha", pa.string()),
        *EVENT_COLUMNS,
    ]
)
DOCUMENT_SCHEMA = pa.schema([*STACK_SCHEMA, ("key", pa.string()), ("package", pa.string()), ("split", pa.string())])
REJECTED_SCHEMA = pa.schema(
    [("key", pa.string()), ("lang", pa.string()), ("reason", pa.string()), ("detail", pa.string())]
)


@dataclass(frozen=True, slots=True)
class Text:
    """The part of a document that models read."""

    key: str
    package: str
    content: str


class Listed(Protocol):
    """What the order of documents goes by."""

    @property
    def key(self) -> str: ...

    @property
    def package(self) -> str: ...


ListedT = TypeVar("ListedT", bound=Listed)


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """One Parquet file. Raises InputError where it is missing, truncated or lacks a column."""
    with _damage_told(path):
        return _open(path, columns).read(columns=list(columns) if columns else None)


def stream_parquet(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The same rows, STREAM_ROWS at a time, for files that are larger than memory."""
    with _damage_told(path):
        yield from _open(path, columns).iter_batches(STREAM_ROWS, columns=list(columns) if columns else None)


def parquet_columns(path: Path) -> list[str]:
    """The names of a Parquet file's columns. Raises InputError where it is missing or truncated."""
    with _damage_told(path):
        return list(_open(path, None).schema_arrow.names)


def _open(path: Path, columns: Sequence[str] | None) -> pq.ParquetFile:
    file = pq.ParquetFile(path)
    missing = sorted(set(columns or ()) - set(file.schema_arrow.names))
    if missing:
        raise InputError(
            "the Parquet file lacks columns",
            seen=f"{path}: {', '.join(missing)}",
            allowed="The Stack's columns: " + ", ".join(STACK_SCHEMA.names),
        )
    return file


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise InputError("no such file", seen=path) from None
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            "the Parquet file is damaged",
            seen=f"{path}: {str(error).splitlines()[0]}",
            next_step="write or download it again",
        ) from None


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Writes rows as one Parquet file (zstd), whole or not at all."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), sink, compression="zstd")
    write_atomically(path, sink.getvalue().to_pybytes())


def read_texts(documents: Path, language: str, split: str) -> list[Text]:
    """The texts of one language and split, ordered by key. `documents` is curate's folder of that name."""
    return sorted(stream_texts(documents, language, split), key=lambda text: text.key)


def stream_texts(documents: Path, language: str, split: str) -> Iterator[Text]:
    """The same texts in no order that is kept, for corpora that are larger than memory."""
    folder = documents / language
    if not folder.is_dir():
        raise InputError("no documents of this language", seen=folder, next_step="run the curate stage")
    for path in sorted(folder.glob("*.parquet")):
        for batch in stream_parquet(path, ("key", "package", "content", "split")):
            for row in batch.to_pylist():
                if row["split"] == split:
                    yield Text(row["key"], row["package"], row["content"])


def in_seeded_order(texts: Sequence[ListedT], seed: int | str) -> list[ListedT]:
    """The texts in an order that the seed and each text's key fix, whatever other texts there are."""
    return sorted(texts, key=lambda text: hashlib.sha256(f"{seed}:{text.key}".encode()).digest())


def in_turn(texts: Sequence[ListedT]) -> list[ListedT]:
    """The texts in turn from each package, packages by name; within a package their order stays."""
    by_package: dict[str, list[ListedT]] = {}
    for text in texts:
        by_package.setdefault(text.package, []).append(text)
    packages = [by_package[name] for name in sorted(by_package)]
    return [text for turn in zip_longest(*packages) for text in turn if text is not None]


def rows_digest(paths: Sequence[Path]) -> str:
    """A digest of Parquet files by their rows, whatever the files' names and order."""
    return digest_of(sorted(digest_of(row) for path in paths for row in _rows(path)))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for batch in stream_parquet(path):
        yield from batch.to_pylist()
