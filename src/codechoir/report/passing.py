"""The sections on pass rates and on infilling: scores, differences, what was skipped, and how the programs ended.

Lays out evaluation's scores, comparisons and facts; computes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from codechoir.records import Status
from codechoir.report import wording
from codechoir.report.facts import EvaluateFacts, Run
from codechoir.report.quality import difference_table, score_table
from codechoir.report.view import Block, Cell, Row, Section, Table, Text
from codechoir.report.wording import BITS, EXACT_MATCH


def pass_section(run: Run) -> Section:
    """Pass rates, what was skipped, and how the programs ended."""
    blocks: list[Block] = []
    metrics = {each.metric for each in run.scores.scores}
    rates = sorted(metrics - {BITS, EXACT_MATCH}, key=_metric_order)
    if not rates:
        blocks.append(Text("Pass rates were not run.", missing=True))
    for metric in rates:
        blocks += _tables(run, metric, "problems solved, with 95% intervals over the problems")
    skipped = {**(run.evaluate.facts.skipped if run.evaluate else {}), **run.scores.skipped}
    scored = {each.language for each in run.scores.scores if each.metric in rates}
    if rates:
        skipped |= {
            name: "no reason was recorded" for name in run.languages if name not in scored and name not in skipped
        }
    if skipped:
        rows = tuple(Row(wording.language_name(name), (Cell(str(reason)),)) for name, reason in skipped.items())
        blocks.append(Table("Languages whose problems were not run, and why", ("Language", "Reason"), rows))
    if run.evaluate and run.evaluate.facts.statuses:
        blocks.append(_statuses(run.evaluate.facts.statuses))
    if run.evaluate:
        facts = run.evaluate.facts
        blocks += _remarks(facts)
        problems = "; ".join(f"{wording.language_name(name)} {number:,}" for name, number in facts.problems.items())
        tools = "; ".join(f"{wording.language_name(name)}: {version}" for name, version in facts.toolchains.items())
        said = (f"Problems: {problems}.", f"Toolchains: {tools}.", f"Sandbox: {facts.sandbox}.")
        here = (problems, tools, facts.sandbox)
        blocks += [Text(text) for text, present in zip(said, here, strict=True) if present]
    return Section("pass", "Pass rates", tuple(blocks))


def infilling_sections(run: Run) -> tuple[Section, ...]:
    """Exact match of infilled lines, where a model was asked for any."""
    reasons = run.generate.facts.not_infilled if run.generate else {}
    blocks: list[Block] = []
    if any(each.metric == EXACT_MATCH for each in run.scores.scores):
        what = "lines cut out that were written back exactly, with 95% intervals over their packages"
        blocks += _tables(run, EXACT_MATCH, what)
    elif reasons:
        blocks.append(Text("Infilling was not run.", missing=True))
    if reasons:
        left_out = "; ".join(f"{wording.model_name(model)} ({reason})" for model, reason in reasons.items())
        blocks.append(Text(f"Models that were asked for no infilling: {left_out}."))
    return (Section("infilling", "Infilling", tuple(blocks)),) if blocks else ()


def _tables(run: Run, metric: str, what: str) -> Iterator[Table]:
    """A metric's scores, and the differences from the dense models where there are any."""
    caption = f"{metric}: share of the {what}; higher is better"
    yield score_table(run, metric, caption, "★ marks the highest figure of each column.")
    for against, opponent in (("universal", "the universal model"), ("base", "the base")):
        if any((each.metric, each.against) == (metric, against) for each in run.scores.comparisons):
            yield difference_table(run, metric, against, f"Difference from {opponent} in {metric}; + is better")


def _remarks(facts: EvaluateFacts) -> Iterator[Text]:
    """What the problems leave out, how far verdicts hung on the machine, what the pairing of the models rests on."""
    without = [(name, len(reasons)) for name, reasons in facts.untranslatable.items() if reasons]
    if without:
        counts = "; ".join(f"{wording.language_name(name)} {count}" for name, count in without)
        yield Text(f"Left out, as the language cannot express them (evaluate/manifest.json has the reasons): {counts}.")
    time_outs = facts.time_outs
    if time_outs is not None and time_outs.first is not None and time_outs.recovered is not None:
        yield Text(
            f"Programs that ran out of time at first: {time_outs.first:,}. Each was run again, alone on the machine, "
            f"and that counts. {time_outs.recovered:,} then ended otherwise: a flake rate of "
            f"{wording.share(time_outs.flake_rate).text} of all {time_outs.programs or 0:,} programs."
        )
    if facts.same_seeds is False:
        yield Text("The models' samples come from different seeds: they are paired by problem, not by sample.")


def _metric_order(metric: str) -> tuple[str, int]:
    name, _, k = metric.partition("@")
    return name, int(k) if k.isdigit() else 0


def _statuses(statuses: dict[str, dict[str, dict[str, int]]]) -> Table:
    known = [status.value for status in Status]
    seen = {status for by in statuses.values() for counts in by.values() for status in counts}
    columns = [*(name for name in known if name in seen), *sorted(seen - set(known))]
    rows = [
        Row(
            f"{wording.model_name(model)} on {wording.language_name(name)}",
            tuple(wording.count(counts.get(column, 0)) for column in columns),
        )
        for model, by in statuses.items()
        for name, counts in by.items()
    ]
    return Table("How the programs ended", ("Model and language", *columns), tuple(rows), collapsed=True)
