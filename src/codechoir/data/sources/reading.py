"""Reads code out of pinned packages and local folders, one file at a time, as gathered rows.

Goes in: a source as the recipe gives it, and the run's languages. Comes out: rows of GATHERED_SCHEMA in a fixed
order. A source is one `Unit`, which an interrupted run has whole or not at all. Tables are not read here: the engine
does that, as `tables.py` says. Knows nothing of filters, duplicates or the split.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from codechoir.archives import Limits, members, read_members
from codechoir.config import digest_of
from codechoir.data.config import CurateConfig, FolderSource, PackageSource, Source, TableSource
from codechoir.data.files.columns import repository_columns
from codechoir.data.files.licences import check_licence, file_licences, is_metadata, text_licence
from codechoir.data.sources.detection import candidates, detect
from codechoir.data.sources.rows import GATHERED_SCHEMA
from codechoir.data.sources.tables import table_digest
from codechoir.data.sources.trees import decoded, licence_files, tree_files
from codechoir.languages import Language, language
from codechoir.packages import fetch
from codechoir.packages import licence_files as package_licence_files

Row = dict[str, Any]
_NOT_STORED = {name: None for name in GATHERED_SCHEMA.names if name.startswith("stored_")}


@dataclass(frozen=True, slots=True)
class Unit:
    """All of one package or folder."""

    name: str  # unique in a run, sorts in the order of the sources
    source: PackageSource | FolderSource
    languages: tuple[Language, ...]  # those to take

    @property
    def prefix(self) -> str:
        """What the keys of its files begin with."""
        if isinstance(self.source, PackageSource):
            return f"{self.source.package}/"
        return f"folder:{Path(self.source.path).expanduser().resolve().name}/"


def wanted_languages(source: Source, languages: Sequence[Language]) -> tuple[Language, ...]:
    """The run's languages that this source is to give; none: the source is not looked at."""
    named = {language(name) for name in source.languages}
    return tuple(found for found in languages if not named or found in named)


def units(config: CurateConfig, languages: Sequence[Language]) -> list[Unit]:
    """The packages and folders to read, in order."""
    return [
        Unit(f"{number:04}", source, wanted)
        for number, source in enumerate(config.sources)
        if not isinstance(source, TableSource) and (wanted := wanted_languages(source, languages))
    ]


def input_digests(config: CurateConfig, languages: Sequence[Language]) -> dict[str, str]:
    """What the sources hold, by number and name: a pinned checksum, a folder's files, or a table's rows."""
    digests = {}
    for number, source in enumerate(config.sources):
        wanted = wanted_languages(source, languages)
        if not wanted:
            continue
        name = f"{number} {source}"
        if isinstance(source, PackageSource):
            digests[name] = source.package.sha256
        elif isinstance(source, FolderSource):
            digests[name] = _folder_digest(source, wanted)
        else:
            digests[name] = table_digest(source)
    return digests


def read_unit(unit: Unit, cache: Path, max_file_bytes: int) -> Iterator[Row]:
    """The files of one piece, in a fixed order. Raises InputError for what is missing, damaged or wrongly licensed."""
    if isinstance(unit.source, PackageSource):
        return _read_package(unit, unit.source, cache, max_file_bytes)
    return _read_folder(unit, unit.source, max_file_bytes)


def _read_package(unit: Unit, source: PackageSource, cache: Path, max_file_bytes: int) -> Iterator[Row]:
    package = source.package
    archive = fetch(package, cache)
    metadata = read_members(archive, partial(is_metadata, package)) | package_licence_files(package, cache)
    check_licence(package, metadata, source.licence)
    licences_of = file_licences(package, metadata, source.files_licence or source.licence)
    # the clients drop a tarball's one top folder, whatever its name; so do keys
    depth = 0 if package.registry == "pypi" else 1

    def inside(member: str) -> str:
        return "/".join(member.split("/")[depth:])

    wanted = partial(_is_wanted, source, unit.languages)
    for member in members(archive, lambda name: wanted(inside(name)), Limits(max_file_bytes=max_file_bytes)):
        name = inside(member.name)
        content, damage = None, member.damage
        if member.content is not None:
            text = decoded(member.content)
            content, damage = text.content, text.damage or ""
        place = _Place(unit.prefix + name, package.name, name, None)
        if row := _row(place, content, damage, licences_of(name), unit.languages):
            yield row


def _read_folder(unit: Unit, source: FolderSource, max_file_bytes: int) -> Iterator[Row]:
    root = Path(source.path).expanduser()
    stated: dict[str, list[str]] = {}  # by the package's folder
    for file in tree_files(root, partial(_is_wanted, source, unit.languages), max_file_bytes):
        if file.top not in stated:
            stated[file.top] = [source.licence] if source.licence else _licences_beside(file.folder)
        place = _Place(unit.prefix + file.place, file.package, file.path, file.head)
        if row := _row(place, file.content, file.damage or "", stated[file.top], unit.languages):
            yield row


def _licences_beside(folder: Path) -> list[str]:
    """The licences that a package's own LICENSE files are texts of."""
    found = (text_licence(text) for text in licence_files(folder).values())
    return sorted({licence for licence in found if licence})


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a file lies."""

    key: str
    package: str
    path: str
    head: str | None


def _row(
    place: _Place, content: str | None, damage: str, licences: Sequence[str], languages: Sequence[Language]
) -> Row | None:
    """A gathered row, or None where the content turns out to be in none of the languages."""
    found = detect(place.path, content or "")
    if found.language is None or found.language not in languages:
        return None
    repository = repository_columns(place.package, place.path, licences)
    return {
        "key": place.key,
        "package": place.package,
        "path": place.path,
        "language": found.language.id,
        "doubt": found.doubt or None,
        "content": content,
        "damage": damage or None,
        "licences": list(licences),
        "is_vendor": None,
        "is_generated": None,
        **_NOT_STORED,
        **repository,
        "max_stars_repo_head_hexsha": place.head,
    }


def _is_wanted(source: PackageSource | FolderSource, languages: Sequence[Language], name: str) -> bool:
    return (
        not candidates(name).isdisjoint(languages)
        and any(fnmatchcase(name, pattern) for pattern in source.include)
        and not any(fnmatchcase(name, pattern) for pattern in source.exclude)
    )


def _folder_digest(source: FolderSource, languages: Sequence[Language]) -> str:
    """A digest of the files that would be taken, by place, commit and content."""
    files = tree_files(Path(source.path).expanduser(), partial(_is_wanted, source, languages))
    return digest_of([[file.place, file.head, digest_of([file.content, file.damage])] for file in files])
