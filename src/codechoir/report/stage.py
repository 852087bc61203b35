"""The report stage: reads a run's finished stages and writes report.md, index.html, scores.json and figures/*.svg.

Owns the order of the sections. Judges nothing anew: every figure comes from a manifest, from scores.json or from the
recorded routes. The date is that of the last finished stage, so the same run on the same machine gives the same files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from codechoir.artifacts import Manifest, StageFolder, write_atomically, write_json
from codechoir.records import Record
from codechoir.report import corpus, passing, process, quality, render, routing, training, wording
from codechoir.report.config import ReportConfig
from codechoir.report.facts import Run, read_run
from codechoir.report.machine import Environment, environment
from codechoir.report.view import Page

VERSION = 6


def report(
    config: ReportConfig, run: Path, recipe: Mapping[str, Any], models_digest_inputs: Mapping[str, str], out: Path
) -> Manifest:
    """Writes the report of the run in folder `run` to `out`, unless this very report is there.

    `recipe` is shown as the resolved recipe. `models_digest_inputs` are the digests of what was reported on; those of
    the stages found finished in `run` are added, so that a report is made anew when a stage is finished later. Raises
    InputError where a file of the run is damaged.
    """
    found = read_run(run)
    if recipe.get("tune", {}) is None:  # what an earlier recipe tuned is not this run's
        found = replace(found, tune=None)
    inputs = {**{name: manifest.digest for name, manifest in found.stages().items()}, **models_digest_inputs}
    settings = {**config.model_dump(mode="json"), "run": found.name, "recipe": process.plain(recipe)}
    folder = StageFolder(out, "report", VERSION, settings, inputs)
    if done := folder.finished():
        return done
    folder.begin()
    page = build(config, found, recipe, environment())
    for figure in page.figures():
        write_atomically(out / "figures" / f"{figure.name}.svg", render.svg(figure))
    write_json(out / "scores.json", scores(found))
    write_atomically(out / "report.md", render.markdown(page))
    write_atomically(out / "index.html", render.html(page))
    headline = [{"question": v.question, "answer": v.answer, "figure": v.figure} for v in page.verdicts]
    return folder.finish({"headline": headline, "figures": len(page.figures())})


def build(config: ReportConfig, run: Run, recipe: Mapping[str, Any], surroundings: Environment) -> Page:
    """The report as data: the headline, then its grounds, then how they came about."""
    ended = f"last stage finished {run.finished:%Y-%m-%d %H:%M} UTC" if run.finished else "no stage is finished"
    return Page(
        config.title,
        f"Run {run.name}, {ended}",
        quality.verdicts(run),
        quality.cautions(run),
        (
            quality.bits_section(run),
            quality.home_section(run),
            passing.pass_section(run),
            *passing.infilling_sections(run),
            routing.routing_section(run, config),
            corpus.corpus_section(run),
            training.training_section(run, config),
            process.cost_section(run),
            process.proofs_section(run),
            process.provenance_section(run, surroundings, recipe),
            quality.figures_section(run.scores),
        ),
    )


def scores(run: Run) -> dict[str, Any]:
    """The figures for other programs: as records, undefined is null; with the outcomes and the routes."""
    found = run.scores
    return {
        "run": run.name,
        "scores": [_plain(each) for each in found.scores],
        "comparisons": [{**_plain(each), "outcome": wording.outcome(each)} for each in found.comparisons],
        "skipped": dict(found.skipped),
        "routes": {model: {name: dict(by) for name, by in each.items()} for model, each in run.routes.items()},
    }


def _plain(record: Record) -> dict[str, Any]:
    values = record.model_dump()
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}
