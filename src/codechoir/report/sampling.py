"""The blocks on the sample: how many files the stated precision asks for, step by step, and the steps in words.

Lays out what curation worked out; computes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from codechoir.report import wording
from codechoir.report.facts import PlanFacts
from codechoir.report.view import Block, Cell, Row, Table, Text

STEPS = {  # column -> its formula, and what it means
    "N": ("as counted", "files at hand, after all that was rejected"),
    "z": ("the normal quantile of (1 + confidence) / 2", "standard errors in half the interval"),
    "n0": (
        "z² p (1 − p) / e²",
        "files that precision e and expected proportion p ask of an endless, unclustered supply",
    ),
    "m": (
        "sum of mᵢ² / sum of mᵢ",
        "files in the repository that a file lies in, on the mean; repository i has mᵢ files",
    ),
    "rho": (
        "(MSB − MSW) / (MSB + (m₀ − 1) MSW), or as set",
        "how alike files of one repository are: mean squares of the log sizes between and within repositories; "
        "undefined for a single repository",
    ),
    "Design effect": (
        "1 + (m − 1) rho",
        "how many times more files it takes as they come in repositories; 1 where rho is undefined",
    ),
    "Inflated": ("n0 × design effect", "files, of an endless supply"),
    "Finite": ("1 / (1 + (inflated − 1) / N)", "the finite-population correction: what is at hand is not endless"),
    "Required": ("inflated × finite, rounded up", "files that reach the precision"),
    "S": ("√(sum of (y − mean)² / (N − 1))", "standard deviation of y, the files' log sizes"),
    "Allocated": (
        "total × N S / sum of N S, or as required",
        "the language's share of a stated total, by Neyman's allocation; without one, what is required",
    ),
    "Chosen": ("as allocated", "files taken, by the seed's order of their keys"),
    "Half width": (
        "z √(p (1 − p) × design effect / n × (N − n) / (N − 1))",
        "half the interval's width with n chosen files; undefined for none",
    ),
}


def blocks(plans: Sequence[PlanFacts], config: Mapping[str, Any]) -> Iterator[Block]:
    """The arithmetic of each language's sample, or that none was drawn."""
    if not plans:
        if "sampling" in config and config["sampling"] is None:
            yield Text("No sample was drawn: every file that passed is kept.")
        return
    asked = _asked(config.get("sampling"))
    yield Table(
        f"Files that the stated precision asks for{asked}",
        ("Language", "N", "Repositories", "z", "n0", "m", "rho", "Design effect", "Inflated", "Finite", "Required"),
        tuple(Row(wording.language_name(plan.language), _size_cells(plan)) for plan in plans),
    )
    yield Table(
        "Files taken, and the precision reached",
        ("Language", "N", "S", "Required", "Allocated", "Chosen", "Half width"),
        tuple(Row(wording.language_name(plan.language), _taken_cells(plan)) for plan in plans),
    )
    steps = tuple(Row(name, (Cell(formula), Cell(words))) for name, (formula, words) in STEPS.items())
    yield Table("The steps of that arithmetic", ("Step", "Formula", "In words"), steps, collapsed=True)


def _asked(settings: object) -> str:
    """The precision e, the confidence and the proportion p, as far as they are told."""
    if not isinstance(settings, Mapping):
        return ""
    names = {"precision": "e", "confidence": "confidence", "proportion": "p"}
    said = [f"{symbol} = {settings[name]}" for name, symbol in names.items() if name in settings]
    return f": {', '.join(said)}" if said else ""


def _size_cells(plan: PlanFacts) -> tuple[Cell, ...]:
    return (
        wording.count(plan.num_files),
        wording.count(plan.num_repositories),
        wording.decimal(plan.z, 3),
        wording.decimal(plan.n0, 1),
        wording.decimal(plan.cluster_size, 2),
        wording.decimal(plan.rho, 3),
        wording.decimal(plan.design_effect, 2),
        wording.decimal(plan.inflated, 1),
        wording.decimal(plan.finite, 4),
        wording.count(plan.required),
    )


def _taken_cells(plan: PlanFacts) -> tuple[Cell, ...]:
    return (
        wording.count(plan.num_files),
        wording.decimal(plan.deviation, 3),
        wording.count(plan.required),
        wording.count(plan.allocated),
        wording.count(plan.chosen),
        wording.decimal(plan.reached, 4),
    )
