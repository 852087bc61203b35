"""Ranks: texts that sort files in the order of preference, so that of two the smaller is the one to keep.

A rank holds what a file is preferred by (licence, stars, key, content), and tells it apart from every other row. Knows
no file.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass

_MAX_STARS = 10**12 - 1


@dataclass(frozen=True, slots=True)
class Preference:
    """What decides which of two files is kept, in this order."""

    rating: int  # of the licence, one digit; less is better
    num_stars: int
    key: str
    hexsha: str


def rank(preference: Preference, rest: tuple[object, ...]) -> str:
    """The rank of one row; `rest` is what else it says.

    That, and then chance, only tell rows apart that have all the preference in common.
    """
    stars = min(max(preference.num_stars, 0), _MAX_STARS)
    tie = f"{zlib.crc32(repr(rest).encode()):08x}{os.urandom(6).hex()}"
    return f"{preference.rating}{_MAX_STARS - stars:012} {preference.key} {preference.hexsha} {tie}"


def key_of(rank: str) -> str:
    """The key in a rank."""
    return rank[14:].rsplit(" ", 2)[0]
