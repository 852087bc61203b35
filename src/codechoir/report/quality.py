"""The headline and the sections on quality: bits per byte, home advantage, every figure.

Works on evaluation's scores and paired comparisons; computes no interval or p-value of its own. A difference is called
better or worse only where its p-value, corrected for the number of languages, is at most 0.05; else it is within noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from codechoir.records import SIGNIFICANCE, Comparison, Score
from codechoir.report import wording
from codechoir.report.facts import MEAN, TUNED, Run, Scores
from codechoir.report.figures import Label, Range, interval_plot
from codechoir.report.view import Block, Cell, Figure, Figures, Row, Section, Table, Text, Verdict
from codechoir.report.wording import BITS, NONE, NOT_RUN, OWN_EXPERT

EQUAL_TOKENS = 0.02  # a relative difference of total tokens that still counts as equal

CAUTIONS = (
    "The universal model is the control. It goes on from the same trunk with the mixed code of all languages, so a "
    "gain over it comes from the experts. Much of any gain over the base is only getting used to raw code.",
    "The embedded base (SmolLM2-135M-Instruct) is a quantised instruct model: some gain over it may be repair of the "
    "quantisation or a return from chat to code, which any further training brings.",
    "Intervals and p-values are over held-out packages (or problems), drawn or exchanged whole, since files of one "
    "package are alike. They leave out what another training seed would change. With fewer than six packages in a "
    "language its interval is too narrow, and no difference there can reach p 0.05: the mean over languages has more.",
    "When a file is scored, prompt routing reads the beginning of that very text, up to the router's prefix length; a "
    "completion's route is chosen from its prompt alone.",
    "Oracle routing is told the language and is a bound, not a system; uniform routing and the soup are controls.",
)


def verdicts(run: Run) -> tuple[Verdict, ...]:
    """Whether the MoE beats the universal model and the base, on the mean and per language.

    The MoE is judged by its first routing that was scored, in a fixed order, never by the best of them; where the
    universal model has read what tuning reads, by the tuned model, since the others have read less.
    """
    order = (TUNED, *wording.ROUTED) if _tuned_tokens(run) else wording.ROUTED
    model = next((each for each in order if run.scores.score(each, MEAN, BITS)), None)
    if model is None:
        answer = "Not run: the MoE has no scores, so nothing is claimed."
        return (Verdict("Does the MoE beat the dense models?", answer, "", (), "missing"),)
    return tuple(_verdict(run, model, against) for against in ("universal", "base"))


def _verdict(run: Run, model: str, against: str) -> Verdict:
    opponent = {"universal": "the universal dense model", "base": "the base"}[against]
    question = f"Does the {wording.model_name(model).replace(', ', ' with ', 1)} beat {opponent}?"
    details = [said] if (said := _by_language(run, model, against)) else []
    mean = run.scores.comparison(model, against, MEAN, BITS)
    if mean is not None and not math.isnan(mean.detectable):
        least = wording.number(mean.detectable, wording.decimals(BITS))
        details.append(f"A true difference of {least} bits per byte is found in about four of five such evaluations.")
    if against == "universal":
        details.append(equal_tokens(run, model))
    score, other = (run.scores.score(each, MEAN, BITS) for each in (model, against))
    if other is None:
        return Verdict(question, f"Not run: {opponent} has no scores.", "", (), "missing")
    assert score is not None
    values = f"{wording.number(score.value, 4)} against {wording.number(other.value, 4)} bits per byte"
    if mean is None:
        answer = f"On the mean: {values}. No paired interval was computed, so nothing is claimed."
        return Verdict(question, answer, "", tuple(details), "missing")
    word = wording.outcome(mean)
    percent = f"{mean.difference / other.value:+.1%}".replace("-", "−") if other.value else ""
    answers = {
        "better": f"Yes, on the mean over languages: {values} ({percent}; lower is better).",
        "worse": f"No, on the mean over languages it is worse: {values} ({percent}; lower is better).",
        "within noise": f"Undecided: on the mean over languages the difference is within noise ({values}).",
    }
    return Verdict(
        question, answers[word], f"{wording.difference_text(mean)} bits per byte", tuple(details), wording.tone(word)
    )


def _by_language(run: Run, model: str, against: str) -> str:
    groups: dict[str, list[str]] = {"better": [], "within noise": [], "worse": [], "not compared": []}
    for language in run.languages:
        found = run.scores.comparison(model, against, language, BITS)
        groups[wording.outcome(found) if found else "not compared"].append(wording.language_name(language))
    said = "; ".join(f"{word} on {wording.listing(names)}" for word, names in groups.items() if names)
    return f"{said[:1].upper()}{said[1:]}." if said else ""


def cautions(run: Run) -> tuple[str, ...]:
    """What to keep in mind when reading any figure of the run."""
    if not run.tune or not (tokens := _tuned_tokens(run)):
        return CAUTIONS
    learned, way = run.tune.facts.tokens, run.branches["universal"].facts.trainable
    less = "" if learned in (None, tokens) else f" (its kept weights learned from {learned:,} of them)"
    told = [
        f"The universal model has read the {tokens:,} tokens that tuning read, and so has the tuned model alone{less}: "
        "experts, and MoE models that were not tuned, stand beside a dense model that has read more than they have."
    ]
    if run.experts and not any(branch.facts.tokens for branch in run.experts.values()):
        told.append(
            "The experts have read nothing of their own: until tuning they are copies of the trunk (sparse upcycling), "
            "so what the tuned model gains is tuning's alone, of more weights than the universal model has."
        )
    if way not in (None, "feed-forward"):
        told.append(
            f"Tuning moves the experts' feed-forward blocks, and the universal model trained otherwise ({way}): they "
            "differ by that as well."
        )
    return (*CAUTIONS, *told)


def _tuned_tokens(run: Run) -> int:
    """Those that the universal model has read because tuning reads them."""
    universal = run.branches.get("universal")
    return universal.facts.tuned_tokens if run.tune and universal else 0


def equal_tokens(run: Run, model: str) -> str:
    """Whether the universal model has seen what the trunk, all experts and, for a tuned `model`, tuning have seen."""
    trunk, universal = run.branches.get("trunk"), run.branches.get("universal")
    seen = [branch.facts.tokens for branch in (trunk, *run.experts.values()) if branch]
    readers = "the trunk and all experts"
    if model == TUNED:
        seen.append(run.tune.facts.tokens if run.tune else None)
        readers = "the trunk, all experts and tuning"
    total = universal.facts.total_tokens if universal else None
    if not run.experts or trunk is None or total is None or None in seen:
        return "Equal total tokens cannot be checked: part of the training was not run here."
    together = sum(tokens for tokens in seen if tokens is not None)
    counts = f"{total:,} tokens for the universal model, {together:,} for {readers} together"
    equal = abs(total - together) <= EQUAL_TOKENS * together
    return f"Equal total tokens: {counts}." if equal else f"NOT at equal total tokens: {counts}."


def bits_section(run: Run) -> Section:
    """Bits per byte on held-out files: the scores, then the differences from the universal model and from the base."""
    if not any(each.metric == BITS for each in run.scores.scores):
        return Section("bits", "Bits per byte", (_missing("Bits per byte were not run."),))
    scores = score_table(
        run,
        BITS,
        f"Bits per byte on held-out files{_scored_part(run)}, with 95% intervals over their packages; lower is better",
        "★ marks the lowest figure of each column; what may be concluded from a difference stands in the next tables, "
        "whose intervals and p-values are of paired differences. The own expert's mean is without interval.",
    )
    differences = [
        difference_table(run, BITS, "universal", "Difference from the universal model in bits per byte; − is better"),
        difference_table(run, BITS, "base", "Difference from the base in bits per byte; − is better"),
    ]
    return Section("bits", "Bits per byte", (scores, *_plots(run), *differences))


def _scored_part(run: Run) -> str:
    """What of them was scored, where that is known."""
    facts = run.generate.facts if run.generate else None
    if facts is None or facts.held_out_tokens is None:
        return ""
    part = "from the line after their middle" if facts.held_out_part == "second-half" else "from their beginning"
    return f", {facts.held_out_tokens:,} tokens {part} at most"


def score_table(run: Run, metric: str, caption: str, note: str = "") -> Table:
    """Models by languages and their mean; each column's best is marked."""
    columns = _columns(run, metric)
    grid = {model: [_score(run, model, name, metric) for name in columns] for model in _rows(run, metric)}
    names = [wording.model_name(model) for model in grid]
    return Table(caption, ("Model", *map(wording.column, columns)), _marked(names, list(grid.values())), note)


def _marked(names: Sequence[str], grid: Sequence[Sequence[Score | None]]) -> tuple[Row, ...]:
    """Rows of scores; in each column the best is marked, unless all are equal."""
    best = [_best(column) for column in zip(*grid, strict=True)]
    return tuple(
        Row(
            name,
            tuple(
                wording.score_cell(score, best=score is not None and score.value == top)
                for score, top in zip(row, best, strict=True)
            ),
        )
        for name, row in zip(names, grid, strict=True)
    )


def _best(column: Sequence[Score | None]) -> float | None:
    found = [score for score in column if score is not None and not math.isnan(score.value)]
    values = {score.value for score in found}
    if len(values) < 2:
        return None
    return min(values) if found[0].metric == BITS else max(values)


def _columns(run: Run, metric: str) -> list[str]:
    """The languages that have a score by this metric, and their mean."""
    scored = {each.language for each in run.scores.scores if each.metric == metric}
    return [name for name in (*run.languages, MEAN) if name in scored]


def _rows(run: Run, metric: str) -> list[str]:
    """The models that every table names, then any other that has a score."""
    others = {
        each.model for each in run.scores.scores if each.metric == metric and not each.model.startswith("expert-")
    }
    return [*run.named(wording.MODEL_ROWS), *sorted(others - set(wording.MODEL_ROWS))]


def _is_own_mean(model: str, language: str) -> bool:
    return model == OWN_EXPERT and language == MEAN


def _score(run: Run, model: str, language: str, metric: str) -> Score | None:
    if _is_own_mean(model, language):
        return _own_mean(run, metric)
    return run.scores.score(f"expert-{language}" if model == OWN_EXPERT else model, language, metric)


def _own_mean(run: Run, metric: str) -> Score | None:
    """The mean of the experts, each on its own language; None where one is missing."""
    found = [_score(run, OWN_EXPERT, name, metric) for name in _columns(run, metric) if name != MEAN]
    values = [score.value for score in found if score is not None]
    if not values or len(values) < len(found):
        return None
    nan = math.nan
    mean = math.fsum(values) / len(values)
    return Score(
        model=OWN_EXPERT, language=MEAN, metric=metric, value=mean, low=nan, high=nan, count=len(values), clusters=0
    )


def _difference(run: Run, model: str, against: str, language: str, metric: str) -> Comparison | None:
    own = f"expert-{language}" if model == OWN_EXPERT else model
    return run.scores.comparison(own, against, language, metric)


def difference_table(run: Run, metric: str, against: str, caption: str) -> Table:
    """Models by languages: paired differences from `against`, their intervals and corrected p-values."""
    columns = _columns(run, metric)
    rows = []
    for model in _rows(run, metric):
        found = [_difference(run, model, against, name, metric) for name in columns]
        if model in wording.ROUTED or any(found):
            missing = [NONE if _score(run, model, name, metric) else NOT_RUN for name in columns]
            cells = tuple(wording.difference_cell(each, word) for each, word in zip(found, missing, strict=True))
            rows.append(Row(wording.model_name(model), cells))
    note = (
        "95% intervals of the paired difference on the same files or problems, and p-values of a permutation test, by "
        f"Holm corrected for the number of languages: above {SIGNIFICANCE} chance may have made the difference."
    )
    return Table(
        caption, ("Model", *map(wording.column, columns)), tuple(rows), f"{note}{_detectable(run, metric, against)}"
    )


def _detectable(run: Run, metric: str, against: str) -> str:
    """How small the differences are that such an evaluation finds."""
    found = [
        each.detectable
        for each in run.scores.comparisons
        if (each.metric, each.against) == (metric, against) and not math.isnan(each.detectable)
    ]
    if not found:
        return ""
    ends = dict.fromkeys(wording.number(end, wording.decimals(metric)) for end in (min(found), max(found)))
    return f" The least difference found in about four of five such evaluations is {' to '.join(ends)}, by cell."


def _plots(run: Run) -> list[Block]:
    """One interval plot a language and one of the mean, all on one scale: differences from the universal model."""
    columns = (*run.languages, MEAN)
    models = [model for model in wording.MODEL_ROWS if model not in ("universal", "base", "trunk", "moe-uniform")]
    found = {(name, model): _difference(run, model, "universal", name, BITS) for name in columns for model in models}
    ends = [end for each in found.values() if each for end in (each.low, each.high) if not math.isnan(end)]
    if not ends:
        return []
    figures: list[Figure] = []
    for name in columns:
        present = {model: each for model in models if (each := found[name, model])}
        if not present:
            continue
        rows = [
            Range(wording.model_name(model), each.difference, each.low, each.high, wording.tone(wording.outcome(each)))
            for model, each in present.items()
        ]
        said = (
            f"{wording.model_name(m)}: {wording.difference_text(e)}, {wording.outcome(e)}" for m, e in present.items()
        )
        label = Label(
            f"difference-{len(figures)}",
            f"{wording.column(name)}: difference from the universal model",
            "; ".join(said),
        )
        figures.append(interval_plot(label, "bits per byte, left of 0 is better", rows, (min(ends), max(ends))))
    return [Figures(tuple(figures))]


def home_section(run: Run) -> Section:
    """Each expert on its own language beside the other experts and the universal model."""
    if not any(run.scores.score(f"expert-{name}", name, BITS) for name in run.languages):
        return Section("home", "Home advantage", (_missing("The experts were not run on their own languages."),))
    rows = []
    for name in run.languages:
        expert = f"expert-{name}"
        cells = [wording.score_cell(run.scores.score(expert, name, BITS)), _others(run, name)]
        for against in ("other-experts", "universal", "base"):
            cells.append(wording.difference_cell(run.scores.comparison(expert, against, name, BITS)))
        rows.append(Row(wording.language_name(name), tuple(cells)))
    columns = ("Language", "Own expert", "Mean of the others", "Own − others", "Own − universal", "Own − base")
    home = Table("Bits per byte of each expert at home; differences are paired, − is better", columns, tuple(rows))
    grid = [[run.scores.score(f"expert-{own}", name, BITS) for name in run.languages] for own in run.languages]
    matrix = Table(
        "Bits per byte of every expert on every language",
        ("Expert", *map(wording.column, run.languages)),
        _marked([wording.language_name(own) for own in run.languages], grid),
        "★ marks the best expert on each language: at home it should be the language's own.",
    )
    return Section("home", "Home advantage", (home, matrix))


def _others(run: Run, language: str) -> Cell:
    """The mean of the other experts' scores on `language`."""
    found = [run.scores.score(f"expert-{own}", language, BITS) for own in run.languages if own != language]
    values = [score.value for score in found if score]
    return Cell(wording.number(math.fsum(values) / len(values), 4)) if values else Cell(NOT_RUN, tone="missing")


def figures_section(scores: Scores) -> Section:
    """Every score and comparison, as in scores.json."""
    if not scores.scores:
        return Section("all", "Every figure", (_missing("Evaluation was not run."),))
    rows = [
        Row(
            wording.model_name(s.model),
            (
                Cell(wording.column(s.language)),
                Cell(s.metric),
                wording.score_cell(s),
                wording.count(s.count),
                wording.count(s.clusters),
            ),
        )
        for s in scores.scores
    ]
    pairs = [
        Row(
            wording.model_name(c.model),
            (
                Cell(wording.model_name(c.against)),
                Cell(wording.column(c.language)),
                Cell(c.metric),
                wording.difference_cell(c),
                wording.decimal(c.p_value, 4),
                wording.decimal(c.p_adjusted, 4),
                wording.decimal(c.detectable, wording.decimals(c.metric)),
                wording.count(c.count),
                wording.count(c.clusters),
            ),
        )
        for c in scores.comparisons
    ]
    columns: tuple[str, ...] = ("Model", "Language", "Metric", "Value", "Count", "Clusters")
    note = "Counted are documents, gaps or problems; clusters are their packages, or the problems across languages."
    tables = [Table("Every score", columns, tuple(rows), note, collapsed=True)]
    if pairs:
        columns = (
            "Model",
            "Against",
            "Language",
            "Metric",
            "Difference",
            "p",
            "p by Holm",
            "Detectable",
            "Count",
            "Clusters",
        )
        note = (
            "Detectable is the least true difference that such an evaluation finds in about four of five cases, after "
            "Holm's correction; none where so few packages or problems prove nothing."
        )
        tables.append(Table("Every paired comparison", columns, tuple(pairs), note, collapsed=True))
    return Section("all", "Every figure", tuple(tables))


def _missing(text: str) -> Text:
    return Text(text, missing=True)
