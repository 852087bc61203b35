"""Programs in, outcomes out, in as many threads as asked; each thread owns one runner, and few programs wait in line.

Knows nothing of completions: a program is a number, a language and a text.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from codechoir.artifacts import cache_dir
from codechoir.evaluate.config import EvaluateConfig
from codechoir.sandbox.isolation import Sandbox
from codechoir.sandbox.programs import Limits, Outcome, Runner, check_toolchain
from codechoir.sandbox.toolchains.table import toolchain_of

Settle = Callable[[int, Outcome], None]

_LINE = 4  # programs taken up for each worker, so that none waits while the next is read


@dataclass(frozen=True, slots=True)
class Program:
    """A program to run; the number is its caller's name for it."""

    number: int
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Checked:
    """A toolchain that has told known programs apart."""

    version: str
    seconds: float  # that a small program takes: long where the language's programs are slow to compile or start


def check_toolchains(sandbox: Sandbox, languages: Iterable[str], workers: int) -> dict[str, Checked]:
    """Checks each language's toolchain. Raises ToolMissingError where one is missing or gets a program wrong."""

    def check(language: str) -> Checked:
        toolchain = toolchain_of(language)
        version = check_toolchain(sandbox, toolchain)
        with Runner(sandbox, cache_dir()) as runner:
            return Checked(version, runner.run(language, toolchain.good[0], Limits()).wall_seconds)

    with ThreadPoolExecutor(workers) as pool:
        checks = {name: pool.submit(check, name) for name in languages}
        return {name: done.result() for name, done in checks.items()}


def run_programs(
    programs: Iterable[Program], settle: Settle, sandbox: Sandbox, config: EvaluateConfig, workers: int
) -> None:
    """Runs programs, read as workers become free, and hands on the outcome of each by its number as they come.

    `settle` is called in the caller's thread. Where it, or a run, raises, no further program is begun, and those that
    are running are still awaited and handed on, so that their work is not lost.
    """
    bench = _Bench(sandbox, Limits(config.cpu_seconds, config.wall_seconds, config.memory_mib))
    running: dict[Future[Outcome], int] = {}
    pool = ThreadPoolExecutor(workers)
    try:
        for program in programs:
            running[pool.submit(bench.run, program)] = program.number
            while len(running) >= workers * _LINE:
                _settle_finished(running, settle)
        while running:
            _settle_finished(running, settle)
    finally:
        pool.shutdown(cancel_futures=True)
        for future, number in running.items():
            if not future.cancelled() and future.exception() is None:
                settle(number, future.result())
        bench.close()


def _settle_finished(running: dict[Future[Outcome], int], settle: Settle) -> None:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        outcome = future.result()
        settle(running.pop(future), outcome)


class _Bench:
    """One runner a thread, made when the thread runs its first program."""

    def __init__(self, sandbox: Sandbox, limits: Limits) -> None:
        self._sandbox, self._limits = sandbox, limits
        self._own = threading.local()
        self._all: list[Runner] = []

    def run(self, program: Program) -> Outcome:
        runner: Runner | None = getattr(self._own, "runner", None)
        if runner is None:
            runner = self._own.runner = Runner(self._sandbox, cache_dir())
            self._all.append(runner)
        return runner.run(program.language, program.text, self._limits)

    def close(self) -> None:
        """Ends all runners; no thread may still be running a program."""
        for runner in self._all:
            runner.close()
        self._all.clear()
