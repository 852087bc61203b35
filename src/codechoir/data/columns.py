"""The Stack's computed columns, each with one definition; everything is recomputed from a file's content.

Knows one file at a time, and nothing of where it came from or whether it is kept.

The definitions are those of BigCode's preparation of The Stack, after codeparrot's `preprocessing.py`:
lines are what `str.splitlines` gives, lengths are characters (code points) without the line's end, the fraction counts
`str.isalnum`. All are 0 for an empty file. `hexsha` is Git's id of the file as a blob: SHA-1 of "blob SIZE\\0" and the
bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from codechoir.languages import Language

EVENTS = ("max_stars", "max_forks", "max_issues")


@dataclass(frozen=True, slots=True)
class Measures:
    """What is computed from one file's content."""

    size: int  # bytes in UTF-8
    avg_line_length: float  # characters
    max_line_length: int  # characters
    alphanum_fraction: float  # 0 .. 1
    hexsha: str


def measure(content: str) -> Measures:
    """The computed columns of one file."""
    data = content.encode()
    lengths = [len(line) for line in content.splitlines()] or [0]
    return Measures(
        size=len(data),
        avg_line_length=sum(lengths) / len(lengths),
        max_line_length=max(lengths),
        alphanum_fraction=sum(map(str.isalnum, content)) / len(content) if content else 0.0,
        hexsha=git_blob_id(data),
    )


def git_blob_id(data: bytes) -> str:
    """The id that `git hash-object` gives these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def repository_columns(name: str, path: str, licences: Sequence[str]) -> dict[str, Any]:
    """The Stack's three groups of repository columns for a file that is known from one place only.

    All three name that place. Head commit and counts are None: an archive or folder has neither.
    """
    one = {"repo_path": path, "repo_name": name, "repo_head_hexsha": None, "count": None}
    return {
        f"{event}_{key}": value for event in EVENTS for key, value in {**one, "repo_licenses": list(licences)}.items()
    }


def document_row(content: str, measures: Measures, language: Language, repository: dict[str, Any]) -> dict[str, Any]:
    """A row with The Stack's columns."""
    path = repository["max_stars_repo_path"] or ""
    return {
        "content": content,
        "size": measures.size,
        "lang": language.stack_name,
        "ext": PurePosixPath(path).suffix.removeprefix("."),
        "avg_line_length": measures.avg_line_length,
        "max_line_length": measures.max_line_length,
        "alphanum_fraction": measures.alphanum_fraction,
        "hexsha": measures.hexsha,
        **repository,
    }
