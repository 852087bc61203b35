"""Progress on stderr: one line a stage with done/total, rate, ETA and the key metric.

On a terminal the line is rewritten in place; elsewhere plain lines are printed at most every few seconds. Results are
none of its business: they go to stdout, and only cli/ prints them.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

_PLAIN_SECONDS = 10.0
_LIVE_SECONDS = 0.2
_CLEAR_LINE = "\r\x1b[K"


class Progress:
    """A counted piece of work. Use as a context manager; call `advance` as units are done.

    `done` are units that an earlier, interrupted run did: they count, but not towards the rate. `clock` gives seconds.
    """

    def __init__(
        self,
        label: str,
        total: int,
        unit: str,
        *,
        done: int = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = self._done_before = done
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._clock = clock
        self._started = clock()
        self._shown_at: float | None = None
        self._shown_done = -1
        self._note = ""

    def __enter__(self) -> Self:
        self._started = self._clock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live or self._shown_done != self.done:
            self._show()
        if self._live:
            self._stream.write("\n")
            self._stream.flush()

    @property
    def rate(self) -> float:
        """Units a second since this process began the work."""
        return (self.done - self._done_before) / max(self._clock() - self._started, 1e-9)

    def advance(self, count: int, note: str = "") -> None:
        """Counts `count` more units; `note` is the key metric now."""
        self.done += count
        self._note = note or self._note
        pause = _LIVE_SECONDS if self._live else _PLAIN_SECONDS
        if self._shown_at is None or self._clock() - self._shown_at >= pause:
            self._show()

    def _show(self) -> None:
        now = self._shown_at = self._clock()
        self._shown_done = self.done
        rate = self.rate
        left = (self.total - self.done) / rate if rate > 0 else float("inf")
        parts = [
            f"{self.label}: {self.done:,}/{self.total:,} {self.unit}",
            f"{rate:,.1f}/s" if rate >= 1 or not rate else f"{rate:.2g}/s",
            f"ETA {_duration(left)}" if self.done < self.total else f"took {_duration(now - self._started)}",
            self._note,
        ]
        line = "  ".join(part for part in parts if part)
        if self._live:  # a line that wraps could not be rewritten in place
            line = _CLEAR_LINE + line[: shutil.get_terminal_size().columns - 1]
        self._stream.write(line if self._live else f"{line}\n")
        self._stream.flush()


def say(message: str) -> None:
    """One line for the user on stderr; it takes the place of a progress line, which the next `advance` draws again."""
    start = _CLEAR_LINE if sys.stderr.isatty() else ""
    print(start + message, file=sys.stderr, flush=True)  # noqa: T201  (the one place below cli/ that prints)


def _duration(seconds: float) -> str:
    if seconds == float("inf"):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
