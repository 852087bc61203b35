"""A compiler that stays up inside the walls and answers one request at a time over its standard input and output.

In goes a request as bytes, out comes a reply as bytes (4 bytes of length, then so many). Knows nothing of languages. A
service that has died, has been silent too long or has said too much is ended and counts as failed; the next request
starts a new one, as it does after a number of requests, so that no compiler grows for ever.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import struct
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

MAX_REQUESTS = 1000
_MAX_REPLY = 64 * 2**20
_CHUNK = 1 << 16
_LENGTH = struct.Struct(">i")


@dataclass(frozen=True, slots=True)
class Running:
    """A started service: a process with unbuffered pipes, in a session of its own, and what clears up after it."""

    process: subprocess.Popen[bytes]
    clear_up: Callable[[], object]


Starter = Callable[[], Running]


class ServiceError(Exception):
    """The service gave no answer."""


class Service:
    """One process, started when first asked. Not thread-safe."""

    def __init__(self, start: Starter, max_requests: int = MAX_REQUESTS) -> None:
        self._start, self._max_requests = start, max_requests
        self._running: Running | None = None
        self._num_requests = 0

    def ask(self, request: bytes, seconds: float) -> bytes:
        """The reply to a request. Raises ServiceError after `seconds`, or where the service fails."""
        ended = self._running is not None and self._running.process.poll() is not None
        if ended or self._num_requests >= self._max_requests:
            self.close()
        try:
            if self._running is None:
                self._running = self._start()
            self._num_requests += 1
            return _exchange(self._running.process, request, time.monotonic() + seconds)
        except (OSError, ServiceError) as error:
            self.close()
            raise ServiceError(str(error)) from error

    def close(self) -> None:
        """Ends the process and all that it has started. The next request starts a new one."""
        running, self._running, self._num_requests = self._running, None, 0
        if running is None:
            return
        with running.process as process, contextlib.suppress(ProcessLookupError):  # closes the pipes, and waits
            os.killpg(process.pid, signal.SIGKILL)
        running.clear_up()


def _exchange(process: subprocess.Popen[bytes], request: bytes, deadline: float) -> bytes:
    """Writes and reads at once, so that neither side waits for the other with a full pipe."""
    assert process.stdin is not None and process.stdout is not None
    source, sink = process.stdout.fileno(), process.stdin.fileno()
    os.set_blocking(source, False)
    os.set_blocking(sink, False)
    left, reply = memoryview(request), bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(source, selectors.EVENT_READ)
        selector.register(sink, selectors.EVENT_WRITE)
        while True:
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise ServiceError("no answer in time")
            for key, _ in ready:
                if key.fd == sink:
                    left = left[os.write(sink, left[:_CHUNK]) :]
                    if not left:
                        selector.unregister(sink)
                elif not (chunk := os.read(source, _CHUNK)):
                    raise ServiceError("the service ended")
                else:
                    reply += chunk
            if (size := _size(reply)) is not None and len(reply) >= _LENGTH.size + size:
                return bytes(reply[_LENGTH.size : _LENGTH.size + size])


def _size(reply: bytearray) -> int | None:
    if len(reply) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack_from(reply)
    if not 0 <= size <= _MAX_REPLY:
        raise ServiceError(f"a reply of {size} bytes")
    return int(size)
