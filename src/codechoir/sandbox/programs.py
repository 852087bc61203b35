"""An untrusted program in, an Outcome out: compiled, run, limited, and its end told in one of nine words.

Owns how a toolchain's commands become a job, what a job's results mean, and the check that a toolchain tells known
programs apart. Joins `cells` (the walls), `toolchains` (the commands) and `acceleration` (cheaper jobs to the same
end). Knows nothing of problems or scores.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from codechoir.artifacts import cache_dir
from codechoir.errors import ToolMissingError
from codechoir.records import Status
from codechoir.sandbox.acceleration.acceleration import Acceleration
from codechoir.sandbox.acceleration.table import accelerations
from codechoir.sandbox.cells import Cell
from codechoir.sandbox.isolation import Sandbox
from codechoir.sandbox.jobs import Job, Step, StepLimits, StepResult
from codechoir.sandbox.toolchains.finding import (
    command,
    find_program,
    missing_parts,
    toolchain_version,
    visible_paths,
)
from codechoir.sandbox.toolchains.shared import shared_cache
from codechoir.sandbox.toolchains.table import toolchain_of
from codechoir.sandbox.toolchains.toolchain import Failure, Known, Toolchain

_COMPILING = StepLimits(
    cpu_seconds=60, wall_seconds=180.0, memory_mib=3072, memory_limit="data", memory_overhead=0, processes=128
)
_SLACK_SECONDS = 0.25  # the kernel counts what a limit is compared with by ticks, and what was used exactly
_NEARLY_ALL = 0.9  # of the memory that a program may use: whoever crashes with so much has been refused more
_SIGABRT, _SIGBUS, _SIGKILL, _SIGSEGV, _SIGXCPU, _SIGXFSZ = 6, 7, 9, 11, 24, 25
_SIGNAL_CODES = 128  # what shells and virtual machines add to the signal that ended a child of theirs
_MARKER_BYTES = 16
_COMPILER_OUT_OF_MEMORY = re.compile(
    r"virtual memory exhausted|cc1plus: out of memory|java\.lang\.OutOfMemoryError|std::bad_alloc"
    r"|memory allocation of \d+ bytes failed|runtime: out of memory",
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use. The CPU limit is the one meant to bind: wall-clock limits move with the machine."""

    cpu_seconds: int = 10
    wall_seconds: float = 30.0
    memory_mib: int = 1024
    output_mib: int = 64


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended. `exit_code` is None where it was stopped or killed, `signal` the signal that killed it.

    An exit code of 0 without PASSED is a program that left before the end of its tests, or whose failed test is told
    otherwise than by the exit code.
    """

    status: Status
    exit_code: int | None
    signal: int | None
    cpu_seconds: float  # compilation included
    wall_seconds: float  # compilation included
    memory_mib: float  # the peak, compilation included
    output: str  # stdout and stderr, first and last 4 KiB, of the last step


class Runner:
    """Runs programs, one after the other, in cells that it keeps up between them. Not thread-safe: one a worker."""

    def __init__(self, sandbox: Sandbox, cache: Path, accelerate: bool = True) -> None:
        """`cache` keeps what accelerations build once; without `accelerate` every program is compiled from nothing."""
        self._sandbox = sandbox
        self._accelerations: Mapping[str, Acceleration] = {}
        if accelerate:
            self._accelerations = accelerations(sandbox, shared_cache(cache))
        self._accelerate = accelerate
        self._cells: dict[tuple[str, ...], Cell] = {}

    def run(self, language: str, program: str, limits: Limits) -> Outcome:
        """Compiles and runs a program (prompt + completion + newline + tests), once more where the sandbox fails."""
        toolchain = toolchain_of(language)
        outcome = self.run_with(toolchain, program, limits)
        if outcome.status is Status.HARNESS_ERROR:
            outcome = self.run_with(toolchain, program, limits)
        return outcome

    def run_with(self, toolchain: Toolchain, program: str, limits: Limits) -> Outcome:
        """Runs a program once, by a toolchain that need not be the table's."""
        marker = secrets.token_hex(_MARKER_BYTES)
        source = _source(toolchain, program, marker)
        plain = _job(toolchain, source, marker, limits, warm=self._accelerate)
        acceleration = self._accelerations.get(toolchain.language)
        try:
            job = (acceleration.job(source, plain) if acceleration else None) or plain
            if isinstance(job, StepResult):
                return _outcome([job], toolchain, limits, marker)
            visible = visible_paths(toolchain) + (acceleration.visible if acceleration else ())
            results = self._cell(visible).run(job)
        except OSError as error:
            return Outcome(Status.HARNESS_ERROR, None, None, 0.0, 0.0, 0.0, str(error))
        return _outcome(results, toolchain, limits, marker)

    def close(self) -> None:
        """Ends every cell."""
        for acceleration in self._accelerations.values():
            acceleration.close()
        for cell in self._cells.values():
            cell.close()
        self._cells.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _cell(self, visible: tuple[str, ...]) -> Cell:
        if visible not in self._cells:
            python = find_program("python3")
            if python is None:
                raise ToolMissingError("the sandbox needs Python", next_step="apt-get install python3")
            self._cells[visible] = Cell(self._sandbox, python, visible)
        return self._cells[visible]


def check_toolchain(sandbox: Sandbox, toolchain: Toolchain, *, accelerate: bool = True) -> str:
    """The toolchain's version, once it has told its known programs apart in this sandbox, checked once a process.

    Raises ToolMissingError where a part is missing or a verdict is wrong.
    """
    if missing := missing_parts(toolchain):
        raise ToolMissingError(
            f"{toolchain.language} programs cannot be run here",
            seen="missing: " + ", ".join(missing),
            next_step=toolchain.install,
        )
    return _checked(sandbox, toolchain, accelerate)


@cache
def _checked(sandbox: Sandbox, toolchain: Toolchain, accelerate: bool) -> str:
    version = toolchain_version(toolchain)
    known = [*(Known(program, Status.PASSED) for program in toolchain.good), *toolchain.bad]
    with Runner(sandbox, cache_dir(), accelerate) as runner:
        for one in known:
            outcome = runner.run_with(toolchain, one.program, Limits())
            if outcome.status is not one.status:
                raise ToolMissingError(
                    f"the {toolchain.language} toolchain gets a program wrong whose ending is known",
                    seen=f"{outcome.status} in place of {one.status} by {version}: {outcome.output.strip()}",
                    next_step=f"{toolchain.install}; see codechoir doctor",
                )
    return version


def _source(toolchain: Toolchain, program: str, marker: str) -> str:
    if toolchain.rewrite is not None:
        program = re.sub(*toolchain.rewrite, program)
    half = len(marker) // 2
    return program + toolchain.trailer.replace("{head}", marker[:half]).replace("{tail}", marker[half:])


def _job(toolchain: Toolchain, source: str, marker: str, limits: Limits, warm: bool) -> Job:
    environment = dict(toolchain.environment)
    running = StepLimits(
        cpu_seconds=limits.cpu_seconds,
        wall_seconds=limits.wall_seconds,
        memory_mib=limits.memory_mib,
        memory_limit=toolchain.memory_limit,
        memory_overhead=toolchain.memory_overhead,
        processes=toolchain.processes,
        output_mib=limits.output_mib,
    )
    steps = []
    if toolchain.compile:
        argv = command(toolchain, toolchain.compile, limits.memory_mib)
        steps.append(Step(name="compile", argv=argv, limits=_COMPILING, environment=environment))
    warm = warm and toolchain.warm
    steps.append(
        Step(
            name="run",
            argv=(toolchain.source,) if warm else command(toolchain, toolchain.run, limits.memory_mib),
            limits=running,
            environment=environment,
            # The program could read the marker in its own source.
            removed=(toolchain.source,) if toolchain.compile else (),
            warm_python=warm,
        )
    )
    files = {name: text.encode() for name, text in toolchain.others}
    files[toolchain.source] = source.encode(errors="replace")
    return Job(files=files, steps=tuple(steps), marker=marker.encode())


def _outcome(results: list[StepResult], toolchain: Toolchain, limits: Limits, marker: str) -> Outcome:
    last = results[-1]
    output = last.output.decode(errors="replace")
    if last.name == "compile":
        status = _compile_status(last, output, toolchain)
    else:
        status = _run_status(last, output, toolchain, limits)
    return Outcome(
        status=status,
        exit_code=last.exit_code,
        signal=last.signal,
        cpu_seconds=sum(result.cpu_seconds for result in results),
        wall_seconds=sum(result.wall_seconds for result in results),
        memory_mib=max(result.memory_mib for result in results),
        output=output.replace(f"{marker}\n", "", 1),
    )


def _compile_status(result: StepResult, output: str, toolchain: Toolchain) -> Status:
    if (stopped := _stopped(result, _COMPILING.cpu_seconds)) is not None:
        return stopped
    if _COMPILER_OUT_OF_MEMORY.search(output):
        return Status.OUT_OF_MEMORY
    return _told(toolchain.compile_failures, output, result.exit_code) or Status.DOES_NOT_COMPILE


def _run_status(result: StepResult, output: str, toolchain: Toolchain, limits: Limits) -> Status:
    if result.stopped is None and result.exit_code == 0 and result.marker_seen:
        return Status.PASSED
    if (stopped := _stopped(result, limits.cpu_seconds)) is not None:
        return stopped
    told = _told(toolchain.failures, output, result.exit_code)
    if told is not None:
        return told
    allowed = limits.memory_mib + toolchain.memory_overhead
    crashed = result.signal in (_SIGABRT, _SIGBUS, _SIGSEGV) and result.memory_mib >= _NEARLY_ALL * allowed
    return Status.OUT_OF_MEMORY if crashed or result.signal == _SIGKILL else Status.RUNTIME_ERROR


def _stopped(result: StepResult, cpu_seconds: int) -> Status | None:
    """What the sandbox or a limit of the kernel's has stopped, also where that hit a child of the first process."""
    if result.stopped is not None:
        by = {"time": Status.TIME_OUT, "output": Status.OUTPUT_LIMIT, "memory": Status.OUT_OF_MEMORY}
        return by[result.stopped]
    signal = result.signal or (result.exit_code or 0) - _SIGNAL_CODES
    if signal == _SIGXCPU or result.cpu_seconds >= cpu_seconds - _SLACK_SECONDS:
        return Status.TIME_OUT
    return Status.OUTPUT_LIMIT if signal == _SIGXFSZ else None


def _told(failures: tuple[Failure, ...], output: str, exit_code: int | None) -> Status | None:
    for failure in failures:
        if failure.exit_code in (None, exit_code) and re.search(failure.pattern, output, re.MULTILINE):
            return failure.status
    return None
