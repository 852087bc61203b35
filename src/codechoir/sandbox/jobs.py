"""What a sandbox is asked to run and what it answers: files, steps with limits, and how each step ended.

The contract between those who know languages (`programs`) and those who know walls (`cells`). Knows neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

KEPT_BYTES = 4096  # of an output's beginning, and as many of its end


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLimits:
    """What the processes of one step may use. The CPU limit is the one meant to bind: wall clocks move with load."""

    cpu_seconds: int  # of each process by the kernel, and of all together once they have ended
    wall_seconds: float
    memory_mib: int  # of all processes together where control groups are at hand, else of each
    memory_limit: Literal["address-space", "data"] = "address-space"  # what the rlimit counts, where groups are missing
    memory_overhead: int = 64  # MiB that the language's runtime itself needs, on top
    processes: int = 32  # threads included
    file_mib: int = 64  # of each file written
    output_mib: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command of a job. It starts in the job's own folder, with that folder's files and an empty standard input."""

    name: Literal["compile", "run"]
    argv: tuple[str, ...]
    limits: StepLimits
    environment: Mapping[str, str] = field(default_factory=dict)  # beside the sandbox's own
    removed: tuple[str, ...] = ()  # files taken away before the step starts, so that it cannot read them
    warm_python: bool = False  # argv is (file,): run by a fork of a Python that is already up, in place of a new one


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Steps that share one private folder. A step that does not exit with 0 is the last."""

    files: Mapping[str, bytes]
    steps: tuple[Step, ...]
    marker: bytes  # looked for in the whole output of the last step


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """How a step ended. Exactly one of `exit_code`, `signal` and `stopped` tells it."""

    name: Literal["compile", "run"]
    exit_code: int | None
    signal: int | None  # that killed its first process
    stopped: Literal["time", "output", "memory"] | None  # by the sandbox, and why
    cpu_seconds: float  # of all its processes
    wall_seconds: float
    memory_mib: float  # the peak: of all together where control groups are at hand, else of the largest
    output: bytes  # stdout and stderr, first and last KEPT_BYTES
    marker_seen: bool
