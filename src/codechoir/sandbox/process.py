"""Watches one launched program: drains its output, keeps its deadlines, counts its CPU time, kills all of it.

In goes a command whose standard output is a report of ours, line by line (`ready`, `compiled N`, `exited N`), and whose
standard error is the program's output, of any length; out comes a `Watched`. Waits block; nothing is polled.
Knows nothing of how the command isolates the program or what the result means.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from codechoir.sandbox.isolation import ENVIRONMENT, Launch

KEPT_BYTES = 4096  # of the output's beginning, and as many of its end
_CHUNK = 1 << 16
_REPORT_BYTES = 4096
_GRACE_SECONDS = 10.0  # for the kernel to take down what was killed

Stopped = Literal["compile-time", "time", "output"]


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Wall-clock seconds of the two phases, and the bytes of output after which a program is stopped."""

    compile_seconds: float
    run_seconds: float
    output_bytes: int


@dataclass(frozen=True, slots=True)
class Watched:
    """How a launched program ended. Codes over 128 are signals, as the shell reports them."""

    started: bool  # False: the launcher itself failed
    compile_code: int | None  # None: not compiled, or stopped meanwhile
    exit_code: int | None  # None: it did not end by itself
    stopped: Stopped | None  # by us, and why
    cpu_seconds: float  # of the whole tree, compilation included
    wall_seconds: float
    output: str  # first and last 4 KiB


@dataclass(slots=True)
class _Output:
    """The first and the last KEPT_BYTES of a stream."""

    head: bytearray = field(default_factory=bytearray)
    tail: bytearray = field(default_factory=bytearray)
    total: int = 0

    def add(self, chunk: bytes) -> None:
        self.total += len(chunk)
        room = KEPT_BYTES - len(self.head)
        self.head += chunk[:room]
        self.tail += chunk[room:] if room > 0 else chunk
        if len(self.tail) > KEPT_BYTES:
            del self.tail[:-KEPT_BYTES]

    def text(self) -> str:
        left_out = self.total - len(self.head) - len(self.tail)
        gap = f"\n[... {left_out} bytes left out ...]\n".encode() if left_out else b""
        return bytes(self.head + gap + self.tail).decode(errors="replace")


def watch(launch: Launch, deadlines: Deadlines) -> Watched:
    """Runs the command to its end or its limits; on return all of its processes are gone.

    Raises OSError where this machine cannot start the command at all.
    """
    started = time.monotonic()
    environment = dict(ENVIRONMENT)
    if launch.folder is not None:
        environment |= {"HOME": str(launch.folder), "TMPDIR": str(launch.folder)}
    process = subprocess.Popen(
        launch.command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        cwd=launch.folder or "/",
        env=environment,
        pass_fds=launch.inherited,
        start_new_session=True,
    )
    with process:
        drain = _Drain(process, deadlines, has_namespace=launch.folder is None)
        try:
            drain.run()
        finally:
            # Whatever happened, also an interrupt: nothing of the program may outlive this call.
            os.killpg(process.pid, signal.SIGKILL)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    return Watched(
        started="ready" in drain.report,
        compile_code=drain.code("compiled"),
        exit_code=drain.code("exited"),
        stopped=drain.stopped,
        cpu_seconds=round(usage.ru_utime + usage.ru_stime, 4),
        wall_seconds=round(time.monotonic() - started, 4),
        output=drain.output.text(),
    )


class _Drain:
    """Reads a process's report and output until both end."""

    def __init__(self, process: subprocess.Popen[bytes], deadlines: Deadlines, *, has_namespace: bool) -> None:
        assert process.stdout is not None and process.stderr is not None
        self.output = _Output()
        self.stopped: Stopped | None = None
        self._launcher, self._has_namespace, self._deadlines = process.pid, has_namespace, deadlines
        self._report_file, self._output_file = process.stdout.fileno(), process.stderr.fileno()
        self._report = bytearray()
        self._phase: Literal["compile", "run", "ended"] = "compile"
        self._deadline = time.monotonic() + deadlines.compile_seconds

    @property
    def report(self) -> list[str]:
        """The whole lines that the script has reported."""
        return self._report.rpartition(b"\n")[0].decode(errors="replace").splitlines()

    def code(self, event: str) -> int | None:
        """The number reported with `event`, if it was."""
        found = [line.removeprefix(event).strip() for line in self.report if line.startswith(event)]
        return int(found[0]) if found and found[0].isdecimal() else None

    def run(self) -> None:
        """Returns when both streams have ended, or would not although all was killed."""
        with selectors.DefaultSelector() as streams:
            for file in (self._report_file, self._output_file):
                streams.register(file, selectors.EVENT_READ)
            while streams.get_map():
                ready = streams.select(max(0.0, self._deadline - time.monotonic()))
                if not ready:
                    if self.stopped or self._phase == "ended":
                        return
                    self._stop("compile-time" if self._phase == "compile" else "time")
                for key, _ in ready:
                    chunk = os.read(key.fd, _CHUNK)
                    if not chunk:
                        streams.unregister(key.fd)
                    elif key.fd == self._report_file:
                        self._advance(chunk)
                    else:
                        self.output.add(chunk)
                if self.output.total > self._deadlines.output_bytes and not self.stopped:
                    self._stop("output")

    def _advance(self, chunk: bytes) -> None:
        """Takes in a piece of the report, which may open the next phase."""
        self._report += chunk[: _REPORT_BYTES - len(self._report)]
        if self.stopped:
            return
        if self.code("exited") is not None:
            self._phase, self._deadline = "ended", time.monotonic() + _GRACE_SECONDS
        elif self._phase == "compile" and self.code("compiled") == 0:
            self._phase, self._deadline = "run", time.monotonic() + self._deadlines.run_seconds

    def _stop(self, reason: Stopped) -> None:
        """Kills the program: in a namespace all but process 1, which then collects its CPU time, ends, and ends all."""
        self.stopped = reason
        self._deadline = time.monotonic() + _GRACE_SECONDS
        shells = _children(self._launcher) if self._has_namespace else []
        programs = [program for shell in shells for program in _children(shell)]
        for process in programs or shells:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if not shells:
            os.killpg(self._launcher, signal.SIGKILL)


def _children(parent: int) -> list[int]:
    """The processes that `parent` has started or inherited; none where the kernel does not say."""
    try:
        listed = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in listed.split()]
