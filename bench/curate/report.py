"""The benchmark's page: results in, Markdown out. Measures and judges nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from statistics import median
from textwrap import fill

from bench.curate.measure import Measured
from bench.curate.oracle import Verdict
from bench.curate.peers import common
from bench.pages import machine, met, table

MAX_PEAK_MIB = 400e6 / 2**20
LINEAR_WITHIN = 1.25
MIN_RECALL, RECALL_FROM = 0.95, 0.75
OUR_PACKAGES = ("daft", "pyarrow", "numpy", "numba")


@dataclass(frozen=True, slots=True)
class Scale:
    """A corpus."""

    num_files: int
    megabytes: float  # of content, 10^6 bytes
    languages: tuple[str, ...]


@dataclass(slots=True)
class Result:
    """One tool at one task; fields stay None where a run failed or the task has no such thing."""

    name: str
    is_ours: bool
    target: float | None
    runs: list[Measured]
    steady: bool | None  # the same removals in every round
    removed: int | None = None
    differing: int | None = None  # rows on which it disagrees with the filters in plain Python
    verdict: Verdict | None = None

    @property
    def seconds(self) -> float | None:
        return _median(run.seconds for run in self.runs) if self._worked else None

    @property
    def peak_mib(self) -> float | None:
        return _median(run.peak_mib for run in self.runs) if self._worked else None

    @property
    def _worked(self) -> bool:
        return bool(self.runs) and all(run.exit_code == 0 for run in self.runs)


@dataclass(frozen=True, slots=True)
class Recall:
    """A tool on the planted corpus."""

    name: str
    by_level: dict[float, float]
    unplanted: int  # removed files that are in no planted pair


@dataclass(slots=True)
class Results:
    """Everything the page tells."""

    command: str
    rounds: int
    corpora: dict[str, Scale]
    main: str
    versions: dict[str, str]
    speed: dict[str, list[Result]] = field(default_factory=dict)
    recall: list[Recall] = field(default_factory=list)
    linearity: dict[str, dict[str, list[Measured]]] = field(default_factory=dict)


def page(results: Results) -> str:
    """The whole page."""
    main = results.corpora[results.main]
    parts = [
        "# Curation beside its peers",
        f"Made by `{results.command}`, which wrote this page. {machine()}",
        f"The corpus: {main.num_files:,} files, {main.megabytes:.0f} MB of content in The Stack's columns "
        f"({', '.join(main.languages)}), from packages of PyPI and npm pinned in `bench/curate/corpus.py`, several of "
        "them in two versions, with minified and generated files. Every tool reads the same Parquet files and writes "
        "the numbers of the rows it removes. Times are whole commands, start-up included; medians of "
        f"{results.rounds}, the tools taking turns. Memory is the peak of the whole process tree's proportional set "
        "size. MB are 10^6 bytes of content.",
        "Versions: " + ", ".join(f"{name} {number}" for name, number in _versions(results)) + ".",
    ]
    if "filters" in results.speed:
        parts += _filters(results.speed["filters"], main)
    if "dedup" in results.speed:
        parts += _dedup(results.speed["dedup"], main)
    if results.recall:
        parts += _recall(results.recall, results.corpora["planted"])
    if results.linearity:
        parts += _linearity(results)
    return "\n\n".join(part if part.startswith(("#", "|")) else fill(part, 120) for part in parts) + "\n"


def _filters(found: Sequence[Result], main: Scale) -> list[str]:
    rows = [
        [*_speed_cells(result, found, main), _number(result.removed), _number(result.differing), _steady(result)]
        for result in found
    ]
    header = [*_SPEED_HEADER, "removed", "differ", "same each run"]
    return [
        "## Filters",
        f"Four filters recomputed from content: mean line over {common.MAX_MEAN_LINE} characters, longest line over "
        f"{common.MAX_LINE}, fewer than {common.MIN_ALPHANUM:.0%} letters and digits, a generator's marker in the "
        f"first {common.FIRST_LINES} lines. `differ` counts rows on which a tool and the filters written in plain "
        "Python disagree.",
        table(header, rows),
    ]


def _dedup(found: Sequence[Result], main: Scale) -> list[str]:
    rows = []
    for result in found:
        verdict = result.verdict
        cells = ["–"] * 4
        if verdict is not None:
            cells = [
                f"{verdict.removed:,}",
                _share(verdict.false_removals, verdict.removed),
                _share(verdict.false_any_language, verdict.removed),
                _share(verdict.pairs_left, verdict.num_pairs),
            ]
        rows.append([*_speed_cells(result, found, main), *cells, _steady(result)])
    header = [*_SPEED_HEADER, "removed", "false", "false in any language", "near pairs left", "same each run"]
    told = [
        "## Near-duplicates",
        f"{common.NGRAM}-grams of lower-cased `\\w+` tokens, Jaccard {common.THRESHOLD}; peers with {common.NUM_PERM} "
        f"permutations in {common.BANDS} bands of {common.BAND_ROWS}. An exact oracle that shares no code with any "
        "tool judges: a removal is false where no kept file of the same language (of any language) has an exact "
        f"Jaccard of at least {common.THRESHOLD} with it and no kept file has its content. Near pairs left are pairs "
        "of one language at the threshold of which a tool kept both.",
        table(header, rows),
    ]
    ours = next((result for result in found if result.is_ours and result.peak_mib is not None), None)
    if ours is not None and ours.verdict is not None and ours.peak_mib is not None:
        told.append(
            f"Asked for: no false removal ({met(ours.verdict.false_removals == 0)}), a peak under 400 MB "
            f"({met(ours.peak_mib < MAX_PEAK_MIB)}: {ours.peak_mib * 2**20 / 1e6:.0f} MB)."
        )
    return told


def _recall(found: Sequence[Recall], planted: Scale) -> list[str]:
    levels = sorted({level for recall in found for level in recall.by_level})
    rows = [
        [recall.name, *(f"{recall.by_level[level]:.3f}" for level in levels), f"{recall.unplanted:,}"]
        for recall in found
    ]
    lines = [
        "## Recall",
        f"{planted.num_files:,} files with planted pairs whose exact Jaccard is the level within 0.005, the other "
        "files unrelated. A pair is found where not both files are kept. The last column counts removed files that "
        "belong to no pair.",
        table(["tool", *(f"J = {level:.2f}" for level in levels), "others removed"], rows),
    ]
    ours = next((recall for recall in found if recall.name.startswith("codechoir")), None)
    if ours is not None:
        holds = all(share >= MIN_RECALL for level, share in ours.by_level.items() if level >= RECALL_FROM)
        lines.append(f"Asked for: at least {MIN_RECALL} from {RECALL_FROM} up ({met(holds)}).")
    return lines


def _linearity(results: Results) -> list[str]:
    lines = [
        "## Growth",
        "codechoir alone. Scales are samples of one another that keep a file's versions together; past the natural "
        "files, copies whose identifiers and numbers are enciphered, which resemble nothing in the original. The ratio "
        "is seconds for a MB, against 1x.",
    ]
    for task, scales in results.linearity.items():
        rows, ratios = [], []
        base = None
        for name, runs in scales.items():
            scale = results.corpora[name]
            cells = [name, f"{scale.num_files:,}", f"{scale.megabytes:.0f}"]
            if any(run.exit_code for run in runs):
                rows.append([*cells, "failed", "–", "–"])
                continue
            seconds = _median(run.seconds for run in runs)
            per_mb = seconds / scale.megabytes
            base = base or per_mb
            ratios.append(per_mb / base)
            peak = _median(run.peak_mib for run in runs)
            rows.append([*cells, f"{seconds:.1f}", f"{ratios[-1]:.2f}", f"{peak:.0f}"])
        lines += [f"### {task}", table(["scale", "files", "MB", "seconds", "ratio", "peak MiB"], rows)]
        if len(ratios) == len(scales):
            lines.append(f"Asked for: within {LINEAR_WITHIN} of linear ({met(max(ratios) <= LINEAR_WITHIN)}).")
    return lines


_SPEED_HEADER = ["tool", "seconds", "MB/s", "peak MiB", "ours is faster by", "asked for"]


def _speed_cells(result: Result, found: Sequence[Result], main: Scale) -> list[str]:
    if not result.runs:
        return [result.name, *["–"] * 5]
    seconds, peak = result.seconds, result.peak_mib
    if seconds is None or peak is None:
        return [result.name, "failed", *["–"] * 4]
    ours = next((one.seconds for one in found if one.is_ours), None)
    ratio = None if ours is None or result.is_ours else seconds / ours
    asked = "–"
    if result.target is not None:
        asked = f"{result.target:g}x" + (f" ({met(ratio >= result.target)})" if ratio is not None else "")
    return [
        result.name,
        f"{seconds:.2f}",
        f"{main.megabytes / seconds:.1f}",
        f"{peak:.0f}",
        "–" if ratio is None else f"{ratio:.2f}x",
        asked,
    ]


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.1%})" if whole else f"{part:,}"


def _number(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _steady(result: Result) -> str:
    return {True: "yes", False: "no", None: "–"}[result.steady] if len(result.runs) > 1 else "–"


def _median(values: Iterable[float]) -> float:
    return float(median(values))


def _versions(results: Results) -> list[tuple[str, str]]:
    ours = []
    for name in ("codechoir", *OUR_PACKAGES):
        try:
            ours.append((name, installed_version(name)))
        except PackageNotFoundError:
            continue
    return [*ours, *sorted(results.versions.items())]
