"""Requests in engines' hands: how many are let in, how events reach the event loop, and how one is stopped.

Engines emit on threads of their own. A `Mailbox` brings the events over, with one wake-up of the loop for all that came
since the last. A `Gate` bounds what an engine is given; a `Run` is one HTTP request's sequences, from admission until
the engine has let go of the last.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Literal

from codechoir.model.requests import Chunk, CompletionEngine, Emit, Event, Failure, Request, Ticket
from codechoir.serve.metrics import ModelMetrics
from codechoir.serve.refusals import RefusedError

Reason = Literal["disconnected", "deadline", "slow_reader", "stopping", "done"]

_LONG_PROMPT = 8192  # characters from which a prompt is tokenised beside the event loop, not on it
_LONGEST_WAIT = 60  # seconds


class StoppedError(Exception):
    """A run was stopped before its sequences ended."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class Mailbox:
    """Carries events from any thread to functions that run on the loop, in their order."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[tuple[Callable[[Event], None], Event]] = deque()
        self._woken = False

    def address(self, deliver: Callable[[Event], None]) -> Emit:
        """An `emit` for an engine, whose events `deliver` gets."""

        def emit(event: Event) -> None:
            self._waiting.append((deliver, event))
            if not self._woken:
                self._woken = True
                self._loop.call_soon_threadsafe(self._empty)

        return emit

    def _empty(self) -> None:
        # Cleared first: what is appended from here on is either taken below or wakes the loop again.
        self._woken = False
        for _ in range(len(self._waiting)):
            deliver, event = self._waiting.popleft()
            deliver(event)


class Gate:
    """How many sequences an engine is given at once. Belongs to the event loop."""

    def __init__(self, places: int) -> None:
        self.places, self.taken = places, 0
        self._seconds = 1.0  # how long a place is held, a moving average

    def enter(self, count: int) -> None:
        """Takes places. Raises RefusedError (429) where there are too few."""
        if self.taken + count > self.places:
            wait = min(_LONGEST_WAIT, max(1, math.ceil(self._seconds)))
            raise RefusedError(429, "too many requests; try again later", code="queue_full", retry_after=wait)
        self.taken += count

    def leave(self, seconds: float | None = None) -> None:
        """Gives a place back that was held so long; without a time, one that was not used."""
        self.taken -= 1
        if seconds is not None:
            self._seconds += 0.1 * (seconds - self._seconds)


class Run:
    """The sequences of one HTTP request. Made and used on the event loop.

    `max_unread` events may wait to be read; beyond that the reader is too slow, and the run is stopped.
    """

    def __init__(self, gate: Gate, mailbox: Mailbox, metrics: ModelMetrics, max_unread: int | None) -> None:
        self._gate, self._mailbox, self._metrics, self._max_unread = gate, mailbox, metrics, max_unread
        self._tickets: list[Ticket] = []
        self._unread: deque[tuple[int, Event]] = deque()
        self._changed = asyncio.Event()
        self._last: list[float | None] = []  # when each sequence's last token came
        self._num_running = 0  # sequences the engine has not let go of
        self._num_unended = 0  # sequences whose end is not read
        self.began = time.monotonic()
        self.stopped: Reason | None = None
        self.when_stopped: Callable[[], None] = lambda: None
        self.when_done: Callable[[], None] = lambda: None

    @property
    def first(self) -> Ticket:
        """The first sequence in the engine's hands, once all have been handed over."""
        return self._tickets[0]

    async def start(self, engine: CompletionEngine, requests: Sequence[Request], num_characters: int) -> None:
        """Hands the sequences to the engine. Raises RefusedError, InputError, EngineStoppedError."""
        self._gate.enter(len(requests))
        self._last = [None] * len(requests)
        self._num_unended = len(requests)
        handed = 0
        try:
            for place, request in enumerate(requests):
                handed += 1
                ticket = await self._submit(engine, place, request, num_characters)
                self._tickets.append(ticket)
                if self.stopped:
                    ticket.cancel()
        except BaseException:
            for _ in range(len(requests) - handed):
                self._gate.leave()
            self.stop("done")
            raise

    async def _submit(self, engine: CompletionEngine, place: int, request: Request, num_characters: int) -> Ticket:
        self._num_running += 1
        self._metrics.waiting.inc()
        emit = self._mailbox.address(self._receiver(place))
        try:
            if num_characters > _LONG_PROMPT:
                return await asyncio.to_thread(engine.submit, request, emit)
            return engine.submit(request, emit)
        except Exception:
            self._num_running -= 1
            self._metrics.waiting.dec()
            self._gate.leave()
            raise

    async def events(self) -> AsyncIterator[list[tuple[int, Event]]]:
        """(sequence, event) pairs, all that have come at a time. Raises StoppedError."""
        while self._num_unended:
            while not self._unread and not self.stopped:
                self._changed.clear()
                await self._changed.wait()
            if self.stopped:
                raise StoppedError(self.stopped)
            taken = list(self._unread)
            self._unread.clear()
            self._num_unended -= sum(not isinstance(event, Chunk) for _, event in taken)
            yield taken

    def stop(self, reason: Reason) -> None:
        """Cancels what still runs; the reader learns of it at once, the gate when the engine has let go."""
        if self.stopped:
            return
        self.stopped = reason
        if self._num_running:
            for ticket in self._tickets:
                ticket.cancel()
            if reason != "done":
                self._metrics.cancelled(reason)
        self._unread.clear()
        self._changed.set()
        self.when_stopped()

    def cancel(self) -> None:
        """Has the engine end it; its reader gets the end like any other."""
        for ticket in self._tickets:
            ticket.cancel()

    def done(self) -> None:
        """Nobody reads it any more."""
        self.stop("done")
        self.when_done()

    def _receiver(self, place: int) -> Callable[[Event], None]:
        def receive(event: Event) -> None:
            now = time.monotonic()
            if isinstance(event, Chunk):
                self._count_token(place, now)
            else:
                self._let_go(place, event, now)
            if self.stopped:
                return
            self._unread.append((place, event))
            self._changed.set()
            if self._max_unread is not None and len(self._unread) > self._max_unread:
                self.stop("slow_reader")

        return receive

    def _count_token(self, place: int, now: float) -> None:
        last = self._last[place]
        if last is None:
            self._metrics.waiting.dec()
            self._metrics.running.inc()
            self._metrics.first_token_seconds.observe(now - self.began)
        else:
            self._metrics.token_seconds.observe(now - last)
        self._last[place] = now

    def _let_go(self, place: int, event: Event, now: float) -> None:
        self._num_running -= 1
        self._gate.leave(now - self.began)
        (self._metrics.waiting if self._last[place] is None else self._metrics.running).dec()
        if not isinstance(event, Chunk | Failure):
            self._metrics.ended(event)
