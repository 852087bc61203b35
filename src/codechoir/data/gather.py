"""Lays the corpus out in batches: archives and folders are written down as Parquet, tables stay where they are.

Goes in: the sources and the run's languages. Comes out: `Batch`es of gathered rows (GATHERED_SCHEMA and `source`),
each about as large as the config allows. What one unit gives lies in `gathered/UNIT/` below the work folder; the unit
is closed by a JSON file written last, so that a killed run repeats no closed one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import daft
import pyarrow as pa
from daft import DataFrame

from codechoir.artifacts import StageFolder, write_json
from codechoir.console import Progress, say
from codechoir.data.config import CurateConfig, PackageSource, TableSource
from codechoir.data.sources.reading import Row, Unit, read_unit, units, wanted_languages
from codechoir.data.sources.rows import GATHERED_SCHEMA
from codechoir.data.sources.tables import Scan, read_scan, scans
from codechoir.documents import write_parquet
from codechoir.languages import Language
from codechoir.packages import fetch
from codechoir.records import read_json
from codechoir.registries import PackageGoneError

MIB = 2**20
NUM_FETCHES = 4  # at a time: the clients mostly wait
_SCHEMA = GATHERED_SCHEMA.append(pa.field("source", pa.string()))


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of the corpus. `frame` reads them anew each time."""

    name: str
    sources: str  # for messages
    frame: Callable[[], DataFrame]
    table: TableSource | None = None  # where it is read in place


def gather(config: CurateConfig, languages: Sequence[Language], cache: Path, stage: StageFolder) -> list[Batch]:
    """The corpus in batches, in the order of the sources. Raises InputError for what is missing or damaged."""
    pieces = units(config, languages)
    work = stage.path / "work" / "gathered"
    left = [unit for unit in pieces if not (work / f"{unit.name}.json").exists()]
    gone = _fetch_all(left, cache)
    with Progress("gather", len(pieces), "sources", done=len(pieces) - len(left)) as progress:
        for unit in left:
            _write_unit(unit, config, cache, work, gone.get(unit.name))
            stage.save_time()
            progress.advance(1, str(unit.source))
    return [*_unit_batches(pieces, work, config), *_table_batches(config, languages)]


def gone_packages(config: CurateConfig, languages: Sequence[Language], work: Path) -> list[str]:
    """The packages that their registries no longer have, as `gather` found."""
    closed = [read_json(work / "gathered" / f"{unit.name}.json") for unit in units(config, languages)]
    return [unit["source"] for unit in closed if unit["gone"]]


def _fetch_all(pieces: Sequence[Unit], cache: Path) -> dict[str, str]:
    """Fills the cache, several packages at a time; by unit, why a package that may be missing is not to be had."""
    wanted = {unit.name: unit.source for unit in pieces if isinstance(unit.source, PackageSource)}
    gone: dict[str, str] = {}
    if not wanted:
        return gone
    with Progress("fetch", len(wanted), "packages") as progress, ThreadPoolExecutor(NUM_FETCHES) as pool:
        running = {pool.submit(fetch, source.package, cache): name for name, source in wanted.items()}
        try:
            for one in as_completed(running):
                source = wanted[running[one]]
                try:
                    one.result()
                except PackageGoneError as error:
                    if not source.optional:
                        raise
                    gone[running[one]] = str(error.seen)
                    say(f"{source} is not to be had and is left out: {error.seen}")
                progress.advance(1, str(source))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return gone


def _write_unit(unit: Unit, config: CurateConfig, cache: Path, work: Path, gone: str | None) -> None:
    sizes: list[int] = []
    rows: list[Row] = []
    size = 0

    def close_part() -> None:
        write_parquet(work / unit.name / f"{len(sizes):05}.parquet", rows, _SCHEMA)
        sizes.append(size)

    for row in read_unit(unit, cache, config.max_file_mib * MIB) if gone is None else ():
        rows.append({**row, "source": str(unit.source)})
        size += len(row["content"] or "")
        if size >= config.batch_mib * MIB:
            close_part()
            rows, size = [], 0
    if rows:
        close_part()
    write_json(work / f"{unit.name}.json", {"source": str(unit.source), "parts": sizes, "gone": gone})


def _unit_batches(pieces: Sequence[Unit], work: Path, config: CurateConfig) -> Iterator[Batch]:
    """The parts of all units, small ones together."""
    paths: list[Path] = []
    names: list[str] = []
    total = 0
    for unit in pieces:
        for number, size in enumerate(read_json(work / f"{unit.name}.json")["parts"]):
            if paths and total + size > config.batch_mib * MIB:
                yield _unit_batch(paths, names)
                paths, names, total = [], [], 0
            paths.append(work / unit.name / f"{number:05}.parquet")
            names.append(str(unit.source))
            total += size
    if paths:
        yield _unit_batch(paths, names)


def _unit_batch(paths: Sequence[Path], names: Sequence[str]) -> Batch:
    shown = names[0] if len(set(names)) == 1 else f"{names[0]} to {names[-1]}"
    return Batch(
        f"{paths[0].parent.name}-{paths[0].stem}", shown, partial(_read, [str(path.resolve()) for path in paths])
    )


def _read(paths: list[str]) -> DataFrame:
    return daft.read_parquet(paths)


def _table_batches(config: CurateConfig, languages: Sequence[Language]) -> Iterator[Batch]:
    for number, source in enumerate(config.sources):
        wanted = wanted_languages(source, languages)
        if isinstance(source, TableSource) and wanted:
            for part, scan in enumerate(scans(source, config.batch_mib * MIB)):
                frame = partial(_read_table, source, scan, wanted, config.max_file_mib * MIB)
                yield Batch(f"{number:04}-{part:05}", str(source), frame, source)


def _read_table(source: TableSource, scan: Scan, languages: Sequence[Language], max_file_bytes: int) -> DataFrame:
    return read_scan(source, scan, languages, max_file_bytes).with_column("source", daft.lit(str(source)))
