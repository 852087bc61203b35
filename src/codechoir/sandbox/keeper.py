"""The part of the sandbox that runs inside it: forks each program of a job into walls of its own and watches it.

Owns what happens between a job's arrival and its results: order, deadlines, draining, killing, counting. In go messages
on a socket that `cells` holds the other end of; out come one message a step. Needs `walls` and the standard library
alone, since it is started from its bare text by whatever python3 the machine has. Knows nothing of languages, verdicts
or control groups.

It is started as `python3 -B main.py` and takes over while the interpreter sets itself up, before main.py is looked
for. A program to be run as *warm Python* is a fork that simply returns from here, so that the interpreter goes on to
run main.py as it would have: nothing of this module is on its stack, among its modules or in its path.

Each job is read, run and answered by a fork that is process 1 of the job's own process namespace, so that this
process never holds anything of a job that the next one could find, and the end of process 1 is the end of all.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from typing import Any

from codechoir.sandbox.walls import Walls

CONTROL_VARIABLE = "CODECHOIR_CONTROL"  # the number of the socket's descriptor
# Modules that programs often import, none of which has parts that show up only where they have been imported.
_PRELOADED = ("typing", "re", "math", "collections", "itertools", "functools", "string", "heapq", "bisect", "copy")

_CONTROL = 3
_REPORT = 3  # in a program that is about to start, where its walls tell what went wrong
_LAST_DESCRIPTOR = 1 << 16
_CHUNK = 1 << 16
_HOST_GONE = 41  # exit code of a job's process 1
_CANNOT_START = 127  # as shells have it

Message = tuple[dict[str, Any], bytes]


def receive(control: int) -> Message | None:
    """The next message of the socket, None at its end: two lengths of 4 bytes, a JSON object, and bytes."""
    lengths = _read_exactly(control, 8)
    if lengths is None:
        return None
    header = _read_exactly(control, int.from_bytes(lengths[:4], "little"))
    content = _read_exactly(control, int.from_bytes(lengths[4:], "little"))
    return None if header is None or content is None else (json.loads(header), content)


def packed(header: dict[str, Any], content: bytes = b"") -> bytes:
    """A message as `receive` reads it."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(4, "little") + len(content).to_bytes(4, "little") + text + content


def _read_exactly(file: int, size: int) -> bytes | None:
    parts = []
    while size:
        part = os.read(file, min(size, 1 << 20))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _send(control: int, header: dict[str, Any], content: bytes = b"") -> None:
    left = memoryview(packed(header, content))
    while left:
        left = left[os.write(control, left) :]


class Output:
    """A stream's length, its first and last `kept` bytes, and whether the marker was in it."""

    def __init__(self, kept: int, marker: bytes) -> None:
        self.total, self.marker_seen = 0, not marker
        self._kept, self._marker = kept, marker
        self._head, self._tail, self._last = bytearray(), bytearray(), b""

    def add(self, chunk: bytes) -> None:
        """Takes in the stream's next piece."""
        self.total += len(chunk)
        room = self._kept - len(self._head)
        self._head += chunk[: max(room, 0)]
        self._tail += chunk[max(room, 0) :]
        if len(self._tail) > self._kept:
            del self._tail[: -self._kept]
        if not self.marker_seen:
            window = self._last + chunk
            self.marker_seen = self._marker in window
            self._last = window[max(0, len(window) - len(self._marker) + 1) :]

    def content(self) -> bytes:
        """What was kept, with a note of what was not in between."""
        left_out = self.total - len(self._head) - len(self._tail)
        gap = f"\n[... {left_out} bytes left out ...]\n".encode() if left_out else b""
        return bytes(self._head + gap + self._tail)


class _Job:
    """One job, in the process that is its process 1."""

    def __init__(self, walls: Walls, settings: dict[str, Any], job: Message) -> None:
        self._walls, self._kept = walls, settings["kept_bytes"]
        self._header, self._content = job
        self._wake, wake_end = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake_end, False)
        # Without handlers of its own, process 1 is deaf to signals from its namespace. This one only ends a wait.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)

    def run(self) -> bool:
        """Answers every step; true in a process that is to become a warm program."""
        self._walls.enter()
        start = 0
        for name, size in self._header["files"]:
            if folder := os.path.dirname(name):  # noqa: PTH120
                os.makedirs(folder, exist_ok=True)  # noqa: PTH103
            with open(name, "wb") as file:  # noqa: PTH123
                file.write(self._content[start : start + size])
            start += size
        self._content = b""
        steps = self._header["steps"]
        for number, step in enumerate(steps):
            if number and receive(_CONTROL) is None:
                os._exit(_HOST_GONE)
            for name in step["removed"]:
                os.unlink(name)  # noqa: PTH108
            if self._run_step(step):
                return True
            if self._failed:
                break
        return False

    def _run_step(self, step: dict[str, Any]) -> bool:
        """Runs a step and sends its result; true in the program itself, where it is a warm one."""
        output = Output(self._kept, bytes.fromhex(self._header["marker"]))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.monotonic()
        source, sink = os.pipe()
        report, report_end = os.pipe()
        self._status: int | None = None
        self._largest = 0
        self._program = os.fork()
        if self._program == 0:
            _become_program(step, self._walls, sink, report_end)
            return True
        os.close(sink)
        os.close(report_end)
        stopped = self._watch(source, output, step["limits"], started + step["limits"]["wall_seconds"])
        self._end_all()
        stopped = self._drain(source, output, step["limits"]) or stopped
        if wrong := os.read(report, _CHUNK):
            raise OSError(wrong.decode(errors="replace"))
        os.close(source)
        os.close(report)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        if stopped is None and cpu_seconds > step["limits"]["cpu_seconds"]:
            stopped = "time"
        code = os.waitstatus_to_exitcode(self._status or 0)
        self._failed = stopped is not None or code != 0
        result = {
            "exit_code": code if stopped is None and code >= 0 else None,
            "signal": -code if stopped is None and code < 0 else None,
            "stopped": stopped,
            "cpu_seconds": round(cpu_seconds, 4),
            "wall_seconds": round(time.monotonic() - started, 4),
            "memory_mib": round(self._largest / 1024, 1),
            "marker_seen": output.marker_seen,
        }
        _send(_CONTROL, result, output.content())
        return False

    def _watch(self, source: int, output: Output, limits: dict[str, Any], deadline: float) -> str | None:
        """Reads what the program writes until it ends or has to be stopped; says why."""
        ready = select.poll()
        for file in (source, self._wake, _CONTROL):
            ready.register(file, select.POLLIN)
        while self._status is None:
            events = ready.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if time.monotonic() >= deadline:
                return "time"
            for file, _ in events:
                if file == _CONTROL:  # nothing is sent during a step: the host is gone
                    self._end_all()
                    os._exit(_HOST_GONE)
                chunk = os.read(file, _CHUNK)
                if file == self._wake:
                    self._reap(os.WNOHANG)
                elif chunk:
                    output.add(chunk)
                else:
                    ready.unregister(source)
            if output.total > limits["output_bytes"]:
                return "output"
        return None

    def _drain(self, source: int, output: Output, limits: dict[str, Any]) -> str | None:
        """Takes in what was still in the pipe when the program ended."""
        os.set_blocking(source, False)
        try:
            while chunk := os.read(source, _CHUNK):
                output.add(chunk)
        except BlockingIOError:
            pass
        return "output" if output.total > limits["output_bytes"] else None

    def _end_all(self) -> None:
        """Kills what the program has left running, and counts it in."""
        self._walls.kill_all()
        while self._reap(0):
            self._walls.kill_all()

    def _reap(self, options: int) -> bool:
        """Takes in processes that have ended; false once there are none at all."""
        try:
            while True:
                process, status, usage = os.wait4(-1, options)
                if process == 0:
                    return True
                self._largest = max(self._largest, usage.ru_maxrss)
                if process == self._program:
                    self._status = status
                if not options:
                    return True
        except ChildProcessError:
            return False


def _become_program(step: dict[str, Any], walls: Walls, sink: int, report: int) -> None:
    """Turns this fork into the step's program. Returns where it is a warm one, for the interpreter to go on."""
    try:
        os.setsid()
        # The walls' own descriptors are all above these four.
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        os.dup2(report, _REPORT, inheritable=False)
        os.closerange(_REPORT + 1, _LAST_DESCRIPTOR)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        walls.confine()
        walls.limit(step["limits"])
    except BaseException:
        os.write(_REPORT, traceback.format_exc().encode())
        os._exit(_CANNOT_START)
    environment = step["environment"]
    if step["warm_python"]:
        os.close(_REPORT)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update(environment)
        _renew_main_module()
        return
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python, and inherited
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvpe(step["argv"][0], step["argv"], environment)
    except OSError as error:
        os.write(2, f"cannot start {step['argv'][0]}: {error.strerror}\n".encode())
        os._exit(_CANNOT_START)


def _renew_main_module() -> None:
    """Gives this fork a `__main__` that the garbage collector looks at, or finalizers would not run at its end.

    The one that the interpreter made is among what was frozen.
    """
    frozen = sys.modules["__main__"]
    main = type(frozen)("__main__")
    main.__dict__.clear()
    main.__dict__.update(frozen.__dict__, __annotations__={})
    sys.modules["__main__"] = main
    sys.modules.pop("resource", None)  # os.wait4 brings it in


def serve(before: frozenset[str]) -> None:
    """Runs jobs until the host hangs up. Returns in a process that is to become a warm program, and nowhere else.

    `before` names the modules that the interpreter had loaded before this one.
    """
    os.dup2(int(os.environ[CONTROL_VARIABLE]), _CONTROL)  # which may be its number already
    os.set_inheritable(_CONTROL, False)
    os.closerange(_CONTROL + 1, _LAST_DESCRIPTOR)
    _start_afresh(before)
    setting_up = receive(_CONTROL)
    if setting_up is None:
        os._exit(0)
    settings, system_calls = setting_up
    for name in _PRELOADED if settings["preload"] else ():
        __import__(name)
    # A fork that looks for garbage, at the latest as it ends, would copy all the pages that this lies in.
    gc.collect()
    gc.freeze()
    walls = Walls(settings, system_calls)
    ready = select.poll()
    ready.register(_CONTROL, select.POLLIN)
    while True:
        ready.poll()
        walls.begin()
        process = os.fork()
        if process == 0:
            if _serve_one(walls, settings):
                return
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if status == _HOST_GONE:
            os._exit(0)
        # Only now has everything of the job gone, its files and the memory that they took too.
        _send(_CONTROL, {"ended": status})


def _serve_one(walls: Walls, settings: dict[str, Any]) -> bool:
    """Reads a job and runs it, in a process of its own; true in a process that is to become a warm program."""
    try:
        job = receive(_CONTROL)
        if job is None:
            os._exit(_HOST_GONE)
        return _Job(walls, settings, job).run()
    except Exception:
        _send(_CONTROL, {"error": traceback.format_exc()})
        return False


def _start_afresh(before: frozenset[str]) -> None:
    """Makes the interpreter look as it did before."""
    own_folder = os.environ["PYTHONPATH"]
    sys.path.remove(own_folder)
    for folder in [folder for folder in sys.path_importer_cache if folder.startswith(own_folder)]:
        del sys.path_importer_cache[folder]
    for name in set(sys.modules) - before:
        if name != "usercustomize":  # being imported; it takes itself away
            del sys.modules[name]
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) is signal.SIG_IGN and number not in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # the host may have had it ignored
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
