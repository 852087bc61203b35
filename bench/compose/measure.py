"""Runs one command and measures it as the kernel does: wall seconds, and the largest resident set of any process in it.

Knows nothing of what is measured. The resident set is that of wait4: pages of files mapped into memory count, and the
largest process counts, not the sum of several. A process cannot be told smaller than the one that started it was,
so this one loads nothing heavy.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of one command."""

    seconds: float
    peak_mib: float
    exit_code: int
    last_line: str  # of stdout and stderr together: says why where the exit code is not 0


def measure(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None, timeout_s: float = 3600
) -> Measured:
    """Runs `command` to its end, or kills its processes after `timeout_s`; its output goes to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    os.sync()  # what the one before has written shall not be written during this one's time
    with log.open("wb") as out:
        begin = time.perf_counter()
        process = subprocess.Popen(
            list(command), stdout=out, stderr=out, env={**os.environ, **(environment or {})}, start_new_session=True
        )
        timer = Timer(timeout_s, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            timer.cancel()
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
    lines = log.read_text(errors="replace").strip().splitlines()
    return Measured(seconds, usage.ru_maxrss * 1024 / MIB, process.returncode, lines[-1] if lines else "")
