"""Reads tables of source files, Parquet and JSON lines, on disk and at s3:// and hf:// urls, as gathered rows.

Goes in: a TableSource and the languages to take. Comes out: lazy Daft frames with GATHERED_SCHEMA's columns; the
language filter and the choice of columns reach the scan. Which columns mean what is `table_schemas.py`'s. Knows nothing
of filters, duplicates or the split.

A row without a repository, path or content, too large, or in bytes that are not UTF-8 stays, without content and with
its `damage`. A file that cannot be read is one InputError: `told` wraps whatever executes the frames. In Parquet's own
text columns bytes that are not UTF-8 make the whole file unreadable, as Daft checks them while decoding.

What executes a frame must end in a step that takes in all rows: write_parquet, agg, sort. Without one (`collect` or
`to_arrow` right after filters and functions) Daft may lose the error of a scan and give no row at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import daft
import daft.functions as fn
import pyarrow as pa
from daft import DataFrame, DataType, Expression, Series, col, lit

from codechoir.config import digest_of
from codechoir.data.config import TableSource
from codechoir.data.engine import batch_function
from codechoir.data.sources.rows import GATHERED_SCHEMA
from codechoir.data.sources.table_errors import told
from codechoir.data.sources.table_files import Scan, listed, planned, remote, storage
from codechoir.data.sources.table_schemas import (
    EVENT_NAMES,
    Column,
    Form,
    columns_of,
    declared,
    present,
    type_of,
    valued,
)
from codechoir.languages import LANGUAGES, Language, language_of_path

__all__ = ["MAX_FILE_BYTES", "Scan", "read_scan", "read_table", "scans", "table_digest", "table_files", "told"]

MAX_FILE_BYTES = 16 * 2**20  # of a source file, where nothing else is said
_DIGEST_BYTES = 32 * 2**20  # read at a time for a digest
_JSON_CHUNK = (
    4 * 2**20
)  # bytes of JSON lines that are parsed at a time; unset, Daft takes its rows in a morsel for bytes
_SHORT_ROWS = 4096  # rows at a time for functions of short texts
_TEXT = DataType.string()
_NO_TEXT = lit(None).cast(_TEXT)
_TEXTS = DataType.list(_TEXT)
_PLAIN = (
    "is_vendor",
    "is_generated",
    *(name for name in GATHERED_SCHEMA.names if name.startswith("stored_")),
    *EVENT_NAMES,
)
_HALF = lit(2**32)


def table_files(source: TableSource) -> list[str]:
    """The table's files, absolute paths or urls, in a fixed order. Raises InputError where there is none."""
    return [file.path for file in listed(source)]


def scans(source: TableSource, max_bytes: int | None = None) -> list[Scan]:
    """The table in pieces of files that hold the same columns, each of about `max_bytes` in memory where that is given.

    Raises InputError for a file that is damaged, or whose columns are not understood.
    """
    with told(source):
        return planned(source, max_bytes)


def read_table(
    source: TableSource, languages: Sequence[Language], max_file_bytes: int | None = MAX_FILE_BYTES
) -> DataFrame:
    """The rows of the wanted languages as one lazy frame. Raises InputError as `scans` does."""
    frames = [read_scan(source, scan, languages, max_file_bytes) for scan in scans(source)]
    empty = daft.from_arrow(GATHERED_SCHEMA.empty_table())
    return reduce(DataFrame.concat, frames) if frames else empty


def read_scan(
    source: TableSource, scan: Scan, languages: Sequence[Language], max_file_bytes: int | None = MAX_FILE_BYTES
) -> DataFrame:
    """The rows of one piece of `source` that are in `languages`; contents above `max_file_bytes` are not taken."""
    form, types = scan.form, scan.types
    frame = _scanned(source, scan)
    columns = columns_of(types)
    if form.nested:
        names = {name.partition(".")[0] for target in form.columns for name in present(form, target, columns)}
        frame = frame.select(*sorted(names)).explode("files", ignore_empty_and_null=True)
    stated = _first(form, "language", columns)
    if stated is not None:
        spellings = [name for found in languages for name in _names(found)]
        frame = frame.where(stated.expression.is_in(spellings) | stated.expression.is_null())
    frame = frame.select(
        *_place(form, columns, scan.language),
        columns[present(form, "content", columns)[0]].expression.alias("content"),
        _licences(form, columns, source.licence).alias("licences"),
        *(valued(_first(form, name, columns), name).alias(name) for name in _PLAIN),
    )
    ids = batch_function(_language_ids, _TEXT, rows=_SHORT_ROWS)
    frame = frame.with_column("language", ids(col("language"), col("path")))
    frame = frame.where(col("language").is_in([found.id for found in languages]))
    frame = _with_damage(frame, max_file_bytes)
    derived = {name: _derived(name) for name in EVENT_NAMES if not present(form, name, columns)}
    return frame.with_columns({"doubt": _NO_TEXT, **derived}).select(*GATHERED_SCHEMA.names)


def _first(form: Form, target: str, columns: Mapping[str, Column]) -> Column | None:
    names = present(form, target, columns)
    return columns[names[0]] if names else None


def _place(form: Form, columns: Mapping[str, Column], language: str | None) -> list[Expression]:
    """Repository, path and language; empty texts are null."""

    def part(target: str) -> Expression:
        text = fn.regexp_replace(valued(_first(form, target, columns), target), "^/+", "")
        return fn.when(fn.length_bytes(text) > lit(0), text).otherwise(_NO_TEXT).alias(target)

    stated = _first(form, "language", columns)
    named = lit(language) if stated is None and language else valued(stated, "language")
    return [part("package"), part("path"), named.alias("language")]


def _licences(form: Form, columns: Mapping[str, Column], otherwise: str | None) -> Expression:
    """The first of a row's licence columns that states any."""
    named = [columns[name] for name in present(form, "licences", columns)]
    usable = [column.expression for column in named if column.dtype in (_TEXT, _TEXTS)]
    rest = [otherwise] if otherwise else []
    if not usable:
        return lit(rest).cast(_TEXTS)
    stated: Expression = batch_function(_first_stated, _TEXTS, rows=_SHORT_ROWS)(rest, *usable)
    return stated


def _first_stated(otherwise: list[str], *columns: Series) -> pa.Array:
    """By row, the first column that holds a text, or a list with one; `otherwise` where none does."""
    # Daft's own list_filter on an element that is used twice turns into an explosion of the rows.
    stated = []
    for values in zip(*(column.to_pylist() for column in columns), strict=True):
        lists = ([value] if isinstance(value, str) else value or [] for value in values)
        named = ([text for text in texts if text] for texts in lists)
        stated.append(next(filter(None, named), otherwise))
    return pa.array(stated, pa.large_list(pa.large_string()))


def _derived(name: str) -> Expression:
    """One of The Stack's repository columns where the table has none: the row's own place, and no count."""
    if name.endswith("_repo_path"):
        return col("path")
    if name.endswith("_repo_name"):
        return col("package")
    return col("licences") if name.endswith("_licenses") else lit(None).cast(type_of(name))


def _with_damage(frame: DataFrame, max_file_bytes: int | None) -> DataFrame:
    """Adds `key` and `damage`; what is damaged has no content."""
    content = col("content")
    binary = frame.schema()["content"].dtype.is_binary()
    size = fn.length(content) if binary else fn.length_bytes(content)
    damage = (
        fn.when(col("package").is_null(), lit("no-repository: null or empty"))
        .when(col("path").is_null(), lit("no-path: null or empty"))
        .when(content.is_null(), lit("no-content: null"))
    )
    if max_file_bytes is not None:
        damage = damage.when(size > lit(max_file_bytes), fn.format("too-large: {} bytes", size.cast(_TEXT)))
    frame = frame.with_column("damage", damage.otherwise(_NO_TEXT))
    if binary:
        none = lit(None).cast(DataType.binary())
        sound = fn.when(col("damage").is_null(), content).otherwise(none)
        frame = frame.with_column("damage", fn.coalesce(col("damage"), batch_function(_utf8_faults, _TEXT)(sound)))
        text = fn.try_decode(fn.when(col("damage").is_null(), content).otherwise(none), "utf-8")
    else:
        text = fn.when(col("damage").is_null(), content.cast(_TEXT)).otherwise(_NO_TEXT)
    package, path = fn.coalesce(col("package"), lit("?")), fn.coalesce(col("path"), lit("?"))
    return frame.with_columns({"content": text, "key": package + "/" + path, "package": package, "path": path})


def _scanned(source: TableSource, scan: Scan) -> DataFrame:
    paths = [piece.pattern for piece in scan.pieces]
    config = storage(source.path)
    if source.kind == "jsonl":
        types = declared(scan.form, scan.types)
        return daft.read_json(paths, infer_schema=False, schema=types, io_config=config, _chunk_size=_JSON_CHUNK)
    groups = [list(piece.row_groups) for piece in scan.pieces if piece.row_groups is not None]
    # Files and row groups become tasks of their own, as Daft decodes all of one task at once.
    return daft.read_parquet(paths, row_groups=groups or None, io_config=config)


def _names(found: Language) -> list[str]:
    return [name for name in (found.id, found.stack_name, *found.aliases, found.multipl_e) if name]


_BY_NAME = {name: found.id for found in LANGUAGES.values() for name in _names(found)}


def _language_ids(names: Series, paths: Series) -> pa.Array:
    """Language.id by the stated name, or by the path where none is stated."""
    ids = []
    for name, path in zip(names.to_pylist(), paths.to_pylist(), strict=True):
        by_path = language_of_path(path) if name is None and path else None
        ids.append(by_path.id if by_path else _BY_NAME.get(name))
    return pa.array(ids, pa.large_string())


def _utf8_faults(contents: Series) -> pa.Array:
    """What Python says of bytes that are not UTF-8; null where they are."""
    faults: list[str | None] = []
    for content in contents.to_pylist():
        try:
            str(content or b"", "utf-8")
            faults.append(None)
        except UnicodeDecodeError as error:
            faults.append(f"not-utf8: byte {error.start}: {error.reason}")
    return pa.array(faults, pa.large_string())


def table_digest(source: TableSource) -> str:
    """A digest of the rows as they are read, whatever the files' names, order and layout.

    A table at a url is known by its files' names and sizes. Two sums of 64-bit hashes (XXH3) tell changes that come
    about by chance, not ones that are made to be missed.
    """
    if remote(source.path):
        return digest_of([(file.path, file.size) for file in listed(source)])
    sums = [0, 0, 0, 0, 0]
    with told(source):
        for scan in scans(source, _DIGEST_BYTES):
            totals = _sums(read_scan(source, scan, list(LANGUAGES.values()), None)).to_pydict()
            sums = [number + (totals[f"sum{place}"][0] or 0) for place, number in enumerate(sums)]
    return digest_of(sums)


def _sums(frame: DataFrame) -> DataFrame:
    """One row: the number of rows, and sums of the halves (lest they overflow) of two hashes of each row."""
    # In Daft a null's hash is that of an empty text and forgets the seed, so nulls become texts of their own.
    texts = [
        fn.coalesce(
            fn.list_join(col(field.name), "\x1e") if pa.types.is_list(field.type) else col(field.name).cast(_TEXT),
            lit("\x00"),
        )
        for field in GATHERED_SCHEMA
        if field.name != "content"
    ]
    facts = fn.concat_ws("\x1f", *texts)
    hashes = [
        fn.hash(fn.hash(col("content"), seed=seed), fn.hash(facts, seed=seed), seed=seed).alias(f"hash{seed}")
        for seed in (1, 2)
    ]
    frame = frame.select(*hashes).select(
        lit(1).alias("sum0"),
        *((col("hash1") % _HALF).alias("sum1"), (col("hash1") // _HALF).alias("sum2")),
        *((col("hash2") % _HALF).alias("sum3"), (col("hash2") // _HALF).alias("sum4")),
    )
    return frame.agg(*(col(f"sum{place}").sum() for place in range(5)))
