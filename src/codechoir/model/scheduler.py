"""Continuous batching: the engine that serves many callers with one model.

One worker thread owns the model. Each turn it drops what was cancelled, reads prompts (no more tokens than
`prefill_tokens`, so that a long prompt is read piece by piece while others go on), and advances each running batch by a
token. Requests routed by sequence share a batch; those routed by token have another, and the two take turns. Knows
tokens and routes; nothing of HTTP, deadlines or queues' bounds.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from codechoir.model.decoding import Vocabulary
from codechoir.model.moe import Routing
from codechoir.model.requests import (
    Abilities,
    Chunk,
    Emit,
    End,
    EngineStoppedError,
    Event,
    Failure,
    Request,
    check,
    room_after,
)
from codechoir.model.sequences import Progress, SequenceInProgress


class Batch(Protocol):
    """Sequences that one pass advances; `batching.Batch` says what each member does."""

    sequences: list[SequenceInProgress]

    def __len__(self) -> int: ...
    @property
    def num_unread(self) -> int: ...
    def read(self, num_columns: int) -> list[Progress]: ...
    def step(self) -> list[Progress]: ...
    def join(self, other: Any) -> None: ...
    def drop(self, sequences: Sequence[SequenceInProgress]) -> None: ...
    def shares(self) -> list[dict[str, float]]: ...


class Backend(Protocol):
    """What runs a model."""

    abilities: Abilities
    vocabulary: Vocabulary

    def begin(self, request: Request) -> SequenceInProgress:
        """A request before its prompt is read; on the caller's thread."""

    def batch(self, sequences: Sequence[SequenceInProgress]) -> Batch:
        """Sequences whose prompts are to be read together; on the worker's thread, as all of a batch's work."""


@dataclass(frozen=True, slots=True)
class Load:
    """What an engine is doing: requests that wait for a place, that are read, and that run."""

    waiting: int
    reading: int
    running: int


class _Job:
    """A request in the engine's hands, from `submit` to its last event."""

    def __init__(self, sequence: SequenceInProgress, emit: Emit, engine: ContinuousEngine) -> None:
        self.sequence, self._emit, self._engine = sequence, emit, engine
        self.cancelled = self._deaf = False

    @property
    def shares(self) -> dict[str, float]:
        """As `Ticket` says."""
        weights_E = self.sequence.route.weights_E
        return {} if weights_E is None else dict(zip(self._engine.abilities.experts, weights_E.tolist(), strict=True))

    @property
    def probabilities(self) -> dict[str, float]:
        """As `Ticket` says."""
        return dict(self.sequence.route.probabilities)

    def cancel(self) -> None:
        """As `Ticket` says."""
        self.cancelled = True
        self._engine.wake()

    def emit(self, event: Event) -> None:
        """Hands an event to the caller; a caller that raises gets no more, and hurts nobody else."""
        if self._deaf:
            return
        try:
            self._emit(event)
        except Exception:
            self.cancelled = self._deaf = True

    def end(self, finish: Any, shares: dict[str, float]) -> None:
        """Hands out the last event."""
        sequence = self.sequence
        num_prompt = len(sequence.prompt) + (sequence.healed is not None)
        self.emit(End(finish, num_prompt, sequence.num_new, shares, self.probabilities))


class ContinuousEngine:
    """A `CompletionEngine` over any backend."""

    def __init__(self, backend: Backend, max_sequences: int = 32, prefill_tokens: int = 512) -> None:
        self._backend, self._abilities, self._vocabulary = backend, backend.abilities, backend.vocabulary
        self._max_sequences, self._prefill_tokens = max_sequences, prefill_tokens
        self._changed = threading.Condition()
        self._waiting: deque[_Job] = deque()
        self._jobs: dict[SequenceInProgress, _Job] = {}  # those that are read or run
        self._reading: Batch | None = None
        self._running: dict[Routing | None, Batch] = {}
        self._stopped: EngineStoppedError | None = None
        self._worker = threading.Thread(target=self._work, name="engine", daemon=True)
        self._worker.start()

    @property
    def abilities(self) -> Abilities:
        """What can be asked of it."""
        return self._abilities

    @property
    def tokenizer(self) -> Vocabulary:
        """The model's tokenizer."""
        return self._vocabulary

    @property
    def load(self) -> Load:
        """How busy it is, from any thread."""
        reading = self._reading
        num_reading = 0 if reading is None else len(reading)
        return Load(len(self._waiting), num_reading, max(0, len(self._jobs) - num_reading))

    def submit(self, request: Request, emit: Emit) -> _Job:
        """As `CompletionEngine` says. The prompt is tokenised and routed on the caller's thread."""
        check(request, self._abilities)
        sequence = self._backend.begin(request)
        sequence.max_tokens = min(request.max_tokens, room_after(len(sequence.prompt), self._abilities.context))
        job = _Job(sequence, emit, self)
        with self._changed:
            if self._stopped is not None:
                raise self._stopped
            self._waiting.append(job)
            self._changed.notify()
        return job

    def wake(self) -> None:
        """Has the worker look at what changed."""
        with self._changed:
            self._changed.notify()

    def close(self) -> None:
        """Stops the worker after its step; requests in progress get a `Failure`."""
        with self._changed:
            self._stopped = self._stopped or EngineStoppedError("the engine was closed")
            self._changed.notify()
        if threading.current_thread() is not self._worker:
            self._worker.join()

    @torch.no_grad()
    def _work(self) -> None:
        """The worker: turn after turn until the engine is closed or a pass fails."""
        try:
            while self._wait():
                self._drop_cancelled()
                self._read_prompts()
                for batch in list(self._running.values()):
                    self._report(batch.step())
                self._running = {mode: batch for mode, batch in self._running.items() if len(batch)}
        except Exception as error:
            with self._changed:
                self._stopped = EngineStoppedError(
                    "the engine's worker failed", seen=f"{type(error).__name__}: {error}"
                )
        assert self._stopped is not None
        with self._changed:
            left = [*self._jobs.values(), *self._waiting]
            self._jobs.clear()
            self._waiting.clear()
        for job in left:
            job.emit(Failure(self._stopped))

    def _wait(self) -> bool:
        """Waits for work; False once the engine is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._jobs or self._stopped)
            return self._stopped is None

    def _drop_cancelled(self) -> None:
        with self._changed:
            cancelled = [job for job in self._waiting if job.cancelled]
            self._waiting = deque(job for job in self._waiting if not job.cancelled)
        for job in cancelled:
            job.end("cancelled", {})
        for batch in self._batches():
            leaving = [sequence for sequence in batch.sequences if self._jobs[sequence].cancelled]
            if not leaving:
                continue
            shares = dict(zip(batch.sequences, batch.shares(), strict=True))
            batch.drop(leaving)
            for sequence in leaving:
                self._jobs.pop(sequence).end("cancelled", shares[sequence])
        self._running = {mode: batch for mode, batch in self._running.items() if len(batch)}
        if self._reading is not None and not len(self._reading):
            self._reading = None

    def _batches(self) -> list[Batch]:
        return [*self._running.values(), *([] if self._reading is None else [self._reading])]

    def _read_prompts(self) -> None:
        """Reads at most `prefill_tokens`: on with the prompts begun, then the next ones."""
        budget = self._prefill_tokens
        while budget > 0:
            if self._reading is None and not self._begin_reading(budget):
                return
            batch = self._reading
            assert batch is not None
            columns = min(max(1, budget // len(batch)), batch.num_unread)
            budget -= columns * len(batch)
            mode = batch.sequences[0].route.batch
            with self._only_these(batch.sequences):
                self._report(batch.read(columns))
            if self._reading is not None and not batch.num_unread:
                self._reading = None
                if not len(batch):
                    continue
                running = self._running.setdefault(mode, batch)
                if running is not batch:
                    running.join(batch)

    def _begin_reading(self, budget: int) -> bool:
        """Takes the next requests, in their order, as long as one pass of the budget reads them all."""
        chosen: list[_Job] = []
        with self._changed:
            free = self._max_sequences - len(self._jobs)
            while self._waiting and len(chosen) < free:
                job = self._waiting[0]
                if chosen:
                    alike = job.sequence.route.batch == chosen[0].sequence.route.batch
                    longest = max(len(one.sequence.prompt) for one in (*chosen, job))
                    if not alike or longest * (len(chosen) + 1) > budget:
                        break
                chosen.append(self._waiting.popleft())
            self._jobs |= {job.sequence: job for job in chosen}
        if chosen:
            with self._only_these([job.sequence for job in chosen]):
                self._reading = self._backend.batch([job.sequence for job in chosen])
        return self._reading is not None

    @contextmanager
    def _only_these(self, sequences: Sequence[SequenceInProgress]) -> Iterator[None]:
        """Prompts that cannot be read (no memory, say) fail alone: their cache is theirs, so what runs goes on."""
        sequences = list(sequences)
        try:
            yield
        except Exception as error:
            self._reading = None
            for sequence in sequences:
                self._jobs.pop(sequence).emit(Failure(error))

    def _report(self, steps: Sequence[Progress]) -> None:
        """Hands out what a pass gave."""
        for progress in steps:
            job = self._jobs[progress.sequence]
            if progress.error is not None:
                job.emit(Failure(progress.error))
            elif progress.token is not None:
                job.emit(Chunk(progress.text, (progress.token,)))
            if progress.error is not None or progress.finish is not None:
                del self._jobs[progress.sequence]
            if progress.finish is not None:
                job.end(progress.finish, progress.shares or {})
