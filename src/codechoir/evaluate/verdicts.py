"""Completions in, verdicts on disk: every completion's program is run once in the sandbox, in as many threads as asked.

Owns the order of work, the sharing of a run among identical programs, and resuming. Verdicts are appended to
`MODEL/LANG.jsonl` as they come; a run that was killed takes up after the last whole line.
Knows nothing of scores, or of where completions come from.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from codechoir.console import Progress, say
from codechoir.errors import InputError
from codechoir.evaluate.config import EvaluateConfig
from codechoir.problems import ProblemSet
from codechoir.records import Completion, Problem, Status, Verdict, append_record, complete_records
from codechoir.sandbox.isolation import Sandbox, open_sandbox
from codechoir.sandbox.programs import Limits, Outcome, check_toolchain, run_program
from codechoir.sandbox.toolchains import toolchain_of

_Program = tuple[str, str]  # language id, text


@dataclass(frozen=True, slots=True)
class Judged:
    """All verdicts of a set of completions, and what gave them."""

    verdicts: tuple[Verdict, ...]
    toolchains: Mapping[str, str]  # language id -> version
    sandbox: str


def judge(completions: Sequence[Completion], problems: ProblemSet, config: EvaluateConfig, out: Path) -> Judged:
    """Runs what has no verdict in `out` yet, and returns all verdicts, those of `completions` and no others.

    Raises InputError where completions do not fit the problems, ToolMissingError where this machine cannot run them.
    """
    known = _problems_by_name(problems)
    _check(completions, known, problems)
    if not completions:
        return Judged((), {}, "not needed")
    sandbox = open_sandbox(config.sandbox)
    workers = config.workers or len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(workers) as pool:
        languages = sorted({completion.language for completion in completions})
        checks = {name: pool.submit(check_toolchain, sandbox, toolchain_of(name)) for name in languages}
        toolchains = {name: check.result() for name, check in checks.items()}
    work = _Work(completions, known, out, sandbox.description, toolchains)
    work.resume()
    _run_all(work, sandbox, config, workers)
    if broken := [verdict for verdict in work.verdicts.values() if verdict.status is Status.HARNESS_ERROR]:
        say(f"evaluate: {len(broken)} programs could not be run, so their scores are undefined: {broken[0].output}")
    return Judged(tuple(work.verdicts[_key(completion)] for completion in completions), toolchains, sandbox.description)


def verdict_path(out: Path, model: str, language: str) -> Path:
    """Where a model's verdicts on a language lie; a hub id's slash becomes `--`."""
    return out / model.replace("/", "--") / f"{language}.jsonl"


class _Work:
    """What is to be run and what is known so far."""

    def __init__(
        self,
        completions: Sequence[Completion],
        known: Mapping[tuple[str, str], Problem],
        out: Path,
        sandbox: str,
        toolchains: Mapping[str, str],
    ) -> None:
        self.out, self.sandbox, self.toolchains = out, sandbox, toolchains
        self.verdicts: dict[tuple[str, str, str, int], Verdict] = {}
        self.num_passed = 0
        self.programs: dict[_Program, list[Completion]] = {}
        for completion in completions:
            problem = known[completion.language, completion.problem]
            text = f"{problem.prompt}{completion.text}\n{problem.tests}"
            self.programs.setdefault((completion.language, text), []).append(completion)

    def resume(self) -> None:
        """Takes up the verdicts that an interrupted run has left."""
        members = [completion for shared in self.programs.values() for completion in shared]
        keys = {_key(completion) for completion in members}
        files = {verdict_path(self.out, completion.model, completion.language) for completion in members}
        for file in sorted(files):
            for verdict in complete_records(Verdict, file):
                if _key(verdict) in keys:
                    self._add(verdict)

    def left(self) -> list[_Program]:
        """The programs still to be run. One that was run gives its verdict to all who wrote the same."""
        for program, shared in self.programs.items():
            done = [self.verdicts[_key(each)] for each in shared if _key(each) in self.verdicts]
            if done:
                self.note(program, _outcome_of(done[0]))
        return [
            program
            for program, shared in self.programs.items()
            if any(_key(each) not in self.verdicts for each in shared)
        ]

    def note(self, program: _Program, outcome: Outcome) -> None:
        """Appends the verdicts of everyone who wrote this program and has none yet."""
        for completion in self.programs[program]:
            if _key(completion) in self.verdicts:
                continue
            verdict = Verdict(
                model=completion.model,
                language=completion.language,
                problem=completion.problem,
                sample=completion.sample,
                temperature=completion.temperature,
                status=outcome.status,
                exit_code=outcome.exit_code,
                signal=outcome.signal,
                cpu_seconds=outcome.cpu_seconds,
                wall_seconds=outcome.wall_seconds,
                output=outcome.output,
                toolchain=self.toolchains[completion.language],
                sandbox=self.sandbox,
            )
            append_record(verdict_path(self.out, completion.model, completion.language), verdict)
            self._add(verdict)

    def _add(self, verdict: Verdict) -> None:
        self.verdicts[_key(verdict)] = verdict
        self.num_passed += verdict.status is Status.PASSED


def _run_all(work: _Work, sandbox: Sandbox, config: EvaluateConfig, workers: int) -> None:
    limits = Limits(config.cpu_seconds, config.wall_seconds, config.memory_mib)
    left = work.left()
    total = len(work.programs)
    with (
        Progress("evaluate", total, "programs", done=total - len(left)) as progress,
        ThreadPoolExecutor(workers) as pool,
    ):
        running = {
            pool.submit(run_program, sandbox, toolchain_of(program[0]), program[1], limits): program for program in left
        }
        try:
            for future in as_completed(running):
                work.note(running[future], future.result())
                progress.advance(1, f"{work.num_passed} of {len(work.verdicts)} completions passed")
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _key(record: Completion | Verdict) -> tuple[str, str, str, int]:
    return (record.model, record.language, record.problem, record.sample)


def _outcome_of(verdict: Verdict) -> Outcome:
    return Outcome(
        verdict.status,
        verdict.exit_code,
        verdict.signal,
        verdict.cpu_seconds,
        verdict.wall_seconds,
        verdict.output,
    )


def _problems_by_name(problems: ProblemSet) -> dict[tuple[str, str], Problem]:
    return {(problem.language, problem.name): problem for each in problems.problems.values() for problem in each}


def _check(completions: Sequence[Completion], known: Mapping[tuple[str, str], Problem], problems: ProblemSet) -> None:
    """Refuses completions that would make a score wrong: unknown, missing or doubled problems, mixed temperatures."""
    seen: set[tuple[str, str, str, int]] = set()
    by_file: dict[tuple[str, str], list[Completion]] = {}
    folders: dict[str, str] = {}
    for completion in completions:
        where = f"{completion.model}, {completion.language}, {completion.problem}, sample {completion.sample}"
        if (completion.language, completion.problem) not in known:
            raise InputError(
                "a completion's problem is not among the problems",
                seen=where,
                allowed=f"problems in {', '.join(problems.problems) or 'no language'}",
                next_step="evaluate with the problems that the completions were made for",
            )
        if _key(completion) in seen:
            raise InputError("a completion occurs twice", seen=where, next_step="remove one of the two")
        seen.add(_key(completion))
        by_file.setdefault((completion.model, completion.language), []).append(completion)
        folder = verdict_path(Path(), completion.model, completion.language).parent.name
        if folders.setdefault(folder, completion.model) != completion.model or folder in ("", ".", ".."):
            raise InputError("the model's name cannot name a folder of its own", seen=completion.model)
    for (model, language), members in by_file.items():
        temperatures = sorted({completion.temperature for completion in members})
        if len(temperatures) > 1:
            raise InputError(
                "one model's completions have several temperatures",
                seen=f"{model}, {language}: {', '.join(map(str, temperatures))}",
                next_step="evaluate each temperature by itself",
            )
        names = {completion.problem for completion in members}
        missing = [problem.name for problem in problems.problems[language] if problem.name not in names]
        if missing:
            raise InputError(
                "problems without a completion: a pass rate over the rest would not be comparable",
                seen=f"{model}, {language}: {len(missing)} of {len(problems.problems[language])}: "
                + ", ".join(missing[:5])
                + (", ..." if len(missing) > 5 else ""),
                next_step="generate them, or give a folder of only the problems attempted",
            )
