"""Measures ours and the baselines: seconds for a list of programs, each of which must pass.

Ours is the project's `Runner` in as many threads as asked, from the start of its first cell to the end of its last
program, so its start-up counts. Knows nothing of how results are told.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

from bench.curate.measure import measure as measure_command
from bench.evaluate.direct import Driver, Run, passes
from codechoir.records import Completion, Status
from codechoir.sandbox.isolation import Sandbox
from codechoir.sandbox.programs import Limits, Runner

TEXT = "    return sum(values)\n"


@dataclass(frozen=True, slots=True)
class Timed:
    """How long a list of programs took."""

    num_programs: int
    num_passed: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.num_programs / self.seconds


def time_direct(driver: Driver, programs: Sequence[str], run: Run) -> Timed:
    begin = time.perf_counter()
    passed = sum(passes(driver, program, run) for program in programs)
    return Timed(len(programs), passed, time.perf_counter() - begin)


def time_ours(sandbox: Sandbox, cache: Path, language: str, programs: Sequence[str], workers: int) -> Timed:
    left: SimpleQueue[str] = SimpleQueue()
    for program in programs:
        left.put(program)
    passed: list[int] = []

    def work() -> None:
        with Runner(sandbox, cache) as runner:
            while True:
                try:
                    program = left.get_nowait()
                except Empty:
                    return
                passed.append(runner.run(language, program, Limits()).status is Status.PASSED)

    threads = [threading.Thread(target=work) for _ in range(workers)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Timed(len(programs), sum(passed), time.perf_counter() - begin)


def milliseconds_each(sandbox: Sandbox, cache: Path, language: str, programs: Sequence[str]) -> float:
    """Milliseconds a program in one worker that is up."""
    with Runner(sandbox, cache) as runner:
        for program in programs[:2]:
            runner.run(language, program, Limits())
        begin = time.perf_counter()
        for program in programs:
            runner.run(language, program, Limits())
        return 1000 * (time.perf_counter() - begin) / len(programs)


@dataclass(frozen=True, slots=True)
class Scored:
    """One run of `codechoir evaluate` on many completions of few programs."""

    num_completions: int
    seconds: float
    peak_mib: float
    exit_code: int
    last_line: str


def score_many(folder: Path, num_completions: int, num_problems: int = 100) -> Scored:
    """The command line on completions that are all alike, so that reading, sharing and scoring are what is measured."""
    folder.mkdir(parents=True, exist_ok=True)
    problems, completions = folder / "problems", folder / f"completions-{num_completions}.jsonl"
    problems.mkdir(exist_ok=True)
    rows = [_problem(number) for number in range(num_problems)]
    (problems / "bench-py.json").write_text(json.dumps(rows), encoding="utf-8")
    with completions.open("w", encoding="utf-8") as out:
        for number in range(num_completions):
            completion = Completion(
                model="bench",
                language="python",
                problem=rows[number % num_problems]["name"],
                sample=number // num_problems,
                seed=number // num_problems,
                temperature=0.8,
                text=TEXT,
                finish="stop",
                num_tokens=8,
            )
            out.write(completion.model_dump_json() + "\n")
    command = [str(Path(sys.executable).with_name("codechoir")), "evaluate", "--completions", str(completions)]
    out_folder = folder / f"out-{num_completions}"
    subprocess.run(["rm", "-rf", str(out_folder)], check=True)
    command += ["--problems", str(problems), "--out", str(out_folder)]
    measured = measure_command(command, folder / f"log-{num_completions}.txt")
    return Scored(num_completions, measured.seconds, measured.peak_mib, measured.exit_code, measured.last_line)


def _problem(number: int) -> dict[str, object]:
    return {
        "name": f"Bench_{number}_total",
        "language": "py",
        "prompt": f"def total_{number}(values):\n",
        "tests": f"def check(candidate):\n    assert candidate([{number}]) == {number}\n\ncheck(total_{number})\n",
        "stop_tokens": ["\ndef", "\n#", "\nif", "\nclass"],
    }
