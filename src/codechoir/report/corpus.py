"""The section on the corpus: what curation kept, what it rejected and why, and how far its estimates reach.

Lays out the curate stage's facts and settings. Computes nothing but sums, the recall of what was counted, and the
recall that MinHash LSH has in theory. A fact or setting that is not there is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from codechoir.report import sampling, wording
from codechoir.report.facts import CurateFacts, Finished, RecallFacts, Run
from codechoir.report.figures import Axes, Label, Series, line_chart
from codechoir.report.view import Block, Cell, Figure, Figures, Row, Section, Table, Text
from codechoir.report.wording import NONE

MIB = 2**20
LONGEST_LIST = 100  # names that one cell or sentence holds; the manifest has them all
_CURVE_POINTS = 50  # of the theoretical recall
_ROUNDING = 1e-9  # what two writings of one threshold may differ by

REASONS = {  # in the order in which the steps look
    "too-large": "larger than files are read",
    "unreadable": "could not be read from its source",
    "not-utf8": "not UTF-8, so what it says is not known",
    "no-content": "the source has a row for it, but no content",
    "licence-unknown": "no licence is stated, or one that is no SPDX expression",
    "licence-not-allowed": "its licence is known and not among those allowed",
    "auto-generated": "says, or shows by its shape, that a program wrote it",
    "vendored": "its source says that it is a copy of another project's file",
    "empty": "nothing but blanks",
    "too-short": "too few lines or characters",
    "mean-line-length": "its lines are too long on the mean: data or packed code",
    "max-line-length": "one line is too long: data or packed code",
    "alphanum-fraction": "too few letters and digits",
    "markup": "XML under another language's name",
    "encoded-data": "much of it is base64, hexadecimal or escapes",
    "text-ratio": "HTML with too little visible text",
    "does-not-parse": "too much of it is not its language, it ends midway, or a merge is unresolved",
    "comment-ratio": "too few or too many comments",
    "contaminated": "holds a problem of a benchmark that the models are judged by",
    "duplicate": "the same content as a file that ranks before it",
    "near-duplicate": "nearly the same as a file that is kept, by their exact similarity",
    "not-sampled": "sound, but beyond the sample that the stated precision asks for",
}

SETTINGS = {  # by their place in the stage's settings
    "max_file_mib": "Largest file that is read, MiB",
    "licences.min_rating": "Least rating of a licence",
    "licences.allowed": "Licences allowed besides",
    "filters.max_mean_line_length": "Longest mean line, characters",
    "filters.max_line_length": "Longest line, characters",
    "filters.min_alphanum_fraction": "Least share of letters and digits",
    "filters.max_encoded_run": "Longest piece of encoded data, characters",
    "filters.max_encoded_fraction": "Largest share of encoded data",
    "filters.min_visible_text": "Visible text that HTML must exceed, share",
    "filters.min_comment_fraction": "Least share of comments",
    "filters.max_comment_fraction": "Largest share of comments",
    "filters.max_error_fraction": "Largest share that does not parse",
    "filters.max_error_fractions": "The same, by language",
    "secrets.skip": "Kinds of secrets left as they are",
    "decontaminate.against": "Benchmarks kept out",
    "decontaminate.ngram": "Words in a row that count as found",
    "decontaminate.threshold": "Share of a problem that makes a file contaminated",
    "dedup.threshold": "Jaccard similarity of near-duplicates",
    "dedup.ngram": "Tokens in a shingle",
    "dedup.bands": "Bands of the LSH",
    "dedup.rows": "MinHash values in a band",
    "dedup.min_tokens": "Fewest tokens of a file that is compared",
    "sampling.precision": "Half width of the interval asked for",
    "sampling.confidence": "Confidence of the interval",
    "sampling.total": "Files in all",
    "held_out_fraction": "Share of packages held out where none is named",
    "seed": "Seed",
}


def corpus_section(run: Run) -> Section:
    """What curation kept and rejected, from where, and how."""
    if run.curate is None:
        return Section("corpus", "Corpus", (Text("Curation was not run here.", missing=True),))
    return Section("corpus", "Corpus", tuple(_blocks(run.curate)))


def _blocks(curate: Finished[CurateFacts]) -> Iterator[Block]:
    facts, config = curate.facts, curate.manifest.config
    yield _kept(facts)
    yield from _rejected(facts)
    yield from _remarks(facts)
    yield from _near_duplicates(facts, config)
    yield from _recall(facts, config)
    yield from sampling.blocks(facts.sampling, config)
    yield _packages(facts)
    if facts.sources:
        sources = tuple(
            Row(each.name, (Cell(each.licence or "not stated"), wording.count(each.documents)))
            for each in facts.sources
        )
        note = "NOTICE in the curate stage's folder names what went in." if "NOTICE" in curate.manifest.outputs else ""
        yield Table("Sources and their licences", ("Source", "Licence", "Files"), sources, note, collapsed=True)
    yield from _settings(config)


def _kept(facts: CurateFacts) -> Table:
    rows = []
    for name, language in facts.languages.items():
        rejected = sum(facts.rejected.get(name, {}).values())
        sides = (language.train, language.held_out)
        counts = [wording.count(language.documents), wording.count(rejected), _mib(language.bytes)]
        counts += [cell for side in sides for cell in (wording.count(side.documents), _mib(side.bytes))]
        rows.append(Row(wording.language_name(name), tuple(counts)))
    columns = ("Language", "Kept files", "Rejected files", "Kept MiB", "Train files", "Train MiB", "Held-out files")
    return Table("Files kept and rejected", (*columns, "Held-out MiB"), tuple(rows))


def _rejected(facts: CurateFacts) -> Iterator[Table]:
    """A row a reason, in the order of the steps; reasons without a known meaning come last."""
    found = {reason for counts in facts.rejected.values() for reason in counts}
    languages = list(dict.fromkeys((*facts.languages, *facts.rejected)))
    rows = []
    for reason in (*(name for name in REASONS if name in found), *sorted(found - REASONS.keys())):
        counts = [facts.rejected.get(name, {}).get(reason, 0) for name in languages]
        cells = (*map(wording.count, counts), wording.count(sum(counts)))
        meaning = Cell(REASONS[reason]) if reason in REASONS else Cell(NONE, tone="missing")
        rows.append(Row(reason, (*cells, meaning)))
    if rows:
        columns = ("Reason", *map(wording.language_name, languages), "All", "Meaning")
        note = "A file counts under the first reason that a step found."
        yield Table("Rejected files by reason", columns, tuple(rows), note)


def _remarks(facts: CurateFacts) -> Iterator[Block]:
    """What was changed, left out or doubted."""
    if facts.replaced is not None:
        what = "secrets or personal data, such as keys and email addresses"
        yield Text(f"Pieces of {what}, that were replaced in the kept files: {facts.replaced:,}.")
    if facts.gone:
        yield Text(f"Left out, as their registries no longer have them: {_shortened(facts.gone)}.")
    if facts.doubtful:
        rows = tuple(Row(doubt, (wording.count(files),)) for doubt, files in facts.doubtful.items())
        yield Table("Kept files of doubtful language", ("Doubt", "Files"), rows, collapsed=True)
    if facts.differing_columns:
        rows = tuple(
            Row(", ".join(names.split()), (wording.count(files),)) for names, files in facts.differing_columns.items()
        )
        note = "Curation works with what it measured on the content itself; what the source stored only counts here."
        yield Table("Stored columns that their content contradicts", ("Columns", "Files"), rows, note, collapsed=True)


def _near_duplicates(facts: CurateFacts, config: Mapping[str, Any]) -> Iterator[Table]:
    near = facts.near_duplicates
    if near is None:
        return
    threshold = _number(config, "dedup.threshold")
    least = "" if threshold is None else f" of {threshold:g} or more"
    counts = {
        "Pairs proposed and compared exactly": near.compared,
        f"Of these, with a Jaccard similarity{least}": near.verified,
        "Files removed": near.removed,
        "Crowded buckets": near.crowded_buckets,
    }
    note = (
        "Each file was removed for a pair with a file that is kept, verified by their exact similarity: the precision "
        "is 1 by construction. Files that share a bucket of the LSH are a proposed pair. In a crowded bucket only a "
        "few files are compared with all others there, which the recall below does not tell."
    )
    rows = tuple(Row(name, (wording.count(value),)) for name, value in counts.items())
    yield Table("Near-duplicates", ("What", "Number"), rows, note)


def lsh_recall(similarity: float, bands: float, rows: float) -> float:
    """The chance that two files share a band: 1 - (1 - J^rows)^bands (Leskovec et al. 2020, 3.4.2)."""
    return float(1 - (1 - similarity**rows) ** bands)


def _recall(facts: CurateFacts, config: Mapping[str, Any]) -> Iterator[Block]:
    """The realised recall by similarity, beside the theoretical one."""
    if not facts.recall:
        if _setting(config, "dedup.recall_sample") == 0:
            yield Text("The recall of the near-duplicates' search was not estimated.", missing=True)
        return
    threshold, sample, bands, rows_a_band = (
        _number(config, f"dedup.{name}") for name in ("threshold", "recall_sample", "bands", "rows")
    )
    rows = []
    for each in facts.recall:
        theory = Cell(NONE, tone="missing")
        if bands is not None and rows_a_band is not None:
            ends = (wording.number(lsh_recall(end, bands, rows_a_band), 3) for end in (each.low, each.high))
            theory = Cell(" to ".join(ends))
        rows.append(_recall_row(f"{each.low:g} to {each.high:g}", [each], theory))
    above = [each for each in facts.recall if threshold is not None and each.low >= threshold - _ROUNDING]
    if above:
        name = f"{min(each.low for each in above):g} and above"
        rows.append(_recall_row(name, above, Cell(NONE, tone="missing")))
    files = "A sample of files" if sample is None else f"A sample of up to {sample:,.0f} files"
    note = (
        f"{files} was compared exactly with all files of the same language. The recall is the share of those pairs "
        "that the LSH proposed. In theory it is 1 − (1 − J^rows)^bands at similarity J, here at both ends of the "
        "interval. Pairs below the threshold are no near-duplicates and stand here for the curve alone."
    )
    columns = ("Jaccard similarity", "Pairs", "Proposed", "Realised recall", "Theoretical recall")
    yield Table("Realised recall of the near-duplicates' search, estimated on a sample", columns, tuple(rows), note)
    if figure := _recall_figure(facts.recall, bands, rows_a_band):
        yield Figures((figure,))


def _recall_row(name: str, intervals: Sequence[RecallFacts], theory: Cell) -> Row:
    pairs, proposed = sum(each.pairs for each in intervals), sum(each.proposed for each in intervals)
    recall = wording.decimal(proposed / pairs, 3) if pairs else Cell(NONE, tone="missing")
    return Row(name, (wording.count(pairs), wording.count(proposed), recall, theory))


def _recall_figure(intervals: Sequence[RecallFacts], bands: float | None, rows: float | None) -> Figure | None:
    """The realised recall as a step an interval, with gaps where it has no pairs; nothing where no interval has any."""
    lines, said = [], []
    for has_pairs, run in groupby(intervals, key=lambda each: each.pairs > 0):
        if has_pairs:
            found = list(run)
            points = tuple((x, each.proposed / each.pairs) for each in found for x in (each.low, each.high))
            lines.append(Series("realised", points, 2))
            said += [f"{each.proposed / each.pairs:.3f} from {each.low:g} to {each.high:g}" for each in found]
    if not lines:
        return None
    if bands is not None and rows is not None:
        low, high = intervals[0].low, intervals[-1].high
        places = [low + (high - low) * number / _CURVE_POINTS for number in range(_CURVE_POINTS + 1)]
        lines.append(Series("theoretical", tuple((x, lsh_recall(x, bands, rows)) for x in places), 1))
    label = Label(
        "near-duplicate-recall", "Recall of the near-duplicates' search over the similarity of a pair", "; ".join(said)
    )
    return line_chart(label, Axes("Jaccard similarity", "recall", (0.0, 1.0)), lines)


def _packages(facts: CurateFacts) -> Table:
    rows = tuple(
        Row(
            wording.language_name(name),
            (Cell(_shortened(each.train.packages)), Cell(_shortened(each.held_out.packages))),
        )
        for name, each in facts.languages.items()
    )
    return Table("Packages on each side of the split", ("Language", "Train", "Held-out"), rows, collapsed=True)


def _settings(config: Mapping[str, Any]) -> Iterator[Table]:
    missing = object()
    found = ((place, words, _setting(config, place, missing)) for place, words in SETTINGS.items())
    rows = tuple(Row(words, (Cell(_said(value)), Cell(place))) for place, words, value in found if value is not missing)
    if rows:
        yield Table("Settings of the curation", ("What", "Value", "Under curate in the recipe"), rows, collapsed=True)


def _setting(config: Mapping[str, Any], place: str, missing: object = None) -> Any:
    """The setting at a dotted place."""
    value: Any = config
    for name in place.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return missing
        value = value[name]
    return value


def _number(config: Mapping[str, Any], place: str) -> float | None:
    """The setting, if it is a finite number."""
    value = _setting(config, place)
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _said(value: object) -> str:
    """A setting's value for readers."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_said(each)}" for name, each in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_said, value)) or "none"
    return "none" if value is None else str(value)


def _shortened(names: Sequence[str]) -> str:
    """The names, the first of them only where they are many."""
    more = len(names) - LONGEST_LIST
    return ", ".join(names[:LONGEST_LIST]) + (f" and {more:,} more" if more > 0 else "")


def _mib(size: int) -> Cell:
    return Cell(f"{size / MIB:,.2f}")
