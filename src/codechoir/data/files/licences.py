"""Which licence a file is taken under, and whether it may be: from the recipe, the file itself, then its package.

Owns the order in which statements count, and the reading of wheels' METADATA, source distributions' PKG-INFO, npm's
package.json and Debian's copyright files. What licences are called is `spdx`'s business, how a text is recognised
`licence_texts`'. Goes in: what is declared, and a file's text. Comes out: a LicenceDecision.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from codechoir.data.config import LicenceConfig
from codechoir.data.files.debian_copyright import parse_copyright
from codechoir.data.files.licence_texts import HEAD_CHARACTERS, header_licence, text_licence
from codechoir.data.files.rejection import Rejection
from codechoir.data.files.spdx import BSD, RATINGS, Rating, all_of, canonical, ids_in, ids_rated, permitted_part
from codechoir.errors import InputError
from codechoir.packages import Package

__all__ = [
    "LicenceDecision",
    "LicensedFile",
    "check_licence",
    "decide",
    "declared_licences",
    "file_licences",
    "is_metadata",
    "text_licence",
]

UNKNOWN = "licence-unknown"
NOT_ALLOWED = "licence-not-allowed"
_UNRATED = len(RATINGS)

_TAG = re.compile(r"SPDX-License-Identifier:[ \t]*([A-Za-z0-9(][A-Za-z0-9.+\-() ]*)")
_LONGEST_NAME = 80  # a longer `License` field is a whole licence text, not its name
_METADATA = {
    "pypi": re.compile(r"[^/]+\.dist-info/METADATA"),
    "pypi-sdist": re.compile(r"[^/]+/PKG-INFO"),
    "npm": re.compile(r"[^/]+/package\.json"),
    "debian": re.compile(r"debian/copyright"),
}


@dataclass(frozen=True, slots=True)
class LicensedFile:
    """What is looked at of one file."""

    key: str
    package: str
    path: str
    content: str


@dataclass(frozen=True, slots=True)
class LicenceDecision:
    """Under which licence a file is taken, or why it is not."""

    licence: str  # a canonical SPDX expression: of alternatives, those that are allowed; "" where it is not known
    rating: int  # of that licence, from 0 (gold) to 3 (lead); 4: allowed by name alone, or not allowed
    rejection: Rejection | None
    detail: str  # what was stated, and where


def decide(file: LicensedFile, declared: Sequence[str], config: LicenceConfig) -> LicenceDecision:
    """Decides on one file. What is stated counts in this order:

    1. the recipe's override for the file's key, its path or its package;
    2. the file's own `SPDX-License-Identifier`; of several, all;
    3. the notice at its head. One that is not allowed rejects the file; one that is allowed is what the file is taken
       under, unless the package declares a licence that is not allowed;
    4. what is `declared` for it. Of several licences, all must be allowed: a source that found several in a repository
       does not say which one a file is under.
    """
    allowed = _allowed(config.min_rating, config.allowed)
    for pattern, licence in config.overrides.items():
        if any(fnmatchcase(name, pattern) for name in (file.key, file.path, file.package)):
            return _judge((licence,), allowed, f"the recipe's override {pattern!r}")
    tags = _tags(file.content)
    if tags:
        return _judge(tags, allowed, "the file's SPDX-License-Identifier")
    header = header_licence(file.content)
    stated = _judge(tuple(declared), allowed, "its package")
    if header is None:
        return stated
    own = _judge((header,), allowed, "the notice at its head")
    if stated.rejection is None or stated.rejection.reason == UNKNOWN:
        return own
    return stated


def _tags(content: str) -> tuple[str, ...]:
    if "SPDX-License-Identifier" not in content[:HEAD_CHARACTERS]:
        return ()
    found = (match.rstrip(" -.") for match in _TAG.findall(content[:HEAD_CHARACTERS]))
    return tuple(dict.fromkeys(tag.removesuffix(")") if tag.count("(") < tag.count(")") else tag for tag in found))


@lru_cache(maxsize=64)
def _allowed(min_rating: Rating, added: tuple[str, ...]) -> frozenset[str]:
    return ids_rated(min_rating) | frozenset(added)


@lru_cache(maxsize=8192)
def _judge(stated: tuple[str, ...], allowed: frozenset[str], where: str) -> LicenceDecision:
    detail = f"{', '.join(stated)} ({where})" if stated else "no licence is stated"
    known = [licence for name in stated if (licence := canonical(name)) is not None]
    expression = all_of(known)
    if expression is None or len(known) < len(stated):
        return LicenceDecision("", _UNRATED, Rejection(UNKNOWN, detail), detail)
    part = permitted_part(expression, allowed)
    if part is None:
        return LicenceDecision(expression, _UNRATED, Rejection(NOT_ALLOWED, detail), detail)
    better = (number for number, rating in enumerate(RATINGS) if permitted_part(part, ids_rated(rating)))
    return LicenceDecision(part, next(better, _UNRATED), None, detail)


def is_metadata(package: Package, member: str) -> bool:
    """Whether the archive's member of this name is the one that states the licence."""
    return _METADATA[package.registry].fullmatch(member) is not None


def check_licence(package: Package, members: Mapping[str, bytes], licence: str | None) -> None:
    """Raises InputError unless the package's metadata, among `members` (name -> content), say `licence`.

    None agrees with whatever they say. Of Debian's several licences, one must be `licence`.
    """
    if licence is None:
        return
    stated = declared_licences(package, members)
    agreeing = [name for name in stated if _agrees(name, licence)]
    contradicted = any(canonical(name) for name in stated if name not in agreeing) and package.registry != "debian"
    together = {known for name in stated if (known := canonical(name)) is not None}
    if (contradicted or not agreeing) and not (len(together) > 1 and together == ids_in(canonical(licence) or "")):
        raise InputError(
            f"the licence stated for {package} is not the one in the package's own metadata",
            seen=", ".join(stated) or "no licence",
            allowed=licence,
            next_step="state the package's licence in the recipe, or drop the source",
        )


def file_licences(
    package: Package, members: Mapping[str, bytes], licence: str | None
) -> Callable[[str], Sequence[str]]:
    """What is declared for the file at a path below the package's top folder; nothing where nothing is stated.

    That is the recipe's `licence`, or without one what the metadata, among `members` (name -> content), say. Debian's
    metadata say it for each file, which counts before the recipe's.
    """
    if package.registry == "debian":
        stated = [parse_copyright(members[name]) for name in sorted(members) if is_metadata(package, name)]
        others = (licence,) if licence else ()
        return lambda path: next(((found,) for one in stated if (found := one.licence_of(path))), others)
    names = (licence,) if licence else tuple(declared_licences(package, members))
    return lambda _: names


def declared_licences(package: Package, members: Mapping[str, bytes]) -> list[str]:
    """The licence names in a package's metadata, as they are written; Debian's as SPDX where they are known."""
    for name in sorted(members):
        if is_metadata(package, name):
            if package.registry == "npm":
                return _of_npm(package, members[name])
            if package.registry == "debian":
                return parse_copyright(members[name]).licences()
            return _of_python(members[name])
    return []


def _of_python(metadata: bytes) -> list[str]:
    """Of METADATA or PKG-INFO (PEP 639, and what was before it)."""
    headers = HeaderParser().parsestr(metadata.decode(errors="replace"))
    expression = headers.get("License-Expression")
    if expression:
        return [expression.strip()]
    prefix = "License :: "
    names = [value.removeprefix(prefix) for value in headers.get_all("Classifier", []) if value.startswith(prefix)]
    field = headers.get("License", "").strip()
    if len(field) <= _LONGEST_NAME:
        names.append(field)
    return [name for name in names if name not in ("", "UNKNOWN", "OSI Approved")]


def _of_npm(package: Package, content: bytes) -> list[str]:
    try:
        values: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError("the package's package.json is damaged", seen=f"{package}: {error}") from None
    stated = (values.get("license") or values.get("licenses") or []) if isinstance(values, dict) else []
    every = stated if isinstance(stated, list) else [stated]
    names = [one.get("type") if isinstance(one, dict) else one for one in every]
    return [str(name) for name in names if name]


def _agrees(name: str, licence: str) -> bool:
    """Whether a name means `licence`; "BSD" without more means either of two."""
    known, wanted = canonical(name), canonical(licence)
    unsure = "bsd" in name.lower() and not re.search(r"\d|simplified|new|modified|free", name.lower())
    return known is not None and (known == wanted or (unsure and known in BSD and wanted in BSD))
