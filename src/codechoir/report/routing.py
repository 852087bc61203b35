"""The section on routing: where each language's text went, how often rightly, and what right routing is worth.

Shares come from the routes recorded with the held-out log-likelihoods, accuracies from compose's own held-out
measurement. Computes nothing else but the share of the gap between uniform and oracle routing that a router recovers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from codechoir.model.routing_gap import recovered
from codechoir.report import wording
from codechoir.report.config import ReportConfig
from codechoir.report.facts import MEAN, ComposeFacts, Confusion, Run, TuneFacts
from codechoir.report.figures import Axes, Label, Series, heat_map, line_chart
from codechoir.report.view import Block, Cell, Figure, Figures, Row, Section, Table, Text
from codechoir.report.wording import BITS, NOT_RUN


def routing_section(run: Run, config: ReportConfig) -> Section:
    """Confusions as heat maps, router accuracies, and the share of the gap that routing recovers."""
    compose = run.compose.facts if run.compose else None
    blocks: list[Block] = [*_confusions(run, compose, config.prefix)]
    if compose and compose.prompt_router and compose.prompt_router.accuracy:
        blocks.append(_prefix_table(run, compose))
    else:
        blocks.append(Text("The prompt router's accuracy by prefix length was not run.", missing=True))
    if compose and compose.token_router and compose.token_router.accuracy_by_layer:
        blocks.append(_layers(compose))
    else:
        blocks.append(Text("The token router's accuracy by layer was not run.", missing=True))
    blocks.append(_gap_table(run))
    if run.tune:
        blocks += _tuning(run, run.tune.facts)
    return Section("routing", "Routing", tuple(blocks))


def _confusions(run: Run, compose: ComposeFacts | None, prefix: int) -> list[Block]:
    missing: list[Block] = []
    shown: dict[str, tuple[str, Confusion]] = {}  # figure's name -> caption's begin and shares
    for model in run.named(wording.ROUTED):
        if model in run.routes:
            shown[model] = (f"{wording.model_name(model)}, mean over held-out files", run.routes[model])
        else:
            missing.append(Text(f"{wording.model_name(model)}: its routes were not run.", missing=True))
    lengths = compose.prompt_router.confusion if compose and compose.prompt_router else {}
    if lengths:
        length = str(prefix) if str(prefix) in lengths else max(lengths, key=lambda each: (len(each), each))
        shown["prefix"] = (f"Prompt router at {length} tokens, held-out prefixes", lengths[length])
    if not shown:
        return missing
    figures = [_confusion_figure(f"confusion-{name}", title, run, shares) for name, (title, shares) in shown.items()]
    return [Figures(tuple(figures)), _confusion_table(run, list(shown.values())), *missing]


def _experts(run: Run, *confusions: Confusion) -> list[str]:
    """The composed experts in their order, then any other that was sent text."""
    known = run.compose.facts.experts if run.compose else run.languages
    sent = {name for confusion in confusions for row in confusion.values() for name in row}
    return list(dict.fromkeys((*known, *sorted(sent))))


def _confusion_figure(name: str, title: str, run: Run, confusion: Confusion) -> Figure:
    rows = [language for language in run.languages if language in confusion]
    experts = _experts(run, confusion)
    said = "; ".join(
        f"{wording.language_name(row)} to "
        + ", ".join(f"{wording.language_name(e)} {confusion[row].get(e, 0.0):.3f}" for e in experts)
        for row in rows
    )
    values = {
        (wording.language_name(row), wording.language_name(expert)): confusion[row].get(expert, 0.0)
        for row in rows
        for expert in experts
    }
    caption = f"{title}: share of each language (row) that each expert (column) read"
    names = [wording.language_name(row) for row in rows]
    return heat_map(Label(name, caption, said), names, [wording.language_name(e) for e in experts], values)


def _confusion_table(run: Run, shown: Sequence[tuple[str, Confusion]]) -> Table:
    experts = _experts(run, *(confusion for _, confusion in shown))
    rows = tuple(
        Row(
            f"{title}: {wording.language_name(language)}",
            tuple(Cell(wording.number(confusion[language].get(expert, 0.0), 3)) for expert in experts),
        )
        for title, confusion in shown
        for language in run.languages
        if language in confusion
    )
    columns = ("Text", *map(wording.language_name, experts))
    return Table("The same shares as a table", columns, rows, collapsed=True)


def _prefix_table(run: Run, compose: ComposeFacts) -> Table:
    router = compose.prompt_router
    assert router is not None
    lengths = sorted(router.accuracy, key=lambda each: (len(each), each))
    rows = [Row("All languages", tuple(wording.share(router.accuracy[length]) for length in lengths))]
    for language in run.languages:
        if language in router.accuracy_by_language:
            by = router.accuracy_by_language[language]
            rows.append(
                Row(wording.language_name(language), tuple(wording.share(by.get(length)) for length in lengths))
            )
    columns = ("Language", *(f"{length} tokens" for length in lengths))
    return Table("Prompt router: accuracy on held-out files by the length of the prefix", columns, tuple(rows))


def _layers(compose: ComposeFacts) -> Figures:
    assert compose.token_router is not None
    layers = compose.token_router.accuracy_by_layer
    points = tuple((float(i), value) for i, value in enumerate(layers) if value is not None and math.isfinite(value))
    said = ", ".join(f"layer {round(x)} {y:.3f}" for x, y in points)
    caption = (
        "Token router: share of tokens kept from its fit whose first choice is their own language's expert, by layer"
    )
    lines = [Series("token router", points, 2)]
    if compose.experts:
        chance = 1 / len(compose.experts)
        lines.append(Series(f"chance ({chance:.2f})", ((0.0, chance), (float(len(layers) - 1), chance)), 1))
        said += f"; chance is {chance:.3f}"
    figure = line_chart(Label("token-router", caption, said), Axes("layer", "accuracy", (0.0, 1.0)), lines)
    return Figures((figure,))


def _gap_table(run: Run) -> Table:
    columns = (*run.languages, MEAN)
    rows = tuple(
        Row(wording.model_name(model), tuple(_recovered_cell(run, model, language) for language in columns))
        for model in run.named(wording.ROUTED)
    )
    return Table(
        "Share of the gap in bits per byte between uniform (0%) and oracle (100%) routing that each router recovers",
        ("Routing", *map(wording.column, columns)),
        rows,
        "A point figure without interval: read it only where the gap itself is large.",
    )


def _tuning(run: Run, tune: TuneFacts) -> list[Block]:
    """Which step of tuning was the best, and losses before it and there."""
    what = {
        "routers": "The token routers were",
        "experts": "The experts, and not their token routers, were",
        "whole": "The experts and their token routers were",
    }
    told = (
        f"{what.get(tune.what or '', 'The model was')} tuned by gradient for {tune.steps} steps at top-{tune.top_k}. "
    )
    read = tune.tokens if tune.tokens_read is None else tune.tokens_read
    if read is not None:
        told += f"That read {read:,} tokens beside those of the trunk and the experts. "
    told += (
        f"The best step by validation loss was {tune.best_step}."
        if tune.best_step
        else "No step was better than step 0 by validation loss: the model is as it was composed."
    )
    columns = (*run.languages, MEAN)
    rows = []
    for side, name in (("before", "step 0"), ("after", "best step")):
        for routing, by in tune.losses.get(side, {}).items():
            rows.append(Row(f"{routing} routing, {name}", tuple(wording.real(by.get(each), ".4f") for each in columns)))
        found = tune.recovered.get(side, {})
        cells = tuple(
            wording.share(value) if (value := found.get(each)) is not None else Cell("no gap", tone="missing")
            for each in columns
        )
        rows.append(Row(f"share of the gap recovered, {name}", cells))
    caption = "Tuning: loss in nats a token on text of training documents that tuning has not read"
    return [Text(told), Table(caption, ("Routing", *map(wording.column, columns)), tuple(rows))]


def _recovered_cell(run: Run, model: str, language: str) -> Cell:
    values: Mapping[str, float] = {
        each: score.value
        for each in ("moe-uniform", "moe-oracle", model)
        if (score := run.scores.score(each, language, BITS))
    }
    if len(values) < 3:
        return Cell(NOT_RUN, tone="missing")
    found = recovered(values["moe-uniform"], values["moe-oracle"], values[model])
    return wording.share(found) if found is not None else Cell("no gap", tone="missing")
