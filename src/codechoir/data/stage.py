"""The curate stage: gathers code, judges each file, removes duplicates, splits and samples, writes what is left.

Goes in: a CurateConfig and the run's languages. Comes out, below the stage's folder: `documents/LANG/part-*.parquet`
(DOCUMENT_SCHEMA), `rejected/part-*.parquet` (REJECTED_SCHEMA), `NOTICE`, and the manifest with the counts that the
report shows.

Contents pass in batches, and each step leaves its result whole in `work/` or not at all: a killed run finds what is
there and repeats the rest. Only verified pairs, and figures by package, ever lie in this process.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from daft import col

from codechoir.artifacts import Manifest, StageFolder, write_json
from codechoir.console import Progress
from codechoir.data.config import CurateConfig
from codechoir.data.corpus.recall import estimate_recall
from codechoir.data.duplicates import find_clashes, find_copies, find_near_duplicates
from codechoir.data.engine import over_contents, read, start, store
from codechoir.data.examine import Steps, examine
from codechoir.data.files.contamination import load_benchmarks
from codechoir.data.files.notice import write_notice
from codechoir.data.gather import Batch, gather, gone_packages
from codechoir.data.output import Curated, facts, notice_entries, write_outputs
from codechoir.data.selection import choose
from codechoir.data.sources.reading import input_digests
from codechoir.data.sources.tables import told
from codechoir.errors import ConfigError, InputError
from codechoir.languages import language
from codechoir.records import read_json

VERSION = 3
WORK = "work"  # what an interrupted run leaves; gone when the stage is finished
_HOW = {"engine", "ray_address", "batch_mib"}  # settings that change how it is done, not what comes out


def curate(config: CurateConfig, languages: Sequence[str], cache: Path, out: Path) -> Manifest:
    """Curates `languages` (Language.id) into `out`; what is finished there already is not done again.

    Raises InputError for sources that are missing, damaged or wrongly licensed and for a language with nothing left,
    ConfigError for an unknown language or a split with an empty side.
    """
    wanted = [language(name) for name in sorted(set(languages))]
    if not wanted:
        raise ConfigError("no language to curate", allowed="one or more languages")
    ids = [found.id for found in wanted]
    start(config.engine, config.ray_address)
    benchmarks = load_benchmarks(config.decontaminate, cache)
    settings = {**config.model_dump(mode="json", exclude=_HOW), "languages": ids}
    inputs = {**input_digests(config, wanted), "benchmarks": benchmarks.digest}
    stage = StageFolder(out, "curate", VERSION, settings, inputs)
    if (done := stage.finished()) is not None:
        return done
    stage.begin()
    work = _work(out, config)

    batches = gather(config, wanted, cache, stage)
    examined = _examine_all(batches, Steps(config, benchmarks), stage)
    _check_anything_left(ids, examined)
    copies = find_copies(examined, work)
    near = find_near_duplicates(examined, copies, work, config.dedup)
    selection = choose(examined, [copies, near], work, config)
    verdicts = [copies, near, *([selection.verdicts] if selection.verdicts else [])]
    curated = Curated(examined, verdicts, find_clashes(examined, verdicts, work), selection.held_out)
    write_outputs(curated, out)
    write_notice(out / "NOTICE", notice_entries(curated))
    told_facts = {
        **facts(curated, ids, out),
        "gone": gone_packages(config, wanted, work),
        "near_duplicates": read_json(work / "near.json"),
        "recall": estimate_recall(examined, copies, config),
        "sampling": [asdict(plan) for plan in selection.plans],
    }
    shutil.rmtree(work)
    return stage.finish(told_facts)


def _work(out: Path, config: CurateConfig) -> Path:
    """The folder for what is half done; emptied where it was cut into batches of another size."""
    work = out / WORK
    cut = work / "batch_mib.json"
    if not cut.exists() or read_json(cut) != config.batch_mib:
        shutil.rmtree(work, ignore_errors=True)
        write_json(cut, config.batch_mib)
    return work


def _examine_all(batches: Sequence[Batch], steps: Steps, stage: StageFolder) -> list[Path]:
    """The second step: every batch's files judged and cleaned, a folder each."""
    folders = [stage.path / WORK / "examined" / batch.name for batch in batches]
    left = [(batch, folder) for batch, folder in zip(batches, folders, strict=True) if not folder.exists()]
    with Progress("examine", len(batches), "batches", done=len(batches) - len(left)) as progress:
        for batch, folder in left:
            with told(batch.table) if batch.table else nullcontext(), over_contents():
                store(examine(batch.frame(), steps), folder)
            stage.save_time()
            progress.advance(1, batch.sources)
    return folders


def _check_anything_left(languages: Sequence[str], examined: Sequence[Path]) -> None:
    counted: list[dict[str, Any]] = []
    if examined:
        grouped = read(*examined).groupby("language", "reason").agg(col("key").count().alias("count"))
        counted = grouped.sort(["language", "reason"]).to_pylist()
    for name in languages:
        mine = [row for row in counted if row["language"] == name]
        if not any(row["reason"] is None for row in mine):
            raise InputError(
                f"nothing is left for {name}",
                seen=", ".join(f"{row['count']} files: {row['reason']}" for row in mine) or "no file at all",
                next_step="add a source of this language, or drop the language",
            )
