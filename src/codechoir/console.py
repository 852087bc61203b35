"""Progress on stderr: one line a stage with done/total, rate, ETA and the key metric.

On a terminal the line is rewritten in place; elsewhere plain lines are printed at most every few seconds.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self, TextIO

_PLAIN_SECONDS = 10.0
_LIVE_SECONDS = 0.2


class Progress:
    """A counted piece of work. Use as a context manager; call `advance` as units are done."""

    def __init__(self, label: str, total: int, unit: str, *, done: int = 0, stream: TextIO | None = None) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = self._done_before = done
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._started = time.monotonic()
        self._shown = 0.0
        self._note = ""

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._show()
        if self._live:
            self._stream.write("\n")
            self._stream.flush()

    @property
    def rate(self) -> float:
        """Units a second since this process began the work."""
        return (self.done - self._done_before) / max(time.monotonic() - self._started, 1e-9)

    def advance(self, count: int, note: str = "") -> None:
        """Counts `count` more units; `note` is the key metric now."""
        self.done += count
        self._note = note or self._note
        pause = _LIVE_SECONDS if self._live else _PLAIN_SECONDS
        if time.monotonic() - self._shown >= pause:
            self._show()

    def _show(self) -> None:
        self._shown = time.monotonic()
        left = (self.total - self.done) / self.rate if self.rate > 0 else float("inf")
        eta = f"ETA {_clock(left)}" if self.done < self.total else f"took {_clock(self._shown - self._started)}"
        parts = [
            f"{self.label}: {self.done:,}/{self.total:,} {self.unit}",
            f"{self.rate:,.1f}/s",
            eta,
            self._note,
        ]
        line = "  ".join(part for part in parts if part)
        self._stream.write(f"\r\x1b[K{line}" if self._live else f"{line}\n")
        self._stream.flush()


def say(message: str) -> None:
    """One line for the user on stderr."""
    print(message, file=sys.stderr, flush=True)  # noqa: T201  (the one place below cli/ that prints)


def _clock(seconds: float) -> str:
    if seconds == float("inf"):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
