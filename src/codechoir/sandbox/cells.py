"""The host's side of a cell: a long-lived sandbox with a keeper inside, which is handed jobs and answers with results.

Owns the life of the cell: starting, the limits of its control group, the deadline after which it is given up, killing
all of it. In goes a `Job`, out come its `StepResult`s. Knows nothing of languages or verdicts, nor of how the keeper
runs a program.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Self

from codechoir.sandbox import keeper
from codechoir.sandbox.groups import Group
from codechoir.sandbox.isolation import ENVIRONMENT, FOLDER, Inherited, Sandbox, memory_file
from codechoir.sandbox.jobs import KEPT_BYTES, Job, Step, StepResult

_MIB = 2**20
_TMP_MIB = 512  # of each job's /tmp
_KEEPER_FOLDER = "/tmp/keeper"
_KEEPER_MIB = 32  # that the keeper and its forks may add to a group
_KEEPER_PROCESSES = 4  # with those of bubblewrap
_START_SECONDS = 60.0
_GRACE_SECONDS = 30.0  # for the keeper, over a step's own deadline
_END_SECONDS = 10.0
_ENTRY = """\
import sys
before = frozenset(sys.modules)
from codechoir.sandbox.keeper import serve
serve(before)
raise ImportError(name="usercustomize")  # the interpreter takes it that there is no such module
"""


class SandboxError(OSError):
    """The sandbox itself has failed; nothing is known of the program."""


class Cell:
    """A sandbox for many jobs, one after the other, none of which finds anything of another. Not thread-safe."""

    def __init__(self, sandbox: Sandbox, python: str, visible: tuple[str, ...] = ()) -> None:
        """`python` is the interpreter of the keeper and of warm programs, `visible` folders outside the system's."""
        self._sandbox, self._python, self._visible = sandbox, python, visible
        self._running: _Running | None = None

    def run(self, job: Job) -> list[StepResult]:
        """Runs a job's steps up to the first that fails. Nothing of them is left running.

        Raises SandboxError where the cell itself has failed; the next job gets a new one.
        """
        try:
            return self._started(job).run(job)
        except SandboxError:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise SandboxError(f"{type(error).__name__}: {error}") from error
        except BaseException:  # an interrupt: the program may be running
            self.close()
            raise

    def close(self) -> None:
        """Kills whatever runs in the cell, and returns when it has gone."""
        if self._running is not None:
            self._running.end()
            self._running = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _started(self, job: Job) -> _Running:
        if self._running is not None and not self._running.usable():
            self.close()
        if self._running is None:
            preload = any(step.warm_python for step in job.steps)
            self._running = _Running(self._sandbox, self._python, self._visible, preload)
        return self._running


class _Running:
    """A cell that is up."""

    def __init__(self, sandbox: Sandbox, python: str, visible: tuple[str, ...], preload: bool) -> None:
        """`preload`: the keeper shall import what Python programs often do. Forks of a smaller one are cheaper."""
        self._has_walls = sandbox.kind == "bubblewrap"
        # The kernel kills a cell with the thread, not with the process, that started it.
        self._starter = threading.current_thread()
        self._group: Group | None = None
        self._keeper: int | None = None  # a descriptor of process 1
        self._scratch = None if self._has_walls else Path(mkdtemp(prefix="codechoir-cell-"))
        self._control, inside = socket.socketpair()
        self._process: subprocess.Popen[bytes] | None = None
        self._failed = False
        try:
            with inside:
                self._start(sandbox, python, visible, inside)
            settings = {
                "walls": self._has_walls,
                "folder": str(self._folder),
                "tmp_mib": _TMP_MIB,
                "kept_bytes": KEPT_BYTES,
                "preload": preload,
            }
            self._send(keeper.packed(settings, sandbox.system_calls))
        except BaseException:
            self.end()
            raise

    @property
    def _folder(self) -> Path:
        return Path(FOLDER) if self._scratch is None else self._scratch / "program"

    def usable(self) -> bool:
        """Whether it can take another job. Waits until everything of the last one has gone."""
        if self._failed or not self._starter.is_alive():
            return False
        try:
            ended = self._answer(time.monotonic() + _END_SECONDS)
        except SandboxError:
            return False
        assert self._process is not None
        # the answer to the last job may have come before the keeper's death
        return ended is not None and ended[0].get("ended") == 0 and self._process.poll() is None

    def run(self, job: Job) -> list[StepResult]:
        if self._scratch is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir()
        results: list[StepResult] = []
        for step in job.steps:
            if self._group is not None:
                limits = step.limits
                memory = (limits.memory_mib + limits.memory_overhead + _KEEPER_MIB) * _MIB
                self._group.limit(memory, limits.processes + _KEEPER_PROCESSES)
            self._send(keeper.packed({}) if results else self._message(job))
            result = self._result(step)
            results.append(result)
            if result.exit_code != 0:
                break
        return results

    def end(self) -> None:
        """Kills everything, waits for its end, and clears up."""
        self._control.close()
        if self._process is not None:
            self._kill(self._process)
        if self._keeper is not None:
            os.close(self._keeper)
            self._keeper = None
        if self._group is not None:
            self._group.close()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        with process:
            if self._keeper is not None:
                # Process 1 takes its whole namespace with it, and bubblewrap, which waits for it, ends after it.
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._keeper, signal.SIGKILL)
            elif self._has_walls:
                process.kill()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()

    def _start(self, sandbox: Sandbox, python: str, visible: tuple[str, ...], inside: socket.socket) -> None:
        environment = {keeper.CONTROL_VARIABLE: str(inside.fileno())}
        command = (python, "-B", "main.py")
        if self._scratch is not None:
            home = self._scratch / "keeper"
            self._folder.mkdir()
            for name, content in _keeper_files().items():
                (home / name).parent.mkdir(parents=True, exist_ok=True)
                (home / name).write_bytes(content)
            environment |= {"PYTHONPATH": str(home), **ENVIRONMENT}
            self._popen(command, (inside.fileno(),), environment)
            return
        environment["PYTHONPATH"] = _KEEPER_FOLDER
        reading, writing = os.pipe()
        files = {f"{_KEEPER_FOLDER}/{name}": memory_file(name, content) for name, content in _keeper_files().items()}
        try:
            enclosed = sandbox.enclosed(command, visible, Inherited(files, writing), environment)
            if sandbox.groups is not None:
                self._group = sandbox.groups.make()
                enclosed = (*self._group.command(), *enclosed)
            self._popen(enclosed, (inside.fileno(), writing, *files.values()), ENVIRONMENT)
            os.close(writing)
            writing = -1
            self._keeper = _process_descriptor(reading)
        finally:
            for number in (reading, writing, *files.values()):
                if number >= 0:
                    os.close(number)

    def _popen(self, command: tuple[str, ...], descriptors: tuple[int, ...], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,  # of the same kind as programs have, for warm ones keep what is made of it here
            stderr=subprocess.STDOUT,
            cwd="/" if self._scratch is None else self._folder,
            env=environment,
            pass_fds=descriptors,
            start_new_session=True,
        )

    def _message(self, job: Job) -> bytes:
        tmp = "/tmp" if self._scratch is None else str(self._folder)
        environment = {**ENVIRONMENT, "HOME": tmp, "TMPDIR": tmp}
        header = {
            "files": [(name, len(content)) for name, content in job.files.items()],
            "steps": [_described(step, environment) for step in job.steps],
            "marker": job.marker.hex(),
        }
        return keeper.packed(header, b"".join(job.files.values()))

    def _send(self, message: bytes) -> None:
        self._control.settimeout(_START_SECONDS)
        try:
            self._control.sendall(message)
        except ConnectionError as error:
            raise SandboxError(f"the sandbox's keeper has ended: {self._last_words()}") from error

    def _result(self, step: Step) -> StepResult:
        """The answer to a step that is running."""
        started = time.monotonic()
        answer = self._answer(started + step.limits.wall_seconds + _GRACE_SECONDS)
        ran_out = self._group is not None and self._group.ran_out()
        if answer is not None and "exit_code" in answer[0]:
            result = StepResult(name=step.name, output=answer[1], **answer[0])
        elif ran_out:  # the kernel has taken the keeper or its fork as well
            self._failed = True
            result = _taken_down(step, time.monotonic() - started)
        else:
            what = self._last_words() if answer is None else answer[0].get("error", f"a job ended with {answer[0]}")
            raise SandboxError(f"the sandbox's keeper has failed: {what}")
        peak = None if self._group is None else self._group.peak_bytes()
        if peak is not None:
            result = replace(result, memory_mib=round(peak / _MIB, 1))
        return replace(result, exit_code=None, signal=None, stopped="memory") if ran_out else result

    def _answer(self, deadline: float) -> keeper.Message | None:
        """The keeper's next message; None where it has hung up."""
        lengths = self._receive(8, deadline)
        if lengths is None:
            return None
        header = self._receive(int.from_bytes(lengths[:4], "little"), deadline)
        content = self._receive(int.from_bytes(lengths[4:], "little"), deadline)
        return None if header is None or content is None else (json.loads(header), content)

    def _receive(self, size: int, deadline: float) -> bytes | None:
        received = bytearray()
        while len(received) < size:
            self._control.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                part = self._control.recv(size - len(received))
            except TimeoutError:
                raise SandboxError("the sandbox did not answer in time") from None
            except ConnectionError:
                return None
            if not part:
                return None
            received += part
        return bytes(received)

    def _last_words(self) -> str:
        """What the keeper or bubblewrap has said, once it has ended."""
        assert self._process is not None and self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], _END_SECONDS)
        said = os.read(self._process.stdout.fileno(), KEPT_BYTES) if ready else b""
        if said.strip():
            return said.decode(errors="replace").strip()
        return f"exit code {self._process.wait(_END_SECONDS)}"


def _taken_down(step: Step, wall_seconds: float) -> StepResult:
    return StepResult(
        name=step.name,
        exit_code=None,
        signal=None,
        stopped="memory",
        cpu_seconds=0.0,
        wall_seconds=round(wall_seconds, 4),
        memory_mib=0.0,
        output=b"",
        marker_seen=False,
    )


def _described(step: Step, environment: Mapping[str, str]) -> dict[str, Any]:
    """A step as the keeper wants it."""
    limits = step.limits
    return {
        "argv": step.argv,
        "environment": {**environment, **step.environment},
        "removed": step.removed,
        "warm_python": step.warm_python,
        "limits": {
            "cpu_seconds": limits.cpu_seconds,
            "wall_seconds": limits.wall_seconds,
            "memory_limit": limits.memory_limit,
            "memory_bytes": (limits.memory_mib + limits.memory_overhead) * _MIB,
            "processes": limits.processes,
            "file_bytes": limits.file_mib * _MIB,
            "output_bytes": limits.output_mib * _MIB,
        },
    }


@cache
def _keeper_files() -> dict[str, bytes]:
    package = resources.files(keeper.__package__)
    texts = {f"codechoir/sandbox/{name}": package.joinpath(name).read_bytes() for name in ("keeper.py", "walls.py")}
    return {"usercustomize.py": _ENTRY.encode(), **texts}


def _process_descriptor(information: int) -> int | None:
    """A descriptor of the process that bubblewrap tells of; None where it has failed before, or has ended."""
    ready, _, _ = select.select([information], [], [], _START_SECONDS)
    text = b""
    while ready and (part := os.read(information, 4096)):
        text += part
        if b"}" in text:
            with contextlib.suppress(ProcessLookupError):  # it has ended since
                return os.pidfd_open(json.loads(text)["child-pid"])
            break
    return None
