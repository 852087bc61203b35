"""An untrusted program in, an Outcome out: compiled, run, limited, and its end told in one of eight words.

Joins `isolation` (the walls), `process` (the watch) and `toolchains` (the commands). Knows nothing of problems or
scores.

Limits are per process, as the kernel gives them without control groups: CPU seconds, memory (address space where the
runtime bears it, else private writable memory), file size, open files; per user namespace: processes. A tree of
processes is bounded by their product, by the wall clock, and by being the first that the kernel kills for memory.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace

from codechoir.errors import ToolMissingError
from codechoir.records import Status
from codechoir.sandbox.isolation import Sandbox
from codechoir.sandbox.process import Deadlines, Watched, watch
from codechoir.sandbox.toolchains import (
    RAN_TO_END,
    Toolchain,
    find_program,
    missing_parts,
    toolchain_version,
    visible_folders,
)

_COMPILE_CPU_SECONDS = 60
_COMPILE_WALL_SECONDS = 180.0
_COMPILE_MEMORY_MIB = 2048
_OPEN_FILES = 256
_FILE_MIB = 64
_SIGKILL, _SIGXCPU, _SIGXFSZ, _LAST_SIGNAL = 9, 24, 25, 64


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

    An exit code of 0 without PASSED is a program that left before the end of its tests.
    """

    status: Status
    exit_code: int | None
    signal: int | None
    cpu_seconds: float  # compilation included
    wall_seconds: float  # compilation included
    output: str  # stdout and stderr, first and last 4 KiB


def run_program(sandbox: Sandbox, toolchain: Toolchain, program: str, limits: Limits) -> Outcome:
    """Compiles and runs a program (prompt + completion + newline + tests), once more where the sandbox itself fails."""
    outcome = _run_once(sandbox, toolchain, program, limits)
    if outcome.status is Status.HARNESS_ERROR:
        outcome = _run_once(sandbox, toolchain, program, limits)
    return outcome


def check_toolchain(sandbox: Sandbox, toolchain: Toolchain) -> str:
    """The toolchain's version, once it has told a good program from a bad one in this sandbox.

    Raises ToolMissingError where a part is missing or a verdict is wrong.
    """
    install = "apt-get install " + " ".join(toolchain.packages)
    if missing := missing_parts(toolchain):
        raise ToolMissingError(
            f"{toolchain.language} programs cannot be run here",
            seen="missing: " + ", ".join(missing),
            next_step=install,
        )
    version = toolchain_version(toolchain.language)
    for program, expected in ((toolchain.good, Status.PASSED), (toolchain.bad, Status.FAILED_ASSERTION)):
        outcome = run_program(sandbox, toolchain, program, Limits())
        if outcome.status is not expected:
            raise ToolMissingError(
                f"the {toolchain.language} toolchain gets a trivial program wrong",
                seen=f"{outcome.status} in place of {expected} by {version}: {outcome.output.strip()}",
                next_step=f"{install}; see codechoir doctor",
            )
    return version


def _run_once(sandbox: Sandbox, toolchain: Toolchain, program: str, limits: Limits) -> Outcome:
    source = (program + toolchain.trailer).encode(errors="replace")
    deadlines = Deadlines(_COMPILE_WALL_SECONDS, limits.wall_seconds, limits.output_mib * 2**20)
    try:
        with sandbox.launch(
            _script(toolchain, limits), {toolchain.source: source}, visible_folders(toolchain)
        ) as launch:
            watched = watch(launch, deadlines)
    except OSError as error:
        return Outcome(Status.HARNESS_ERROR, None, None, 0.0, 0.0, str(error))
    return _outcome(watched, toolchain, limits)


def _script(toolchain: Toolchain, limits: Limits) -> str:
    """The shell script of a program's life. Its standard output is the report; the program's goes to standard error."""
    lines = ["echo ready"]
    if toolchain.compile:
        compiling = replace(limits, cpu_seconds=_COMPILE_CPU_SECONDS, memory_mib=_COMPILE_MEMORY_MIB)
        lines += [
            f"{_limited(toolchain, toolchain.compile, compiling)} </dev/null >&2",
            'code=$?; echo "compiled $code"; [ "$code" = 0 ] || exit',
        ]
    else:
        lines.append('echo "compiled 0"')
    lines += [f"{_limited(toolchain, toolchain.run, limits)} </dev/null >&2", 'echo "exited $?"']
    return "\n".join(lines)


def _limited(toolchain: Toolchain, command: tuple[str, ...], limits: Limits) -> str:
    memory = (limits.memory_mib + toolchain.memory_overhead) * 2**20
    program = find_program(command[0]) or command[0]
    rest = [part.format(memory=limits.memory_mib) for part in command[1:]]
    # One second between the soft limit, whose signal names the cause, and the hard one, which cannot be ignored.
    return shlex.join(
        [
            "prlimit",
            f"--cpu={limits.cpu_seconds}:{limits.cpu_seconds + 1}",
            f"--{'as' if toolchain.memory_limit == 'address-space' else 'data'}={memory}",
            f"--nproc={toolchain.processes}",
            f"--nofile={_OPEN_FILES}",
            f"--fsize={_FILE_MIB * 2**20}",
            "--core=0",
            "--",
            program,
            *rest,
        ]
    )


def _outcome(watched: Watched, toolchain: Toolchain, limits: Limits) -> Outcome:
    code = watched.exit_code if watched.compile_code == 0 else watched.compile_code
    if watched.stopped:
        code = None
    killed_by = code - 128 if code is not None and 128 < code <= 128 + _LAST_SIGNAL else None
    return Outcome(
        status=_status(watched, toolchain, limits, killed_by),
        exit_code=None if killed_by else 0 if code == RAN_TO_END else code,
        signal=killed_by,
        cpu_seconds=watched.cpu_seconds,
        wall_seconds=watched.wall_seconds,
        output=watched.output,
    )


def _status(watched: Watched, toolchain: Toolchain, limits: Limits, killed_by: int | None) -> Status:
    if not watched.started:
        return Status.HARNESS_ERROR
    if watched.stopped:
        return Status.OUTPUT_LIMIT if watched.stopped == "output" else Status.TIME_OUT
    if watched.compile_code not in (0, None):
        return Status.DOES_NOT_COMPILE
    if watched.compile_code is None or watched.exit_code is None:
        return Status.OUT_OF_MEMORY  # only the kernel, short of memory, kills process 1
    if watched.exit_code == RAN_TO_END:
        return Status.PASSED
    if killed_by == _SIGXCPU or (killed_by == _SIGKILL and watched.cpu_seconds >= limits.cpu_seconds):
        return Status.TIME_OUT
    if killed_by == _SIGXFSZ:
        return Status.OUTPUT_LIMIT
    for pattern, status in toolchain.failures:
        if re.search(pattern, watched.output):
            return status
    return Status.OUT_OF_MEMORY if killed_by == _SIGKILL else Status.RUNTIME_ERROR
