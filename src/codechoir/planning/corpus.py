"""Counts what the recipe's sources hold in each of the 30 languages, before anything is curated.

Goes in: a CurateConfig and the run's languages. Comes out: by language, what is *there* in the archives, folders and
tables, whatever the recipe takes of it, and what is *taken* from them. Files of archives and folders are counted by
their names and sizes alone, without reading them; tables by the size that they state, where every row states one.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import daft.functions as fn
from daft import col

from codechoir.console import Progress
from codechoir.data.config import CurateConfig, FolderSource, PackageSource, TableSource
from codechoir.data.engine import start
from codechoir.data.sources.reading import Unit, read_unit, wanted_languages
from codechoir.data.sources.tables import read_table, told
from codechoir.languages import LANGUAGES, Language
from codechoir.registries import PackageGoneError

_ALL = tuple(LANGUAGES.values())
_SIZE = re.compile(r"too-large: (\d+) bytes")


@dataclass(frozen=True, slots=True)
class Amount:
    """Some of a language's files."""

    num_files: int = 0
    num_bytes: int = 0
    num_packages: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(
            self.num_files + other.num_files,
            self.num_bytes + other.num_bytes,
            self.num_packages + other.num_packages,
        )


Amounts = Mapping[str, Amount]  # by Language.id; a language that is not in it has nothing


@dataclass(frozen=True, slots=True)
class Corpus:
    """What the sources hold."""

    there: Amounts
    taken: Amounts  # of the run's languages
    gone: tuple[str, ...]  # optional packages that their registry no longer has


@dataclass(slots=True)
class _Totals:
    """The amounts of several sources, added up; what two sources share counts once in `there`."""

    there: dict[str, Amount] = field(default_factory=lambda: defaultdict(Amount))
    taken: dict[str, Amount] = field(default_factory=lambda: defaultdict(Amount))
    seen: set[tuple[str, str]] = field(default_factory=set)

    def add(self, place: str, there: Amounts, taken: Amounts) -> None:
        for name, amount in taken.items():  # two sources may take different files of one package
            self.taken[name] += replace(amount, num_packages=0) if (place, name) in self.seen else amount
        for name, amount in there.items():
            if (place, "") not in self.seen:
                self.there[name] += amount
        self.seen |= {(place, ""), *((place, name) for name in taken)}

    def has(self, place: str) -> bool:
        """Whether what is there has been counted."""
        return (place, "") in self.seen


def count_corpus(config: CurateConfig, languages: Sequence[Language], cache: Path) -> Corpus:
    """What the sources hold; packages that the cache lacks are fetched. Raises UserError as reading them does."""
    totals = _Totals()
    gone = []
    with Progress("count", len(config.sources), "sources") as progress:
        for source in config.sources:
            wanted = wanted_languages(source, languages)
            try:
                if isinstance(source, TableSource):
                    counted = _table_amounts(source)
                    totals.add(str(source), counted, _only(counted, wanted))
                else:
                    whole = source.model_copy(update={"include": ("*",), "exclude": ()})
                    place = source.package.sha256 if isinstance(source, PackageSource) else str(source)
                    there = {} if totals.has(place) else _unit_amounts(whole, _ALL, cache)
                    totals.add(place, there, _unit_amounts(source, wanted, cache) if wanted else {})
            except PackageGoneError:
                if not (isinstance(source, PackageSource) and source.optional):
                    raise
                gone.append(str(source))
            progress.advance(1, str(source))
    return Corpus(dict(totals.there), dict(totals.taken), tuple(gone))


def _only(amounts: Amounts, wanted: Sequence[Language]) -> Amounts:
    return {found.id: amounts[found.id] for found in wanted if found.id in amounts}


def _unit_amounts(source: PackageSource | FolderSource, languages: Sequence[Language], cache: Path) -> Amounts:
    """The files of an archive or a folder, by their names."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    packages: dict[str, set[str]] = defaultdict(set)
    for name, package, num_bytes in _sizes(Unit("", source, tuple(languages)), cache):
        counts[name][0] += 1
        counts[name][1] += num_bytes
        packages[name].add(package)
    return {name: Amount(files, total, len(packages[name])) for name, (files, total) in counts.items()}


def _sizes(unit: Unit, cache: Path) -> Iterator[tuple[str, str, int]]:
    """(Language.id, package, bytes) of each file."""
    # A limit of 0 bytes has every file told as too large, with its size: none but the empty ones is read.
    for row in read_unit(unit, cache, max_file_bytes=0):
        told_size = _SIZE.fullmatch(row["damage"] or "")
        yield row["language"], row["package"], int(told_size[1]) if told_size else 0


def _table_amounts(source: TableSource) -> Amounts:
    """The rows of a table; contents are read only where a row does not state its size."""
    start("native")
    rows = read_table(source, _ALL, max_file_bytes=None)
    with told(source):
        counted = (
            rows.groupby("language")
            .agg(
                col("key").count("all").alias("files"),
                col("stored_size").count().alias("stated"),
                col("stored_size").sum().alias("bytes"),
                col("package").count_distinct().alias("packages"),
            )
            .to_pylist()
        )
        sizes = {row["language"]: row["bytes"] for row in counted}
        if any(row["stated"] < row["files"] for row in counted):
            lengths = rows.select("language", fn.length_bytes(col("content")).alias("bytes"))
            sums = lengths.groupby("language").agg(col("bytes").sum()).to_pylist()
            sizes = {row["language"]: row["bytes"] or 0 for row in sums}
    return {row["language"]: Amount(row["files"], int(sizes[row["language"]]), row["packages"]) for row in counted}
