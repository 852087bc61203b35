"""The section on training: every branch's figures, its curves, and the search for the learning rates.

Lays out the train stage's facts; computes nothing but means.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from codechoir.report import wording
from codechoir.report.config import ReportConfig
from codechoir.report.facts import MIXED, Run, TrainFacts
from codechoir.report.figures import PALETTE, Axes, Label, Series, line_chart, thinned
from codechoir.report.view import Block, Cell, Figure, Figures, Row, Section, Table, Text
from codechoir.report.wording import NOT_RUN


def training_section(run: Run, config: ReportConfig) -> Section:
    """Every branch's tokens, losses and speed, and its loss curve."""
    rows = []
    for name in dict.fromkeys((*MIXED, *run.languages, *run.branches)):
        branch = run.branches.get(name)
        if branch is None:
            cells = (Cell(NOT_RUN, tone="missing"), *[Cell(wording.NONE, tone="missing")] * 8)
        else:
            f = branch.facts
            counts = (f.tokens, f.total_tokens, f.steps, f.trainable_parameters)
            reals = (
                (f.first_loss, ".3f"),
                (f.last_loss, ".3f"),
                (f.tokens_per_second, ",.0f"),
                (f.learning_rate if f.tokens else None, ".2g"),
            )
            cells = (*map(wording.count, counts), *(wording.real(value, form) for value, form in reals))
            cells = (*cells, Cell(f.precision or wording.NONE))
        rows.append(Row(_branch_name(name), cells))
    columns = ("Branch", "Tokens", "With its trunk", "Steps", "Trained parameters", "First loss", "Last loss")
    note = "Losses are nats a token on each branch's own training text: they do not compare across branches."
    table = Table("Branches", (*columns, "Tokens/s", "Learning rate", "Precision"), tuple(rows), note)
    mixed = [name for name in run.branches if name in MIXED]
    groups = {"mixed": ("Mixed code", mixed), "experts": ("Experts", list(run.experts))}
    figures = [
        figure
        for name, (title, branches) in groups.items()
        if (figure := _loss_figure(f"losses-{name}", title, run, branches, config.curve_points))
    ]
    figures += [figure for name in run.languages if (figure := _bits_figure(name, run))]
    blocks: list[Block] = [table, *_skipped(run), *_matched(run), *_search(run)]
    return Section("training", "Training", (*blocks, Figures(tuple(figures))) if figures else tuple(blocks))


def _loss_figure(name: str, title: str, run: Run, branches: Sequence[str], limit: int) -> Figure | None:
    """The branches' losses over the tokens that each model has seen, its trunk's included."""
    curves = {branch: thinned(_points(run.branches[branch].facts, None), limit) for branch in branches}
    caption = f"{title}: training loss over the tokens seen, the trunk's included"
    return _chart(Label(name, caption, ""), "nats a token", curves, run)


def _bits_figure(language: str, run: Run) -> Figure | None:
    """What trunk, own expert and universal model gave on one language while they were trained."""
    branches = [name for name in ("trunk", language, "universal") if name in run.branches]
    curves = {name: tuple(_points(run.branches[name].facts, language)) for name in branches}
    caption = f"{wording.language_name(language)}: bits per byte on documents held back from training, while it went on"
    return _chart(Label(f"training-bits-{language}", caption, ""), "bits per byte", curves, run)


def _points(facts: TrainFacts, language: str | None) -> list[tuple[float, float]]:
    """A branch's losses, or its bits per byte on a language, over the tokens of its trunk and itself."""
    before = facts.total_tokens - facts.tokens if facts.total_tokens and facts.tokens else 0
    measured = facts.losses if language is None else [(x, by.get(language)) for x, by in facts.bits_per_byte]
    return [(before + x, y) for x, y in measured if y is not None and math.isfinite(y)]


def _chart(label: Label, unit: str, curves: Mapping[str, Sequence[tuple[float, float]]], run: Run) -> Figure | None:
    """A line a branch; the alternative text is each one's first and last point."""
    lines, said = [], []
    for branch, points in curves.items():
        if points:
            lines.append(Series(_branch_name(branch), tuple(points), _style(branch, run)))
            said.append(f"{_branch_name(branch)} from {points[0][1]:.3f} to {points[-1][1]:.3f}")
    told = Label(label.name, label.caption, "; ".join(said))
    return line_chart(told, Axes("tokens", unit), lines) if lines else None


def _style(branch: str, run: Run) -> int:
    """The same in all charts; an expert's is never that of the trunk or of the universal model."""
    if branch in MIXED:
        return MIXED.index(branch)
    return len(MIXED) + list(run.experts).index(branch) % (PALETTE - len(MIXED))


def _skipped(run: Run) -> Iterator[Text]:
    """Which branches passed over bad steps: they have learned from less than they read."""
    told = [
        f"{_branch_name(name)} {len(branch.facts.skipped_steps):,} of {wording.count(branch.facts.steps).text}"
        for name, branch in run.branches.items()
        if branch.facts.skipped_steps
    ]
    if told:
        yield Text(f"Steps whose update was skipped, as loss or gradient was not sound: {wording.listing(told)}.")


def _matched(run: Run) -> Iterator[Text]:
    """What the universal model is equal to the experts in, or to experts and tuning together."""
    universal = run.branches.get("universal")
    if universal is None or universal.facts.data_matched is None:
        return
    readers = "all experts and tuning together" if universal.facts.tuned_tokens else "all experts together"
    data = f"data-matched (the weights that were kept have learned from the very tokens of {readers})"
    compute = "compute-matched (it read as many tokens as all experts together, at the same cost a token)"
    told = {
        (True, True): f"{data} and {compute}",
        (True, False): f"{data}, but not {compute}",
        (False, True): f"{compute}, but not {data}",
        (False, False): f"neither {data} nor {compute}",
    }
    if universal.facts.tuned_tokens:
        passes = f"; what tuning costs a token hangs on its experts a token, {run.tune.facts.top_k}" if run.tune else ""
        learned = run.tune.facts.tokens if run.tune else None
        matched = universal.facts.data_matched and learned in (None, universal.facts.tuned_tokens)
        yield Text(f"The universal model is {'' if matched else 'not '}{data}{passes}.")
        return
    yield Text(f"The universal model is {told[universal.facts.data_matched, bool(universal.facts.compute_matched)]}.")


def _search(run: Run) -> Iterator[Table]:
    """Every try of the learning-rate search; the experts have one search, on the first language's."""
    first = next(iter(run.languages), None)
    arms = (
        {"trunk": "trunk", first: f"experts, tried on {wording.language_name(first)}"} if first else {"trunk": "trunk"}
    )
    tried = {
        name: run.branches[branch].facts.search
        for branch, name in (arms | {"universal": "universal"}).items()
        if branch in run.branches and run.branches[branch].facts.search
    }
    if not tried:
        return
    rates = sorted({each.learning_rate for tries in tried.values() for each in tries})
    rows = []
    for name, tries in tried.items():
        bits = {each.learning_rate: each.bits_per_byte for each in tries}
        best = min((value for value in bits.values() if value is not None), default=None)
        shown = [(bits.get(rate), wording.real(bits.get(rate), ".4f")) for rate in rates]
        cells = [replace(cell, best=value is not None and value == best) for value, cell in shown]
        rows.append(Row(name, (*cells, wording.count(max(each.tokens or 0 for each in tries)))))
    columns = ("Branch", *(f"{rate:g}" for rate in rates), "Tokens")
    note = "Each rate trains on the branch's first tokens, under a schedule shrunk to them; the lowest is taken."
    yield Table(
        "Learning-rate search: mean bits per byte on documents held back from training", columns, tuple(rows), note
    )


def _branch_name(name: str) -> str:
    return name if name in MIXED else f"expert, {wording.language_name(name)}"
