"""Where a table's files lie, on disk or at a url, and in which pieces they are read.

Owns the listing, the reading of footers, and the storage's settings. Knows forms of tables by their columns alone.
Local Parquet is planned by row groups; a file at a url is one piece, and is taken to have the first file's columns.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import daft
import pyarrow.parquet as pq
from daft import DataType
from daft.io import HuggingFaceConfig, IOConfig, S3Config

from codechoir.data.config import TableSource
from codechoir.data.sources.table_errors import file_told
from codechoir.data.sources.table_schemas import Form, form_of, present
from codechoir.errors import ConfigError, InputError
from codechoir.languages import language

PIECE_BYTES = 8 * 2**20  # of decoded row groups that are read as one; each of Daft's readers holds a piece or two
_SUFFIXES = {
    "parquet": (".parquet",),
    "jsonl": tuple(
        f".{name}{packed}" for name in ("jsonl", "json", "ndjson") for packed in ("", ".gz", ".zst", ".bz2")
    ),
}
_JSON_INFLATION = 6  # of packed JSON lines
_SCHEMES = ("s3://", "s3a://", "hf://")
_LANGUAGE_KEYS = ("lang", "language")


@dataclass(frozen=True, slots=True)
class TableFile:
    """One file, by its absolute path or url."""

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Piece:
    """What one task reads: a file, or some of its row groups."""

    pattern: str  # the path with what Daft would take for wildcards quoted
    row_groups: tuple[int, ...] | None
    size: int  # bytes in memory, about


@dataclass(frozen=True, slots=True)
class Scan:
    """Pieces of one table that can be read together: they have the same columns, and their folder the same language."""

    form: Form
    types: Mapping[str, DataType]
    language: str | None  # the Language.id that the folder names; used where no column does
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a file has in common with others that it can be read with."""

    form: Form
    types: Mapping[str, DataType]
    language: str | None


def remote(path: str) -> bool:
    """Whether a table lies at a url."""
    return "://" in path


def storage(path: str) -> IOConfig | None:
    """How the place is reached: by AWS_ENDPOINT_URL for s3, by HF_TOKEN for hf; other credentials Daft finds itself."""
    if path.startswith("hf://"):
        token = os.environ.get("HF_TOKEN")
        return IOConfig(hf=HuggingFaceConfig(token=token) if token else HuggingFaceConfig(anonymous=True))
    if remote(path):
        endpoint = os.environ.get("AWS_ENDPOINT_URL") or None
        anonymous = not any(os.environ.get(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ROLE_ARN"))
        return IOConfig(s3=S3Config(endpoint_url=endpoint, anonymous=anonymous if endpoint else None))
    return None


def listed(source: TableSource) -> list[TableFile]:
    """The files, sorted by path. Raises InputError where there is none, or the place cannot be read."""
    if remote(source.path):
        return _listed_remotely(source)
    path = Path(source.path).expanduser()
    if path.is_file():
        return [TableFile(str(path.resolve()), path.stat().st_size)]
    if not path.is_dir():
        raise InputError("no such file or folder", seen=source.path, next_step="give a table, or a folder of them")
    root = path.resolve()
    files = [one for one in sorted(root.rglob("*")) if _is_table(one.relative_to(root), source.kind) and one.is_file()]
    if not files:
        raise _nothing_there(source)
    return [TableFile(str(one), one.stat().st_size) for one in files]


def _is_table(path: Path, kind: str) -> bool:
    return path.name.endswith(_SUFFIXES[kind]) and not any(part.startswith((".", "_")) for part in path.parts)


def _nothing_there(source: TableSource) -> InputError:
    suffixes = ", ".join(f"*{suffix}" for suffix in _SUFFIXES[source.kind])
    return InputError("no table is there", seen=source.path, allowed=f"{suffixes}, at any depth")


def _listed_remotely(source: TableSource) -> list[TableFile]:
    if not source.path.startswith(_SCHEMES):
        raise InputError("a table cannot be read from there", seen=source.path, allowed=", ".join(_SCHEMES))
    if source.path.startswith("hf://") and os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise InputError(
            "HF_HUB_OFFLINE is set, and a table lies on the hub",
            seen=source.path,
            next_step="unset it, or download the table and give its folder",
        )
    named = source.path.endswith(_SUFFIXES[source.kind]) or any(sign in source.path for sign in "*?")
    pattern = source.path if named else source.path.rstrip("/") + "/**"
    with file_told(source.path):
        found = daft.from_glob_path(pattern, io_config=storage(source.path)).to_pydict()
    files = [
        TableFile(path, size or 0)
        for path, size in sorted(zip(found["path"], found["size"], strict=True))
        if path.endswith(_SUFFIXES[source.kind])
    ]
    if not files:
        raise _nothing_there(source)
    return files


def planned(source: TableSource, max_bytes: int | None) -> list[Scan]:
    """The pieces in order, those of a kind together, in scans of about `max_bytes`. Raises InputError."""
    scans: list[Scan] = []
    kinds: list[tuple[_Kind, list[Piece]]] = []
    for kind, piece in _pieces(source, min(PIECE_BYTES, max_bytes or PIECE_BYTES)):
        pieces = next((some for known, some in kinds if known == kind), None)
        if pieces is None:
            pieces = []
            kinds.append((kind, pieces))
        pieces.append(piece)
    for kind, pieces in kinds:
        some: list[Piece] = []
        for piece in pieces:
            if some and max_bytes is not None and sum(one.size for one in some) + piece.size > max_bytes:
                scans.append(Scan(kind.form, kind.types, kind.language, tuple(some)))
                some = []
            some.append(piece)
        scans.append(Scan(kind.form, kind.types, kind.language, tuple(some)))
    return scans


def _pieces(source: TableSource, max_bytes: int) -> Iterator[tuple[_Kind, Piece]]:
    known: dict[str, tuple[Form, dict[str, DataType]]] = {}
    for file in listed(source):
        if source.kind == "jsonl" and not file.size:
            continue
        metadata = None if source.kind == "jsonl" or remote(file.path) else _footer(file.path)
        # One look at the columns for all files with equal footers; at a url, for all files.
        same = "url" if remote(file.path) else file.path if metadata is None else str(metadata.schema)
        if same not in known:
            types = _types(source, file.path)
            known[same] = form_of(types, file.path), types
        form, types = known[same]
        kind = _Kind(form, types, _language_of_folder(file.path) if not present(form, "language", types) else None)
        for groups, size in _groups(metadata, max_bytes) if metadata else [(None, _size(file))]:
            yield kind, Piece(_quoted(file.path), groups, size)


def _footer(path: str) -> pq.FileMetaData:
    with file_told(path):
        metadata = pq.read_metadata(path)
        names = metadata.schema.to_arrow_schema().names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError("a table has two columns of one name", seen=f"{path}: {', '.join(twice)}")
    return metadata


def _types(source: TableSource, path: str) -> dict[str, DataType]:
    with file_told(path):
        read = daft.read_json if source.kind == "jsonl" else daft.read_parquet
        return {field.name: field.dtype for field in read(_quoted(path), io_config=storage(path)).schema()}


def _groups(metadata: pq.FileMetaData, max_bytes: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """Row groups that follow each other, together up to `max_bytes`, with their decoded size."""
    some: list[int] = []
    size = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        if some and size + group.total_byte_size > max_bytes:
            yield tuple(some), size
            some, size = [], 0
        if group.num_rows:
            some.append(number)
            size += group.total_byte_size
    if some:
        yield tuple(some), size


def _size(file: TableFile) -> int:
    plain = file.path.endswith((".jsonl", ".json", ".ndjson"))
    return file.size if plain else file.size * _JSON_INFLATION


def _language_of_folder(path: str) -> str | None:
    """The language that the innermost of a file's folders names: `python/`, `lang=Python/`, `language=C%2B%2B/`."""
    for folder in reversed(path.split("/")[:-1]):
        key, is_hive, value = folder.partition("=")
        if is_hive and key not in _LANGUAGE_KEYS:
            continue
        try:
            return language(unquote(value) if is_hive else folder).id
        except ConfigError:
            continue
    return None


def _quoted(path: str) -> str:
    return path if remote(path) else "".join(f"[{sign}]" if sign in "*?[" else sign for sign in path)
