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
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from codechoir.data import kernels

Floats = npt.NDArray[np.float64]

EVENTS = ("max_stars", "max_forks", "max_issues")


@dataclass(frozen=True, slots=True)
class Measures:
    """What is computed from one file's content."""

    size: int  # bytes in UTF-8
    avg_line_length: float  # characters
    max_line_length: int  # characters
    alphanum_fraction: float  # 0 .. 1


def measure(content: str) -> Measures:
    """The computed columns of one file."""
    return measure_all(pa.array([content], pa.large_string()))[0]


def measure_all(contents: pa.Array) -> list[Measures]:
    """The computed columns of each content; of null as of the empty text."""
    sizes = np.diff(kernels.utf8_buffers(contents).offsets_R)
    return list(map(Measures, *(column.tolist() for column in (sizes, *shapes(contents)))))


def shapes(contents: pa.Array) -> tuple[Floats, kernels.Offsets, Floats]:
    """Of each content the mean and the longest line, in characters, and the alphanumeric fraction."""
    text = kernels.utf8_buffers(contents)
    chars, alnum, lines, inside, longest = kernels.measure_rows(text.data_B, text.offsets_R, kernels.classes())
    return inside / np.maximum(lines, 1), longest, alnum / np.maximum(chars, 1)


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


def git_blob_ids(contents: pa.Array) -> list[str]:
    """The same of each content; of null as of the empty text."""
    text = kernels.utf8_buffers(contents)
    data = text.data_B.data
    found = []
    for begin, end in pairwise(text.offsets_R.tolist()):
        digest = hashlib.sha1(b"blob %d\0" % (end - begin), usedforsecurity=False)
        digest.update(data[begin:end])
        found.append(digest.hexdigest())
    return found
