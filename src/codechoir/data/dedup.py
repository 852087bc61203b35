"""Exact duplicates and unique keys over the whole corpus, all packages and languages together.

Goes in: one small `Entry` a file, without its content. Comes out: which entries are kept and under which key, and for
each of the others the key of the file that was kept in its place. The answer does not depend on the order of entries.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One file that passed the filters."""

    key: str
    hexsha: str  # of the exact content
    part: str  # where the row lies: the part's name ...
    row: int  # ... and the row's number in it
    language: str
    package: str
    size: int


@dataclass(frozen=True, slots=True)
class Resolution:
    """What is kept, and what is a duplicate of what."""

    kept: tuple[Entry, ...]  # by key; keys are unique
    duplicates: tuple[tuple[Entry, str], ...]  # an entry and the key of the one that is kept


def resolve(entries: Iterable[Entry]) -> Resolution:
    """Keeps the smallest key of each content; a key that names several contents is told apart by their hexsha."""
    kept: dict[str, Entry] = {}
    duplicates = []
    keys: set[str] = set()
    for entry in sorted(entries):
        first = kept.get(entry.hexsha)
        if first is not None:
            duplicates.append((entry, first.key))
            continue
        if entry.key in keys:
            entry = replace(entry, key=f"{entry.key}#{entry.hexsha}")
        keys.add(entry.key)
        kept[entry.hexsha] = entry
    return Resolution(tuple(sorted(kept.values())), tuple(duplicates))
