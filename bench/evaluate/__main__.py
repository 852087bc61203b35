"""The benchmark's run: what is measured in which order, and the page. `python -m bench.evaluate --out PAGE`

Everything made on the way lies below build/bench and is used again; nothing measured is.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from xml.etree import ElementTree

from bench.evaluate.direct import blocking, drivers, polled
from bench.evaluate.measure import milliseconds_each, score_many, time_direct, time_ours
from bench.evaluate.problems import human_eval_programs, programs
from bench.evaluate.report import TARGETS, Hostile, Results, Speeds, page
from bench.pages import command_given, page_parser, run_program, write_page
from codechoir.artifacts import cache_dir
from codechoir.sandbox.isolation import Sandbox, open_sandbox
from codechoir.sandbox.programs import check_toolchain
from codechoir.sandbox.toolchains.table import toolchain_of

PARTS = ("speed", "human-eval", "overhead", "memory", "hostile")
TYPESCRIPT_5 = "typescript@5.9.3"
COPIES = 4  # of each program, in ours, so that start-up weighs as it does in use
FAST_COPIES = 16  # where a program takes a few milliseconds
COMPILED = ("cpp", "java", "typescript", "go", "rust")
HOSTILE_TESTS = "tests/sandbox/hostile"


@dataclass(frozen=True, slots=True)
class Bench:
    """Where things lie, and how much is run."""

    root: Path
    rounds: int
    workers: int
    languages: tuple[str, ...]
    sandbox: Sandbox
    completions: tuple[int, int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what was asked for and writes the page."""
    parser = page_parser("evaluate", __doc__)
    parser.add_argument("--root", type=Path, default=Path("build/bench/evaluate"), help="where everything else lies")
    parser.add_argument("--rounds", type=int, default=3, help="of each measurement; the median counts")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run")
    parser.add_argument("--languages", nargs="+", choices=tuple(TARGETS), default=tuple(TARGETS))
    parser.add_argument("--completions", nargs=2, type=int, default=(10_000, 100_000), help="numbers scored for memory")
    options = parser.parse_args(arguments)
    bench = Bench(
        options.root.resolve(),
        options.rounds,
        options.workers,
        tuple(options.languages),
        open_sandbox("bubblewrap"),
        tuple(options.completions),
    )
    text = page(_results(bench, options.only, command_given("evaluate")))
    write_page(text, options.out)
    return 0


def _results(bench: Bench, parts: Sequence[str], command: str) -> Results:
    versions = {name: check_toolchain(bench.sandbox, toolchain_of(name)) for name in bench.languages}
    results = Results(command, bench.rounds, bench.workers, bench.sandbox.description, versions)
    if "speed" in parts:
        _measure_speeds(bench, results)
    if "human-eval" in parts:
        solutions = human_eval_programs(cache_dir())
        for _ in range(bench.rounds):
            results.human_eval.append(time_ours(bench.sandbox, cache_dir(), "python", solutions, bench.workers))
        _tell("HumanEval", f"{results.human_eval[-1].rate:.0f}/s")
    if "overhead" in parts:
        _measure_overhead(bench, results)
    if "memory" in parts:
        for number in bench.completions:
            results.scored.append(score_many(bench.root / "memory", number))
            _tell(f"{number} completions", f"{results.scored[-1].peak_mib:.0f} MiB")
    if "hostile" in parts:
        results.hostile = _run_hostile(bench)
    return results


def _measure_speeds(bench: Bench, results: Results) -> None:
    known = drivers(_typescript(bench))
    texts = {language: _programs(language) for language in bench.languages}
    results.speeds = {language: Speeds() for language in bench.languages}
    for language in bench.languages:  # compilers and libraries into the page cache
        time_direct(known[language], texts[language][:1], blocking)
    for number in range(bench.rounds):
        for language, speeds in results.speeds.items():
            driver, mine = known[language], texts[language]
            copies = COPIES if language in COMPILED else FAST_COPIES
            speeds.polled.append(time_direct(driver, mine, polled))
            speeds.blocking.append(time_direct(driver, mine, blocking))
            speeds.ours.append(time_ours(bench.sandbox, cache_dir(), language, mine * copies, bench.workers))
            rates = (runs[-1].rate for runs in (speeds.polled, speeds.blocking, speeds.ours))
            _tell(f"round {number + 1}, {language}", " ".join(f"{rate:8.2f}/s" for rate in rates))


def _measure_overhead(bench: Bench, results: Results) -> None:
    none = open_sandbox("unsafe-no-sandbox")
    for language in bench.languages:
        mine = _programs(language)
        times = [
            [milliseconds_each(sandbox, cache_dir(), language, mine) for sandbox in (bench.sandbox, none)]
            for _ in range(bench.rounds)
        ]
        inside, outside = (median(column) for column in zip(*times, strict=True))
        results.overhead[language] = (inside, outside)
        _tell(f"overhead, {language}", f"{inside - outside:+.1f} ms")


def _programs(language: str) -> list[str]:
    return human_eval_programs(cache_dir())[::14] if language == "python" else programs(language)


def _typescript(bench: Bench) -> Path:
    """TypeScript 5's compiler, brought from npm where it is missing."""
    folder = bench.root / "typescript-5"
    compiler = folder / "node_modules" / ".bin" / "tsc"
    if "typescript" in bench.languages and not compiler.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", TYPESCRIPT_5], cwd=folder, check=True)
    return compiler


def _run_hostile(bench: Bench) -> Hostile:
    """Runs the corpus's own test, and counts its cases by the language that their ids begin with."""
    log = bench.root / "hostile.xml"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", HOSTILE_TESTS, f"--junitxml={log}"]
    subprocess.run(command, check=False, stdout=sys.stderr)
    found = Hostile()
    for case in ElementTree.parse(log).getroot().iter("testcase"):
        name = case.get("name") or ""
        language, _, rest = name.partition("[")[2].rstrip("]").partition("-")
        if not rest or case.find("skipped") is not None:
            continue
        found.total[language] = found.total.get(language, 0) + 1
        if case.find("failure") is not None or case.find("error") is not None:
            found.failed.append(f"{language}/{rest}")
        else:
            found.contained[language] = found.contained.get(language, 0) + 1
    return found


def _tell(what: str, text: str) -> None:
    sys.stderr.write(f"{what:>28}  {text}\n")


if __name__ == "__main__":
    run_program(main)
