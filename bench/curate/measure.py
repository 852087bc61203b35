"""Runs one command and measures it: wall seconds, and the peak memory of its whole process tree.

Knows nothing of what is measured. Memory is proportional set size (PSS: a page shared by n processes counts 1/n in
each), so that forked workers are not counted twice. Reading it walks page tables; since PSS never exceeds RSS, it is
read only when the tree's RSS, which is cheap, exceeds the largest PSS so far.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

SAMPLE_SECONDS = 0.1  # more often, and reading it would slow what is measured
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
    """Runs `command` to its end, or kills its tree after `timeout_s`; its output goes to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        begin = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env={**os.environ, **(environment or {})}, start_new_session=True
        )
        tree = _Tree(process.pid)
        while process.poll() is None:
            tree.sample()
            if time.perf_counter() - begin > timeout_s:
                os.killpg(process.pid, signal.SIGKILL)
            try:
                process.wait(SAMPLE_SECONDS)
            except subprocess.TimeoutExpired:
                continue
        seconds = time.perf_counter() - begin
    lines = log.read_text(errors="replace").strip().splitlines()
    return Measured(seconds, tree.peak_bytes / MIB, process.returncode, lines[-1] if lines else "")


class _Tree:
    """A process and its descendants, remembered also after their parent has gone."""

    def __init__(self, pid: int) -> None:
        self.peak_bytes = 0
        self._known = {pid: psutil.Process(pid)}

    def sample(self) -> None:
        for process in list(self._known.values()):
            try:
                for child in process.children(recursive=True):
                    self._known.setdefault(child.pid, child)
            except psutil.NoSuchProcess:
                del self._known[process.pid]
        if sum(map(_rss, self._known)) > self.peak_bytes:
            self.peak_bytes = max(self.peak_bytes, sum(map(_pss, self._known)))


def _rss(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):  # it ended
        return 0


def _pss(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
