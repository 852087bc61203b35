"""Licences of models: what a folder tells of its own, and how it goes along to a folder that is made from it.

A folder tells its licence as the hub has it: `license` in the front matter of README.md, and licence texts beside it.
Knows no models and no weights; judges no licence.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import asdict, dataclass
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any

import yaml

from codechoir.artifacts import disk_full_told, write_atomically
from codechoir.packages import read_members

README = "README.md"
_TEXTS = re.compile(r"(LICEN[SC]E|COPYING|NOTICE)([-_.].*)?", re.IGNORECASE)
_IN_WHEEL = re.compile(r"[^/]+\.dist-info/(licenses/)?[^/]+")


@dataclass(frozen=True, slots=True)
class Origin:
    """A model's folder by name, what it was made from, its licence and the licence texts in it; None: not told."""

    name: str
    base_model: str | None
    licence: str | None
    licence_files: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """For a manifest."""
        return asdict(self) | {"licence_files": list(self.licence_files)}


def origin_of(folder: Path) -> Origin:
    """What the folder tells of itself."""
    head = _front_matter(folder / README)
    name = _text(head, "model_name") or folder.resolve().name
    files = tuple(path.name for path in licence_files(folder))
    licence = _text(head, "license")
    if licence == "other":
        licence = _text(head, "license_name") or licence
    return Origin(name, _text(head, "base_model"), licence or ("other" if files else None), files)


def licence_files(folder: Path) -> list[Path]:
    """The licence texts in a folder, by name."""
    return sorted(path for path in folder.glob("*") if _TEXTS.fullmatch(path.name) and path.is_file())


def carry_licence(source: Path, folder: Path) -> None:
    """Gives a model's folder the licence of the model that it is made from: its texts, and README.md where it tells.

    Nothing is written where `source` tells nothing. Raises DiskFullError.
    """
    copy_licence_files(source, folder)
    told = origin_of(source)
    if told.licence:
        write_readme(folder, {"license": told.licence, "base_model": told.base_model or told.name})


def copy_licence_files(source: Path, folder: Path) -> None:
    """Copies the licence texts alone. Raises DiskFullError."""
    for path in licence_files(source):
        with disk_full_told(folder):
            shutil.copyfile(path, folder / path.name)


def take_wheels_licence(wheel: Path, name: str, folder: Path) -> None:
    """Gives the folder of a model that lay in a wheel the wheel's licence texts and the licence that its metadata tell.

    A README.md that the folder has stays: what the model's own file says goes before what is said of the wheel.
    """
    held = {path.rsplit("/", 1)[-1]: content for path, content in read_members(wheel, _is_metadata).items()}
    for file, content in held.items():
        if _TEXTS.fullmatch(file):
            write_atomically(folder / file, content)
    headers = BytesHeaderParser().parsebytes(held.get("METADATA", b""))
    licence = headers.get("License-Expression") or headers.get("License")
    if licence and re.fullmatch(r"[\w.+-]+", licence) and not (folder / README).exists():
        told = f"The licence is the one that the metadata of {headers.get('Name')} {headers.get('Version')} tell."
        write_readme(folder, {"license": licence.lower(), "model_name": name}, told)


def _is_metadata(path: str) -> bool:
    file = path.rsplit("/", 1)[-1]
    return bool(_IN_WHEEL.fullmatch(path)) and (file == "METADATA" or bool(_TEXTS.fullmatch(file)))


def write_readme(folder: Path, head: dict[str, str], text: str = "") -> None:
    """Writes a README.md of this front matter and text."""
    write_atomically(folder / README, f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n{text}".rstrip() + "\n")


def _front_matter(path: Path) -> dict[str, Any]:
    """The YAML between the first two lines of three dashes; empty where there is none."""
    try:
        parts = path.read_text(encoding="utf-8").split("---\n")
        told = yaml.safe_load(parts[1]) if len(parts) > 2 and not parts[0].strip() else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return told if isinstance(told, dict) else {}


def _text(head: dict[str, Any], key: str) -> str | None:
    """A value of the front matter; of a list, as `base_model` may be, all of it."""
    value = head.get(key)
    if isinstance(value, list):
        value = ", ".join(each for each in value if isinstance(each, str))
    return value if isinstance(value, str) and value else None
