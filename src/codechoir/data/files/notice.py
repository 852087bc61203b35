"""The NOTICE file: which packages went in, under which licences, and whose copyright their files state.

Owns the file's form and what a copyright line is. Goes in: one small record a file, or a package and licence. Comes
out: a text whose order depends on nothing but its content. Knows not where the records come from.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from codechoir.artifacts import write_atomically

HEAD_CHARACTERS = 4096  # so much of a file is looked at for copyright lines
MAX_COPYRIGHTS = 50  # lines of a package in the file
_MAX_HELD = 1000  # and while it is made: which are the first in order is known only at the end
_LONGEST = 200

# a line that says so, with a year or the sign: "copyright holder" in a licence's text is none
_LINE = re.compile(
    r"(?:\bcopyright\b[ \t:]*(?:\(c\)(?!\s*[:{=;])|©|&copy;|\d{4})|(?:\(c\)|©)[ \t]*(?:copyright|\d{4}))[^\n\r]*",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"[<(\[]?\s*(?:mailto:)?[\w.+-]+@[\w-]+(?:\.[\w-]+)+\s*[>)\]]?")
_RIGHTS = re.compile(r"[.,;\s]*\ball rights reserved\b.*$", re.IGNORECASE)
_FORM = re.compile(r"<(?:year|owner|name)|\[(?:year|yyyy|fullname)|\{\{? ?year", re.IGNORECASE)
_ENDS = " \t*/#;,-=~|<>\"'\\{}"


@dataclass(frozen=True, slots=True)
class NoticeEntry:
    """Files that went in."""

    package: str
    version: str  # or the head commit; empty: not known
    licence: str  # an SPDX expression
    num_files: int
    copyrights: tuple[str, ...] = ()


@dataclass(slots=True)
class _Package:
    num_files: Counter[str] = field(default_factory=Counter)  # by licence
    copyrights: set[str] = field(default_factory=set)
    cut: bool = False

    def add(self, entry: NoticeEntry) -> None:
        self.num_files[entry.licence] += entry.num_files
        self.copyrights.update(entry.copyrights)
        if len(self.copyrights) > 2 * _MAX_HELD:
            self.trim(_MAX_HELD)

    def trim(self, most: int) -> None:
        """Keeps the first lines in order, which do not depend on the order in which all came."""
        self.cut |= len(self.copyrights) > most
        self.copyrights = set(sorted(self.copyrights)[:most])


def copyright_lines(content: str) -> list[str]:
    """The copyright lines at a file's head, without comment marks and mail addresses, each once, in order."""
    head = content[:HEAD_CHARACTERS]
    lower = head.lower()
    if "copyright" not in lower and "(c)" not in lower and "©" not in head:
        return []
    found = (_tidied(match[0]) for match in _LINE.finditer(head))
    return list(dict.fromkeys(line for line in found if line))


def _tidied(line: str) -> str:
    """One line as it is to be printed; empty where it names nobody, or is a form to fill in."""
    line = " ".join(_RIGHTS.sub("", _ADDRESS.sub(" ", line)).split()).strip(_ENDS)
    named = re.search(r"[^\W\d_]{2}", re.sub(r"(?i)copyright|\(c\)", "", line)) and not _FORM.search(line)
    return line[:_LONGEST].rstrip() if named else ""


def write_notice(path: Path, entries: Iterable[NoticeEntry]) -> None:
    """Writes the NOTICE file, whole or not at all, the same for the same entries in any order."""
    packages: dict[tuple[str, str], _Package] = defaultdict(_Package)
    for entry in entries:
        packages[entry.package, entry.version].add(entry)
    licences: Counter[str] = Counter()
    for package in packages.values():
        licences.update(package.num_files)
    lines = [
        "NOTICE",
        "",
        f"These documents hold {_count(licences.total(), 'file')} of {_count(len(packages), 'package')}, taken under:",
        "",
        *(f"  {licence}: {_count(licences[licence], 'file')}" for licence in sorted(licences)),
    ]
    for name, version in sorted(packages):
        lines += ["", *_section(f"{name} {version}".rstrip(), packages[name, version])]
    write_atomically(path, "\n".join(lines) + "\n")


def _section(title: str, package: _Package) -> list[str]:
    package.trim(MAX_COPYRIGHTS)
    lines = [title, *(f"  {licence}: {_count(num, 'file')}" for licence, num in sorted(package.num_files.items()))]
    lines += [f"  {line}" for line in sorted(package.copyrights)]
    if package.cut:
        lines.append("  and others")
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
