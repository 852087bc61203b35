"""The forms of table that are understood: The Stack's v1, v2 and v3, and which of their columns mean what.

Goes in: the columns that a file holds, by name and type. Comes out: a `Form`, and, for one file, the `Column`s as Daft
expressions. Knows nothing of where tables lie or how they are read. A column inside `files` or `github_metadata` is
written with a dot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from daft import DataType, Expression, col, lit

from codechoir.documents import EVENT_COLUMNS
from codechoir.errors import InputError

EVENT_NAMES = tuple(name for name, _ in EVENT_COLUMNS)
Kind = Literal["text", "texts", "int", "float", "bool"]

_KINDS: dict[str, Kind] = {
    "licences": "texts",
    "is_vendor": "bool",
    "is_generated": "bool",
    "stored_size": "int",
    "stored_avg_line_length": "float",
    "stored_max_line_length": "int",
    "stored_alphanum_fraction": "float",
    **{name: "int" for name in EVENT_NAMES if name.endswith("_count")},
    **{name: "texts" for name in EVENT_NAMES if name.endswith("_licenses")},
}
_TYPES: dict[Kind, DataType] = {
    "text": DataType.string(),
    "texts": DataType.list(DataType.string()),
    "int": DataType.int64(),
    "float": DataType.float64(),
    "bool": DataType.bool(),
}


def kind_of(target: str) -> Kind:
    """What a gathered column holds."""
    return _KINDS.get(target, "text")


def type_of(target: str) -> DataType:
    """The type of a gathered column."""
    return _TYPES[kind_of(target)]


@dataclass(frozen=True, slots=True)
class Form:
    """One form of table. `columns`: for a gathered column the names it may have, the best first."""

    name: str
    shown: str  # its columns, for messages
    columns: Mapping[str, tuple[str, ...]]

    @property
    def nested(self) -> bool:
        """Whether a row is a repository with its files in a list."""
        return any(name.startswith("files.") for names in self.columns.values() for name in names)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of one file: what computes it once `files` is exploded, and its type."""

    expression: Expression
    dtype: DataType


def _heads(*names: str) -> dict[str, tuple[str, ...]]:
    return {name: names for name in EVENT_NAMES if name.endswith("_head_hexsha")}


_MEASURES = {
    "stored_avg_line_length": ("avg_line_length",),
    "stored_max_line_length": ("max_line_length",),
    "stored_alphanum_fraction": ("alphanum_fraction",),
}
_FLAGS = {"is_vendor": ("is_vendor",), "is_generated": ("is_generated",)}

V1 = Form(
    "The Stack v1",
    "content, max_stars_repo_name, max_stars_repo_path, lang, max_stars_repo_licenses ...",
    {
        "package": ("max_stars_repo_name",),
        "path": ("max_stars_repo_path",),
        "content": ("content", "text"),
        "language": ("lang", "language"),
        "licences": ("max_stars_repo_licenses", "licenses", "license"),
        "stored_size": ("size",),
        "stored_hexsha": ("hexsha",),
        **_MEASURES,
        **_FLAGS,
        **{name: (name,) for name in EVENT_NAMES},
    },
)
# `license_type` (permissive, no_license) names no licence and is not taken.
V2 = Form(
    "The Stack v2, contents joined",
    "content or text, repo_name, path, language, detected_licenses, is_vendor, is_generated ...",
    {
        "package": ("repo_name", "repository_name"),
        "path": ("path", "file_path"),
        "content": ("content", "text", "code"),
        "language": ("language", "lang"),
        "licences": ("detected_licenses", "gha_license_id", "licenses", "license"),
        "stored_size": ("length_bytes", "size"),
        "stored_hexsha": ("blob_id", "hexsha"),
        "max_stars_count": ("star_events_count",),
        "max_forks_count": ("fork_events_count",),
        **_heads("revision_id"),
        **_MEASURES,
        **_FLAGS,
    },
)
V3 = Form(
    "The Stack v3",
    "repo_path, files (content, file_path, language, detected_licenses, is_vendor ...), github_metadata ...",
    {
        "package": ("repo_path", "repo_name"),
        "path": ("files.file_path", "files.path"),
        "content": ("files.content", "files.text"),
        "language": ("files.language", "files.lang"),
        "licences": ("files.detected_licenses", "detected_licenses", "gha_license_id", "licenses", "license"),
        "stored_size": ("files.size_bytes", "files.length_bytes", "files.size"),
        "stored_hexsha": ("files.content_id", "files.blob_id"),
        "max_stars_count": ("github_metadata.stars", "star_events_count", "stars"),
        "max_forks_count": ("github_metadata.forks", "fork_events_count", "forks"),
        "max_issues_count": ("github_metadata.issues", "issues"),
        **_heads("commit_id", "revision_id"),
        **{target: tuple(f"files.{name}" for name in names) for target, names in {**_MEASURES, **_FLAGS}.items()},
    },
)
FORMS = (V1, V2, V3)


def inner_types(types: Mapping[str, DataType]) -> dict[str, DataType]:
    """The types with those inside of `files` and `github_metadata`, under dotted names."""
    found = dict(types)
    for name in ("files", "github_metadata"):
        dtype = types.get(name)
        if dtype is not None and name == "files" and dtype.is_list():
            dtype = dtype.dtype
        if dtype is not None and dtype.is_struct():
            found |= {f"{name}.{field}": inner for field, inner in dtype.fields.items()}
    return found


def form_of(types: Mapping[str, DataType], where: str) -> Form:
    """The form of a table with these columns. Raises InputError naming them where there is none, or no content."""
    seen = inner_types(types)
    form = V3 if "files" in types else V1 if "max_stars_repo_name" in types else V2
    lacking = [target for target in ("package", "path", "content") if not present(form, target, seen)]
    if lacking:
        raise InputError(
            f"the table has no column for the {' and the '.join(lacking)} of a file",
            seen=f"{where}: {', '.join(seen) or 'no column'}",
            allowed="; ".join(f"{one.name}: {one.shown}" for one in FORMS),
            next_step="rename the columns, or join the contents" if lacking == ["content"] else "rename the columns",
        )
    for target in ("package", "path", "content"):
        name = present(form, target, seen)[0]
        dtype = seen[name]
        if not (dtype.is_string() or dtype.is_null() or (target == "content" and dtype.is_binary())):
            raise InputError(
                f"the column {name} cannot be the {target} of a file",
                seen=f"{where}: {dtype}",
                allowed="texts, or bytes in UTF-8" if target == "content" else "texts",
            )
    return form


def present(form: Form, target: str, names: Mapping[str, object]) -> list[str]:
    """Which of a gathered column's names are there, the best first."""
    return [name for name in form.columns.get(target, ()) if name in names]


def declared(form: Form, seen: Mapping[str, DataType]) -> dict[str, DataType]:
    """The types to read a JSON lines file with: the form's own, whatever the first lines may have looked like.

    Licences stay as they were seen, one text or a list. Columns that the first lines lack are read, too.
    """
    inner = inner_types(seen)
    flat: dict[str, DataType] = {}
    for target, names in form.columns.items():
        for name in present(form, target, inner) or names[:1]:
            as_text = kind_of(target) == "texts" and name in inner and inner[name].is_string()
            flat[name] = DataType.string() if as_text else type_of(target)
    types: dict[str, DataType] = {name: dtype for name, dtype in flat.items() if "." not in name}
    for outer in ("files", "github_metadata"):
        prefix = f"{outer}."
        fields = {name.removeprefix(prefix): dtype for name, dtype in flat.items() if name.startswith(prefix)}
        if fields:
            types[outer] = DataType.list(DataType.struct(fields)) if outer == "files" else DataType.struct(fields)
    return types


def columns_of(types: Mapping[str, DataType]) -> dict[str, Column]:
    """Every column by its dotted name, as an expression over the table with `files` exploded."""
    found = {}
    for name, dtype in inner_types(types).items():
        outer, dot, field = name.partition(".")
        found[name] = Column(col(outer).get(field) if dot and outer in types else col(name), dtype)
    return found


def valued(column: Column | None, target: str) -> Expression:
    """A column as the gathered column's type; null where there is none, or a value is of another kind."""
    wanted = type_of(target)
    null = lit(None).cast(wanted)
    if column is None or column.dtype.is_null():
        return null
    dtype, expression = column.dtype, column.expression
    if dtype == wanted:
        return expression
    match kind_of(target):
        case "texts":
            # Casting a list to a text stops the process's threads in Daft, so types are looked at first.
            return expression.cast(wanted) if dtype.is_string() else null
        case "int" | "float":
            return expression.try_cast(wanted) if dtype.is_numeric() or dtype.is_string() else null
        case "text":
            return expression.cast(wanted) if dtype.is_numeric() else null
        case _:
            return null
