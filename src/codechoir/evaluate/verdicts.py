"""Completions in, verdicts on disk: every program is run once in the sandbox, a time-out once more on a quiet machine.

Owns the order of work, the sharing of a run among identical programs, retrying and resuming. Verdicts are appended to
`MODEL/LANG.jsonl` as they come, and how the first run of a time-out ended to `first-time-outs.jsonl`; a run that was
killed takes up after the last whole line. Memory holds a few bytes a completion (`ledger.py`) and the programs that are
being run. Knows nothing of scores, or of where completions come from.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from codechoir.artifacts import write_atomically
from codechoir.console import Progress, say
from codechoir.evaluate.config import EvaluateConfig
from codechoir.evaluate.given import Completions
from codechoir.evaluate.interchange import program_of
from codechoir.evaluate.ledger import FIRST_TIME_OUTS, Ledger, verdict_path
from codechoir.evaluate.running import Program, check_toolchains, run_programs
from codechoir.problems import ProblemSet
from codechoir.records import Status, Verdict, append_record, drop_torn_line, read_records
from codechoir.sandbox.isolation import open_sandbox
from codechoir.sandbox.programs import Outcome


@dataclass(frozen=True, slots=True)
class Flakes:
    """Time-outs that were the machine's doing rather than the program's."""

    programs: int
    time_outs: int  # programs whose first run ended in one
    recovered: int  # of these, how many ended otherwise when run alone

    @property
    def rate(self) -> float:
        """The share of all programs whose verdict hung on what else the machine did; NaN where there are none."""
        return self.recovered / self.programs if self.programs else float("nan")


@dataclass(frozen=True, slots=True)
class Judged:
    """What gave the verdicts, and the ledger that holds how all completions ended."""

    ledger: Ledger
    toolchains: Mapping[str, str]  # language id -> version
    sandbox: str
    flakes: Flakes


def judge(completions: Completions, problems: ProblemSet, config: EvaluateConfig, out: Path) -> Judged:
    """Runs what has no verdict in `out` yet.

    Raises InputError where completions do not fit the problems, ToolMissingError where this machine cannot run them.
    """
    ledger = Ledger(completions, problems)
    if not len(ledger):
        return Judged(ledger, {}, "not needed", Flakes(0, 0, 0))
    sandbox = open_sandbox(config.sandbox)
    workers = config.workers or len(os.sched_getaffinity(0))
    checked = check_toolchains(sandbox, sorted({group.language for group in ledger.groups}), workers)
    toolchains = {language: check.version for language, check in checked.items()}
    work = _Work(ledger, completions, out, _Surroundings(toolchains, sandbox.description, problems.digest))
    work.resume()
    order = {language: check.seconds for language, check in checked.items()}
    total = ledger.num_programs
    left = sum(1 for _ in ledger.pending(order))
    with closing(completions), Progress("evaluate", total, "programs", done=total - left) as progress:

        def settle(position: int, outcome: Outcome) -> None:
            retried = ledger.program(position) in work.timed_out
            if outcome.status is Status.TIME_OUT and not retried:
                work.postpone(position, outcome)
            else:
                work.settle(position, outcome, 2 if retried else 1)
                progress.advance(1, work.note)

        fresh = (position for position in ledger.pending(order) if ledger.program(position) not in work.timed_out)
        run_programs(work.programs(fresh), settle, sandbox, config, workers)
        run_programs(work.programs(ledger.pending(order)), settle, sandbox, config, 1)
    if broken := ledger.count(Status.HARNESS_ERROR):
        reason = work.harness_error or "see their verdicts"
        say(f"evaluate: {broken} completions could not be run, so their scores are undefined: {reason}")
    return Judged(ledger, toolchains, sandbox.description, Flakes(total, *ledger.num_flaky()))


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """What a verdict says of how it was come by; one that says otherwise is not this evaluation's."""

    toolchains: Mapping[str, str]
    sandbox: str
    problems: str

    def fit(self, verdict: Verdict) -> bool:
        return (verdict.toolchain, verdict.sandbox, verdict.problems) == (
            self.toolchains.get(verdict.language),
            self.sandbox,
            self.problems,
        )


class _Work:
    """What is to be run, and the verdicts as they come."""

    def __init__(self, ledger: Ledger, completions: Completions, out: Path, surroundings: _Surroundings) -> None:
        self._ledger, self._completions, self._out = ledger, completions, out
        self._surroundings = surroundings
        self.timed_out: set[int] = set()  # programs whose first run did
        self.harness_error = ""  # what the first program that could not be run said

    @property
    def note(self) -> str:
        """The progress line's key figure."""
        return f"{self._ledger.num_passed} of {self._ledger.num_judged} completions passed"

    def programs(self, positions: Iterable[int]) -> Iterator[Program]:
        """The programs of completions, read from their files one by one."""
        for position in positions:
            text = program_of(self._ledger.problem(position), self._completions[position].text)
            yield Program(position, self._ledger.group(position).language, text)

    def postpone(self, position: int, outcome: Outcome) -> None:
        """Notes a first time-out, which a run that is taken up again need not wait for once more."""
        self.timed_out.add(self._ledger.program(position))
        append_record(self._out / FIRST_TIME_OUTS, self._verdict(position, outcome, 1))

    def settle(self, position: int, outcome: Outcome, attempts: int) -> None:
        """Appends the verdicts of everyone who wrote this program and has none yet."""
        if outcome.status is Status.HARNESS_ERROR:
            self.harness_error = self.harness_error or outcome.output
        for sharer in self._ledger.sharers(self._ledger.program(position)):
            if not self._ledger.is_judged(sharer):
                self._append(sharer, self._verdict(sharer, outcome, attempts))

    def _append(self, position: int, verdict: Verdict) -> None:
        append_record(verdict_path(self._out, verdict.model, verdict.language), verdict)
        self._ledger.enter_verdict(position, verdict.status, verdict.attempts)

    def _verdict(self, position: int, outcome: Outcome, attempts: int) -> Verdict:
        group = self._ledger.group(position)
        return Verdict(
            model=group.model,
            language=group.language,
            problem=self._ledger.problem(position).name,
            sample=self._ledger.sample(position),
            temperature=self._ledger.temperature,
            status=outcome.status,
            exit_code=outcome.exit_code,
            signal=outcome.signal,
            cpu_seconds=outcome.cpu_seconds,
            wall_seconds=outcome.wall_seconds,
            memory_mib=outcome.memory_mib,
            output=outcome.output,
            attempts=attempts,
            toolchain=self._surroundings.toolchains[group.language],
            sandbox=self._surroundings.sandbox,
            problems=self._surroundings.problems,
        )

    def resume(self) -> None:
        """Takes up what an interrupted run has left: its verdicts, and its time-outs that await their second run."""
        files = [verdict_path(self._out, group.model, group.language) for group in self._ledger.groups]
        held = [file for file in files if file.exists()]
        for file in held:
            self._take_up(file)
        for file in held:  # a kill can fall between the verdicts of those who wrote one program
            for verdict in read_records(Verdict, file):
                self._share(verdict)
        noted = self._out / FIRST_TIME_OUTS
        if noted.exists():
            drop_torn_line(noted)
            for verdict in read_records(Verdict, noted):
                position = self._ledger.position(verdict)
                if position is not None and self._surroundings.fit(verdict):
                    self.timed_out.add(self._ledger.program(position))

    def _take_up(self, file: Path) -> None:
        """Enters a file's verdicts; where another toolchain, sandbox or set of problems gave some, it starts anew."""
        drop_torn_line(file)
        if not all(self._surroundings.fit(verdict) for verdict in read_records(Verdict, file)):
            write_atomically(file, b"")
        for verdict in read_records(Verdict, file):
            position = self._ledger.position(verdict)
            if position is not None and not self._ledger.is_judged(position):
                self._ledger.enter_verdict(position, verdict.status, verdict.attempts)

    def _share(self, verdict: Verdict) -> None:
        position = self._ledger.position(verdict)
        if position is None:
            return
        for sharer in self._ledger.sharers(self._ledger.program(position)):
            if not self._ledger.is_judged(sharer):
                group = self._ledger.group(sharer)
                other = {"model": group.model, "problem": self._ledger.problem(sharer).name}
                copied = verdict.model_copy(update={**other, "sample": self._ledger.sample(sharer)})
                self._append(sharer, copied)
