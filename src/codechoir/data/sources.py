"""Reads sources of code one file at a time: pinned packages, local folders, Parquet with The Stack's columns.

Goes in: a source as the recipe gives it. Comes out: `SourceFile`s in a fixed order, each with its key, package,
language and repository columns. Knows nothing of filters, duplicates or the split. A source is read in `Unit`s, the
smallest pieces that an interrupted run has whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from codechoir.artifacts import files_digest
from codechoir.config import digest_of
from codechoir.data.columns import EVENTS, repository_columns
from codechoir.data.config import CurateConfig, FolderSource, PackageSource, ParquetSource, Source
from codechoir.data.licences import check_licence, is_metadata
from codechoir.documents import parquet_columns, rows_digest, stream_parquet
from codechoir.errors import InputError
from codechoir.languages import Language, language, language_of_path
from codechoir.packages import fetch, read_members

_REQUIRED = ("content", "lang", "max_stars_repo_name", "max_stars_repo_path")
_EVENT_KEYS = ("repo_path", "repo_name", "repo_head_hexsha", "repo_licenses", "count")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file as it was found. `content` is None where its bytes are not UTF-8; `damage` then says why."""

    key: str
    package: str
    language: Language
    repository: dict[str, Any]  # The Stack's repository columns
    content: str | None
    damage: str = ""


@dataclass(frozen=True, slots=True)
class Unit:
    """A piece of a source: all of a package or folder, or one Parquet file."""

    name: str  # unique in a run, sorts in the order of the sources
    source: Source
    languages: tuple[Language, ...]  # those to take
    path: Path | None = None  # the Parquet file


def wanted_languages(source: Source, languages: Sequence[Language]) -> tuple[Language, ...]:
    """The run's languages that this source is to give; none: the source is not looked at."""
    named = {language(name) for name in source.languages}
    return tuple(found for found in languages if not named or found in named)


def units(config: CurateConfig, languages: Sequence[Language]) -> list[Unit]:
    """All pieces to read, in order. Raises InputError where a local source is missing or empty."""
    found = []
    for number, source in enumerate(config.sources):
        wanted = wanted_languages(source, languages)
        if not wanted:
            continue
        if isinstance(source, ParquetSource):
            for part, path in enumerate(_parquet_files(source)):
                found.append(Unit(f"{number:04}-{part:05}", source, wanted, path))
        else:
            found.append(Unit(f"{number:04}-00000", source, wanted))
    return found


def input_digests(config: CurateConfig, languages: Sequence[Language]) -> dict[str, str]:
    """What the sources hold, by number and name: a pinned checksum, a folder's files, or rows."""
    digests = {}
    for number, source in enumerate(config.sources):
        wanted = wanted_languages(source, languages)
        if not wanted:
            continue
        name = f"{number} {source}"
        if isinstance(source, PackageSource):
            digests[name] = source.package.sha256
        elif isinstance(source, FolderSource):
            root = _folder(source)
            digests[name] = files_digest(root, _code_files(root, source, wanted))
        else:
            digests[name] = digest_of(sorted(rows_digest([path]) for path in _parquet_files(source)))
    return digests


def read_unit(unit: Unit, cache: Path) -> Iterator[SourceFile]:
    """The files of one piece, in a fixed order. Raises InputError for what is missing, damaged or wrongly licensed."""
    if isinstance(unit.source, PackageSource):
        return _read_package(unit.source, unit.languages, cache)
    if isinstance(unit.source, FolderSource):
        return _read_folder(unit.source, unit.languages)
    assert unit.path is not None
    return _read_parquet(unit.path, unit.languages)


def _read_package(source: PackageSource, languages: Sequence[Language], cache: Path) -> Iterator[SourceFile]:
    package = source.package
    # npm's client drops a tarball's one top folder, whatever its name; so do keys
    depth = 1 if package.registry == "npm" else 0

    def inside(member: str) -> str:
        return "/".join(member.split("/")[depth:])

    def wanted(member: str) -> bool:
        return is_metadata(package, member) or _is_wanted(inside(member), source, languages)

    members = read_members(fetch(package, cache), wanted)
    check_licence(package, members, source.licence)
    repository_licence = source.files_licence or source.licence
    for member in sorted(members):
        name = inside(member)
        if _is_wanted(name, source, languages):
            repository = repository_columns(package.name, name, [repository_licence])
            yield _source_file(f"{package}/{name}", package.name, name, members[member], repository)


def _read_folder(source: FolderSource, languages: Sequence[Language]) -> Iterator[SourceFile]:
    root = _folder(source)
    for path in _code_files(root, source, languages):
        inside = path.relative_to(root)
        package = inside.parts[0] if len(inside.parts) > 1 else root.resolve().name
        name = inside.as_posix()
        repository = repository_columns(package, name, [source.licence])
        yield _source_file(f"folder:{root.resolve().name}/{name}", package, name, path.read_bytes(), repository)


def _read_parquet(path: Path, languages: Sequence[Language]) -> Iterator[SourceFile]:
    by_name = {name: found for found in languages for name in (found.stack_name, found.id)}
    present = set(parquet_columns(path))
    optional = [f"{event}_{key}" for event in EVENTS for key in _EVENT_KEYS if f"{event}_{key}" not in _REQUIRED]
    columns = [*_REQUIRED, *(name for name in optional if name in present)]
    for batch in stream_parquet(path, columns):
        for row in batch.to_pylist():
            found = by_name.get(row["lang"])
            if found is None or row["content"] is None:
                continue
            package, inside = row["max_stars_repo_name"], row["max_stars_repo_path"]
            if not package or not inside:
                raise InputError("a row names no repository or path", seen=f"{path}: {package!r}, {inside!r}")
            yield SourceFile(f"{package}/{inside}", package, found, _stored_repository(row), row["content"])


def _stored_repository(row: dict[str, Any]) -> dict[str, Any]:
    """A row's own repository columns; licences that are one string become a list of one."""
    stored = {f"{event}_{key}": row.get(f"{event}_{key}") for event in EVENTS for key in _EVENT_KEYS}
    for event in EVENTS:
        licences = stored[f"{event}_repo_licenses"]
        if isinstance(licences, str):
            stored[f"{event}_repo_licenses"] = [licences]
    return stored


def _source_file(key: str, package: str, name: str, data: bytes, repository: dict[str, Any]) -> SourceFile:
    found = language_of_path(name)
    assert found is not None
    try:
        return SourceFile(key, package, found, repository, data.decode())
    except UnicodeDecodeError as error:
        return SourceFile(key, package, found, repository, None, f"byte {error.start}: {error.reason}")


def _is_wanted(name: str, source: PackageSource | FolderSource, languages: Sequence[Language]) -> bool:
    return (
        language_of_path(name) in languages
        and any(fnmatchcase(name, pattern) for pattern in source.include)
        and not any(fnmatchcase(name, pattern) for pattern in source.exclude)
    )


def _code_files(root: Path, source: FolderSource, languages: Sequence[Language]) -> list[Path]:
    """The wanted files below `root`, sorted; links are not followed."""
    return [
        path
        for path in sorted(root.rglob("*"))
        if _is_wanted(path.relative_to(root).as_posix(), source, languages) and path.is_file() and not path.is_symlink()
    ]


def _folder(source: FolderSource) -> Path:
    root = Path(source.path).expanduser()
    if not root.is_dir():
        raise InputError("no such folder", seen=source.path, next_step="give the folder that holds the source files")
    return root


def _parquet_files(source: ParquetSource) -> list[Path]:
    path = Path(source.path).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(
            "no such file or folder", seen=source.path, next_step="give a Parquet file, or a folder of them"
        )
    files = sorted(path.rglob("*.parquet"))
    if not files:
        raise InputError("the folder holds no Parquet file", seen=source.path, allowed="*.parquet, at any depth")
    return files
