"""Tells the benchmark's results as a Markdown page. Measures nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from bench.evaluate.measure import Scored, Timed
from bench.pages import machine, met, table

# Programs a second with two workers, against the toolchain driven directly and in turn.
TARGETS = {
    **dict.fromkeys(("python", "php", "lua", "ruby", "perl", "shell", "go", "rust"), 1.5),
    "javascript": 1.3,
    "cpp": 6.0,
    "java": 5.0,
    "typescript": 5.0,
}
MAX_OVERHEAD_MS = 20.0
MIN_HUMAN_EVAL_RATE = 60.0
MAX_GROWTH_MIB = 64.0


@dataclass(slots=True)
class Speeds:
    """One language's rounds."""

    polled: list[Timed] = field(default_factory=list)
    blocking: list[Timed] = field(default_factory=list)
    ours: list[Timed] = field(default_factory=list)


@dataclass(slots=True)
class Hostile:
    """What became of the hostile corpus, by language."""

    contained: dict[str, int] = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Results:
    """Everything that was measured. A part that was not run is empty."""

    command: str
    rounds: int
    workers: int
    sandbox: str
    versions: dict[str, str]
    speeds: dict[str, Speeds] = field(default_factory=dict)
    human_eval: list[Timed] = field(default_factory=list)
    overhead: dict[str, tuple[float, float]] = field(default_factory=dict)  # ms with the sandbox, without
    scored: list[Scored] = field(default_factory=list)
    hostile: Hostile | None = None


def page(results: Results) -> str:
    """The whole page."""
    parts = [
        "# Evaluation beside the toolchains driven directly",
        f"Made by `{results.command}`. {machine()} Sandbox: {results.sandbox}.",
        *(_speeds(results) if results.speeds else []),
        *(_human_eval(results) if results.human_eval else []),
        *(_overhead(results) if results.overhead else []),
        *(_scored(results.scored) if results.scored else []),
        *(_hostile(results.hostile) if results.hostile else []),
        "## Toolchains",
        "\n".join(f"- {language}: {version}" for language, version in sorted(results.versions.items())),
    ]
    return "\n\n".join(parts) + "\n"


def _speeds(results: Results) -> list[str]:
    rows = []
    for language, speeds in results.speeds.items():
        polled, blocking, ours = (_rate(runs) for runs in (speeds.polled, speeds.blocking, speeds.ours))
        rounds = (*speeds.polled, *speeds.blocking, *speeds.ours)
        target = TARGETS[language]
        rows.append(
            [
                language,
                f"{polled:.2f}",
                f"{blocking:.2f}",
                f"{ours:.2f}",
                f"{target:g}x",
                _ratio(ours / polled, target),
                _ratio(ours / blocking, target),
                "all" if all(run.num_passed == run.num_programs for run in rounds) else "NOT ALL",
            ]
        )
    header = ["language", "as MultiPL-E", "direct", "ours", "asked for", "to MultiPL-E", "to direct", "passed"]
    return [
        "## Programs a second",
        "Twelve small correct programs a language, in MultiPL-E's form. *As MultiPL-E*: its commands, one program "
        "after the other, no sandbox, a look every 0.1 s; what is asked for is meant against this. *Direct*: the same "
        f"with a plain wait. *Ours*: each program several times, {results.workers} workers, the sandbox on, start-up "
        f"included. Medians of {results.rounds} interleaved rounds. TypeScript is compiled by version 5 in the first "
        "two, Go with its build cache warm.",
        table(header, rows),
    ]


def _ratio(ratio: float, target: float) -> str:
    return f"{ratio:.1f}x ({met(ratio >= target)})"


def _human_eval(results: Results) -> list[str]:
    runs = results.human_eval
    rate = _rate(runs)
    passed = min(run.num_passed for run in runs)
    return [
        "## HumanEval's own solutions",
        f"{passed} of {runs[0].num_programs} passed, {rate:.0f} programs/s with {results.workers} workers and the "
        f"sandbox (asked for: all, {met(passed == runs[0].num_programs)}; at least {MIN_HUMAN_EVAL_RATE:g}/s, "
        f"{met(rate >= MIN_HUMAN_EVAL_RATE)}).",
    ]


def _overhead(results: Results) -> list[str]:
    rows = [
        [language, f"{inside:.1f}", f"{outside:.1f}", f"{inside - outside:+.1f}"]
        for language, (inside, outside) in results.overhead.items()
    ]
    worst = max(inside - outside for inside, outside in results.overhead.values())
    return [
        "## What the sandbox costs",
        "Milliseconds a program in one worker that is up, with the sandbox and without; medians of the rounds. Asked "
        f"for: at most {MAX_OVERHEAD_MS:g} ms ({met(worst <= MAX_OVERHEAD_MS)}: {worst:.1f}).",
        table(["language", "sandbox", "none", "difference"], rows),
    ]


def _scored(found: Sequence[Scored]) -> list[str]:
    rows = [
        [f"{one.num_completions:,}", f"{one.seconds:.1f}", f"{one.peak_mib:.0f}", str(one.exit_code)] for one in found
    ]
    growth = found[-1].peak_mib - found[0].peak_mib
    return [
        "## Memory",
        "`codechoir evaluate --completions`, the whole process tree's peak. Completions are alike within a problem, so "
        "that reading, sharing and scoring are what is measured. Asked for: no growth "
        f"({met(growth <= MAX_GROWTH_MIB)}: {growth:+.0f} MiB).",
        table(["completions", "seconds", "peak MiB", "exit code"], rows),
    ]


def _hostile(hostile: Hostile) -> list[str]:
    rows = [[language, f"{hostile.contained.get(language, 0)} of {num}"] for language, num in hostile.total.items()]
    total, contained = sum(hostile.total.values()), sum(hostile.contained.values())
    failed = [f"Not contained: {', '.join(hostile.failed)}."] if hostile.failed else []
    return [
        "## Hostile programs",
        f"`tests/sandbox/hostile`: {contained} of {total} are contained: the verdict is right, nothing of the program "
        "survives, nothing outside was read or written, and the next program's verdict is right.",
        table(["language", "contained"], rows),
        *failed,
    ]


def _rate(runs: Iterable[Timed]) -> float:
    return median(run.rate for run in runs)
