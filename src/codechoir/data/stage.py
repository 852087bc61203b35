"""The curate stage: reads the sources, filters, deduplicates, splits by package, and writes documents and rejections.

Goes in: a CurateConfig and the run's languages. Comes out, below the stage's folder: `documents/LANG/part-*.parquet`
(DOCUMENT_SCHEMA), `rejected/part-*.parquet` (REJECTED_SCHEMA), and the manifest with the counts the report shows.

Runs in two passes, so that memory holds one part's content at a time. The first reads each source's units, filters file
by file and leaves whole parts in `work/`, each unit closed by a JSON file written last. The second knows every file's
hash and package, and copies what is kept. A killed run finds its closed units in `work/` and repeats the rest.
"""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from codechoir.artifacts import Manifest, StageFolder, write_json
from codechoir.console import Progress
from codechoir.data.columns import document_row, measure
from codechoir.data.config import CurateConfig, PackageSource
from codechoir.data.dedup import Entry, Resolution, resolve
from codechoir.data.filters import reject
from codechoir.data.sources import Unit, input_digests, read_unit, units
from codechoir.data.split import held_out_packages
from codechoir.documents import DOCUMENT_SCHEMA, REJECTED_SCHEMA, read_parquet, write_parquet
from codechoir.errors import ConfigError, InputError
from codechoir.languages import language
from codechoir.packages import fetch
from codechoir.records import read_json

VERSION = 1
PART_BYTES = 32 * 2**20  # of content in one part, and so about the memory that one takes
WORK = "work"  # what an interrupted run leaves; gone when the stage is finished
NUM_FETCHES = 4  # at a time: the clients mostly wait

Rows = list[dict[str, Any]]


def curate(config: CurateConfig, languages: Sequence[str], cache: Path, out: Path) -> Manifest:
    """Curates `languages` (Language.id) into `out`; what is finished there already is not done again.

    Raises InputError for sources that are missing, damaged or wrongly licensed and for a language with nothing left,
    ConfigError for an unknown language or a split with an empty side.
    """
    wanted = [language(name) for name in sorted(set(languages))]
    if not wanted:
        raise ConfigError("no language to curate", allowed="one or more languages")
    ids = [found.id for found in wanted]
    stage = StageFolder(
        out, "curate", VERSION, {**config.model_dump(mode="json"), "languages": ids}, input_digests(config, wanted)
    )
    done = stage.finished()
    if done is not None:
        return done
    stage.begin()
    work = out / WORK
    pieces = units(config, wanted)
    _gather(pieces, config, cache, stage)
    resolution = resolve(_entries(work))
    packages = {name: {entry.package for entry in resolution.kept if entry.language == name} for name in ids}
    _check_anything_left(packages, work)
    held_out = held_out_packages(packages, config)
    _write_documents(resolution, held_out, work, out)
    rejected = _write_rejected(resolution, work, out)
    facts = _facts(pieces, resolution, held_out, rejected, ids)
    shutil.rmtree(work)
    return stage.finish(facts)


def _gather(pieces: Sequence[Unit], config: CurateConfig, cache: Path, stage: StageFolder) -> None:
    """The first pass: every unit's files filtered and laid in `work`; closed units are skipped."""
    work = stage.path / WORK
    left = [unit for unit in pieces if not (work / f"{unit.name}.json").exists()]
    _fetch_all(left, cache)
    with Progress("curate", len(pieces), "sources", done=len(pieces) - len(left)) as progress:
        for unit in left:
            _gather_unit(unit, config, cache, work)
            stage.save_time()
            progress.advance(1, str(unit.source))


def _fetch_all(pieces: Sequence[Unit], cache: Path) -> None:
    """Fills the cache, several packages at a time; reading them afterwards asks no registry."""
    packages = {unit.source.package for unit in pieces if isinstance(unit.source, PackageSource)}
    if not packages:
        return
    with Progress("fetch", len(packages), "packages") as progress, ThreadPoolExecutor(NUM_FETCHES) as pool:
        running = {pool.submit(fetch, package, cache): package for package in packages}
        try:
            for one in as_completed(running):
                one.result()
                progress.advance(1, str(running[one]))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _gather_unit(unit: Unit, config: CurateConfig, cache: Path, work: Path) -> None:
    kept: Rows = []
    rejected: Rows = []
    num_bytes = num_parts = 0
    for file in read_unit(unit, cache):
        if file.content is None:
            rejected.append(_rejected_row(file.key, file.language.id, "not-utf8", file.damage))
            continue
        measures = measure(file.content)
        rejection = reject(file.content, measures, config.filters)
        if rejection is not None:
            rejected.append(_rejected_row(file.key, file.language.id, rejection.reason, rejection.detail))
            continue
        row = document_row(file.content, measures, file.language, file.repository)
        kept.append({**row, "key": file.key, "package": file.package, "split": None})
        num_bytes += measures.size
        if num_bytes >= PART_BYTES:
            write_parquet(work / f"{unit.name}-{num_parts:05}.parquet", kept, DOCUMENT_SCHEMA)
            kept, num_bytes, num_parts = [], 0, num_parts + 1
    write_parquet(work / f"{unit.name}-{num_parts:05}.parquet", kept, DOCUMENT_SCHEMA)
    write_parquet(work / f"{unit.name}.rejected.parquet", rejected, REJECTED_SCHEMA)
    write_json(work / f"{unit.name}.json", {"source": str(unit.source), "parts": num_parts + 1})


def _rejected_row(key: str, lang: str, reason: str, detail: str) -> dict[str, str]:
    return {"key": key, "lang": lang, "reason": reason, "detail": detail}


def _parts(work: Path) -> list[Path]:
    """The parts of closed units, in the order of the sources."""
    return [
        work / f"{unit.stem}-{number:05}.parquet"
        for unit in sorted(work.glob("*.json"))
        for number in range(read_json(unit)["parts"])
    ]


def _entries(work: Path) -> Iterator[Entry]:
    for part in _parts(work):
        table = read_parquet(part, ("key", "hexsha", "lang", "package", "size"))
        for number, row in enumerate(table.to_pylist()):
            name = language(row["lang"]).id
            yield Entry(row["key"], row["hexsha"], part.name, number, name, row["package"], row["size"])


def _check_anything_left(packages: Mapping[str, set[str]], work: Path) -> None:
    for name, found in packages.items():
        if not found:
            reasons = Counter(row["reason"] for row in _rejected_rows(work) if row["lang"] == name)
            raise InputError(
                f"nothing is left for {name}",
                seen=", ".join(f"{count} files: {reason}" for reason, count in sorted(reasons.items()))
                or "no file at all",
                next_step="add a source of this language, or drop the language",
            )


def _rejected_rows(work: Path) -> Iterator[dict[str, str]]:
    for path in sorted(work.glob("*.rejected.parquet")):
        yield from read_parquet(path).to_pylist()


def _write_documents(resolution: Resolution, held_out: frozenset[str], work: Path, out: Path) -> None:
    shutil.rmtree(out / "documents", ignore_errors=True)
    by_part: dict[str, dict[int, Entry]] = defaultdict(dict)
    for entry in resolution.kept:
        by_part[entry.part][entry.row] = entry
    num_written: Counter[str] = Counter()
    for part in _parts(work):
        rows: dict[str, Rows] = defaultdict(list)
        for number, row in enumerate(read_parquet(part).to_pylist() if part.name in by_part else []):
            kept = by_part[part.name].get(number)
            if kept is not None:
                split = "held_out" if kept.package in held_out else "train"
                rows[kept.language].append({**row, "key": kept.key, "split": split})
        for name, some in rows.items():
            path = out / "documents" / name / f"part-{num_written[name]:05}.parquet"
            write_parquet(path, some, DOCUMENT_SCHEMA)
            num_written[name] += 1


def _write_rejected(resolution: Resolution, work: Path, out: Path) -> dict[str, Counter[str]]:
    """Writes every rejected file with its reason; the counts by language and reason."""
    shutil.rmtree(out / "rejected", ignore_errors=True)
    duplicates: dict[str, Rows] = defaultdict(list)
    for entry, kept in resolution.duplicates:
        duplicates[_unit_name(entry)].append(_rejected_row(entry.key, entry.language, "duplicate", kept))
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for unit in sorted(work.glob("*.json")):
        rows = read_parquet(work / f"{unit.stem}.rejected.parquet").to_pylist() + duplicates[unit.stem]
        for row in rows:
            counts[row["lang"]][row["reason"]] += 1
        if rows:
            rows.sort(key=lambda row: (row["key"], row["reason"], row["detail"]))
            write_parquet(out / "rejected" / f"part-{unit.stem}.parquet", rows, REJECTED_SCHEMA)
    return counts


def _unit_name(entry: Entry) -> str:
    return entry.part.rpartition("-")[0]


def _facts(
    pieces: Sequence[Unit],
    resolution: Resolution,
    held_out: frozenset[str],
    rejected: Mapping[str, Mapping[str, int]],
    languages: Sequence[str],
) -> dict[str, Any]:
    def side(entries: Sequence[Entry]) -> dict[str, Any]:
        packages = sorted({entry.package for entry in entries})
        return {"documents": len(entries), "bytes": sum(entry.size for entry in entries), "packages": packages}

    by_language = {}
    for name in languages:
        entries = [entry for entry in resolution.kept if entry.language == name]
        by_language[name] = {
            "documents": len(entries),
            "bytes": sum(entry.size for entry in entries),
            "train": side([entry for entry in entries if entry.package not in held_out]),
            "held_out": side([entry for entry in entries if entry.package in held_out]),
        }
    documents = Counter(_unit_name(entry) for entry in resolution.kept)
    sources: dict[str, dict[str, Any]] = {}
    for unit in pieces:
        licence = getattr(unit.source, "files_licence", None) or getattr(unit.source, "licence", "as each row says")
        source = sources.setdefault(
            f"{unit.source} {licence}", {"name": str(unit.source), "licence": licence, "documents": 0}
        )
        source["documents"] += documents[unit.name]
    return {
        "languages": by_language,
        "rejected": {name: dict(sorted(rejected.get(name, {}).items())) for name in languages},
        "sources": list(sources.values()),
    }
