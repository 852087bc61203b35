"""The sections on how the result came about: cost, proofs, and what was run where.

Lays out the stages' facts; computes nothing but sums.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from codechoir.report import wording
from codechoir.report.facts import Run
from codechoir.report.machine import Environment
from codechoir.report.view import Block, Cell, Code, Row, Section, Table, Text
from codechoir.report.wording import NOT_RUN


def cost_section(run: Run) -> Section:
    """Parameters, in all and active for a token, and the speed of each model."""
    compose, generate = run.compose, run.generate
    blocks: list[Block] = []
    if compose is None:
        blocks.append(Text("Composition was not run here.", missing=True))
    else:
        names = {"top1": "active, top-1", "top2": "active, top-2", "uniform": "active, uniform", "dense": "dense model"}
        active = compose.facts.active_parameters
        rows = [Row("MoE, in all", (wording.count(compose.facts.total_parameters),))]
        rows += [Row(names.get(name, name), (wording.count(number),)) for name, number in active.items()]
        blocks.append(Table("Parameters", ("Model", "Parameters"), tuple(rows)))
    if generate is None:
        blocks.append(Text("Generation was not run here.", missing=True))
        return Section("cost", "Cost", tuple(blocks))
    models = generate.facts.models
    order = [name for name in run.named(wording.MODEL_ROWS) if name != wording.OWN_EXPERT]
    rows = []
    for name in dict.fromkeys((*order, *models)):
        facts = models.get(name)
        speeds = (facts.scored_tokens_per_second, facts.generated_tokens_per_second) if facts else (None, None)
        cells = (wording.count(facts.active_parameters if facts else None), *(wording.real(x, ",.1f") for x in speeds))
        rows.append(Row(wording.model_name(name), cells if facts else (Cell(NOT_RUN, tone="missing"), *cells[1:])))
    columns = ("Model", "Active parameters", "Scored tokens/s", "Generated tokens/s")
    blocks.append(Table("Speed on this machine", columns, tuple(rows)))
    if generate.facts.skipped:
        skipped = tuple(Row(str(name), (Cell(str(why)),)) for name, why in generate.facts.skipped.items())
        blocks.append(Table("What generation skipped, and why", ("Name", "Reason"), skipped))
    return Section("cost", "Cost", tuple(blocks))


def proofs_section(run: Run) -> Section:
    """The checks made at composition: the MoE gives its parts' logits."""
    proofs = run.compose.facts.proofs if run.compose else None
    if proofs is None or (proofs.identical_experts is None and not proofs.fixed_route):
        return Section("proofs", "Proofs", (Text("The proofs were not run.", missing=True),))
    rows = []
    if proofs.identical_experts:
        rows.append(("Identical experts against the trunk", proofs.identical_experts))
    for name, proof in proofs.fixed_route.items():
        rows.append((f"Route fixed on {wording.language_name(name)} against its expert", proof))
    table = Table(
        "Largest difference of the logits when the model was composed",
        ("Proof", "Max |difference|", "Relative to the largest |logit|", "Backend"),
        tuple(
            Row(
                what,
                (
                    wording.real(proof.max_abs_difference, ".3g"),
                    wording.real(proof.relative, ".3g"),
                    Cell(proof.backend or wording.NONE),
                ),
            )
            for what, proof in rows
        ),
    )
    return Section("proofs", "Proofs", (table,))


def provenance_section(run: Run, environment: Environment, recipe: Mapping[str, Any]) -> Section:
    """Recipe, versions, machine and wall time."""
    stages = run.stages()
    seconds = [
        Row(name, (Cell(clock(manifest.seconds)), Cell(manifest.digest[:12]))) for name, manifest in stages.items()
    ]
    seconds += [
        Row(name, (Cell(NOT_RUN, tone="missing"), Cell(wording.NONE, tone="missing")))
        for name in ("curate", "train/trunk", "train/universal", "compose", "generate", "evaluate")
        if name not in stages
    ]
    total = sum(manifest.seconds for manifest in stages.values())
    seconds.append(Row("all", (Cell(clock(total)), Cell(""))))
    devices = sorted({branch.facts.device for branch in run.branches.values() if branch.facts.device})
    machine = {**environment.machine, **({"Trained on": ", ".join(devices)} if devices else {})}
    blocks: list[Block] = [
        Table("Wall time", ("Stage", "Time", "Digest"), tuple(seconds)),
        Table("Machine that wrote this report", ("What", "Value"), _pairs(machine)),
        Table("Versions", ("Package", "Version"), _pairs(environment.versions)),
    ]
    if recipe:
        blocks.append(
            Code(
                "The recipe, every default spelled out",
                yaml.safe_dump(plain(recipe), sort_keys=False, allow_unicode=True),
            )
        )
    else:
        blocks.append(Text("No recipe was given.", missing=True))
    return Section("run", "What was run", tuple(blocks))


def plain(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe in JSON's types alone; other values as their text."""
    values = json.loads(json.dumps(recipe, default=str))
    assert isinstance(values, dict)
    return values


def clock(seconds: float) -> str:
    """Seconds as "12.3 s", "4 min 05 s" or "1 h 02 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min {rest:02} s"


def _pairs(values: Mapping[str, str]) -> tuple[Row, ...]:
    return tuple(Row(name, (Cell(value),)) for name, value in values.items())
