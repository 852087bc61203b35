"""Whether a package's own metadata agree with the licence that the recipe states.

Owns the spellings of the licences that are taken. Knows wheels' METADATA and npm's package.json, nothing of files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from email.parser import HeaderParser
from typing import Any

from codechoir.errors import InputError
from codechoir.packages import Package

_BSD = ("bsd", "bsd license", "osi approved :: bsd license")  # says neither which: agrees with both

# SPDX id -> other spellings seen in metadata, lower case
_SPELLINGS: dict[str, tuple[str, ...]] = {
    "0BSD": (),
    "Apache-2.0": (
        "apache 2.0",
        "apache 2",
        "apache license 2.0",
        "apache license, version 2.0",
        "apache software license",
        "osi approved :: apache software license",
    ),
    "BSD-2-Clause": (*_BSD, "simplified bsd"),
    "BSD-3-Clause": (*_BSD, "new bsd", "modified bsd", "bsd 3-clause", "3-clause bsd license"),
    "BSL-1.0": ("osi approved :: boost software license 1.0 (bsl-1.0)",),
    "ISC": ("osi approved :: isc license (iscl)",),
    "MIT": ("mit license", "the mit license", "osi approved :: mit license"),
    "Unlicense": ("osi approved :: the unlicense (unlicense)",),
    "Zlib": ("osi approved :: zlib/libpng license",),
}
_LONGEST_NAME = 80  # a longer `License` field is a whole licence text, not its name


def is_metadata(package: Package, member: str) -> bool:
    """Whether the archive's member of this name is the one that states the licence."""
    pattern = r"[^/]+\.dist-info/METADATA" if package.registry == "pypi" else r"[^/]+/package\.json"
    return re.fullmatch(pattern, member) is not None


def check_licence(package: Package, members: Mapping[str, bytes], licence: str) -> None:
    """Raises InputError unless the archive's metadata, among `members` (name -> content), say `licence`."""
    stated = declared_licences(package, members)
    agreeing = [name for name in stated if _agrees(name, licence)]
    others = [name for name in stated if name not in agreeing]
    contradicted = any(_agrees(name, other) for name in others for other in _SPELLINGS)
    if contradicted or not agreeing:
        raise InputError(
            f"the licence stated for {package} is not the one in the package's own metadata",
            seen=", ".join(stated) or "no licence",
            allowed=licence,
            next_step="state the package's licence in the recipe, or drop the source",
        )


def declared_licences(package: Package, members: Mapping[str, bytes]) -> list[str]:
    """The licence names in a wheel's METADATA or in npm's package.json, as they are written."""
    for name in sorted(members):
        if is_metadata(package, name):
            return _of_wheel(members[name]) if package.registry == "pypi" else _of_npm(package, members[name])
    return []


def _of_wheel(metadata: bytes) -> list[str]:
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
    except ValueError as error:
        raise InputError("the package's package.json is damaged", seen=f"{package}: {error}") from None
    stated = (values.get("license") or values.get("licenses") or []) if isinstance(values, dict) else []
    every = stated if isinstance(stated, list) else [stated]
    names = [one.get("type") if isinstance(one, dict) else one for one in every]
    return [str(name) for name in names if name]


def _agrees(name: str, licence: str) -> bool:
    spelled = name.strip().lower()
    return spelled == licence.lower() or spelled in _SPELLINGS[licence]
