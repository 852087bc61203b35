"""What is asked of an engine, what it answers, and the interface that all engines have.

A request goes in by `submit`, from any thread; its events come out one by one through the caller's function: `Chunk` as
text grows, and in the end one `End` or one `Failure`. An engine knows nothing of HTTP, deadlines or languages' names
in files. What one cannot do its `Abilities` say, and `submit` refuses it.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from codechoir.errors import InputError, UserError

Finish = Literal["stop", "end", "length"]
RoutingChoice = Literal["prompt", "token"]


class EngineStoppedError(UserError):
    """The engine was closed, or its worker met an error; what it was doing is lost."""


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt to complete.

    A text is put after the model's separator and healed (see engine.py); token ids are taken as they are, so a format
    with special tokens (infilling, chat) comes as ids. `expert` fixes the route, else `routing` chooses it, else the
    model's own routing does. `cursor` is for prompt routing of a formatted prompt: the text before the cursor.
    """

    prompt: str | tuple[int, ...]
    stop: tuple[str, ...]
    max_tokens: int
    temperature: float = 0.0  # 0 is greedy
    top_p: float = 1.0
    seed: int = 0
    expert: str | None = None
    routing: RoutingChoice | None = None
    logprobs: int | None = None  # how many of the most probable tokens to tell with each token
    cursor: str | None = None
    traced: bool = False  # tell each token's experts, layer by layer


@dataclass(frozen=True, slots=True)
class Output:
    """What came after a prompt, the stop string not included."""

    text: str
    finish: Finish
    num_tokens: int
    route: dict[str, float]


@dataclass(frozen=True, slots=True)
class Token:
    """A generated token. Log probabilities are the model's own in nats, before temperature and top_p."""

    id: int
    logprob: float | None = None  # where the request asks for logprobs
    top: tuple[tuple[int, float], ...] = ()  # (token id, log probability), most probable first
    experts: tuple[str, ...] = ()  # traced: the expert of largest weight that each MoE layer predicted it with


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens, and the text that they made certain.

    The text holds whole characters alone, and nothing that may still begin a stop string, so it may be empty where
    there are tokens, and be more than theirs. Tokens of a stop string are told, its text is not.
    """

    text: str
    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class End:
    """A request's last event. `route`: expert -> share of the routing decisions.

    `probabilities`: expert -> the prompt router's probability; empty for other routings.
    """

    finish: Finish | Literal["cancelled"]
    num_prompt_tokens: int
    num_tokens: int
    route: dict[str, float]
    probabilities: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """A request's last event where it met an error."""

    error: Exception


Event = Chunk | End | Failure
Emit = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Abilities:
    """What an engine can do. `lacks`: what it cannot that others can, each a phrase for the user."""

    experts: tuple[str, ...]  # those that a request may name
    routings: tuple[RoutingChoice, ...]
    context: int  # tokens of prompt and completion together
    vocabulary: int
    traces: bool
    max_logprobs: int
    lacks: tuple[str, ...] = ()


class Ticket(Protocol):
    """A request in an engine's hands."""

    @property
    def shares(self) -> dict[str, float]:
        """Expert -> share of the routing, known before the first token; empty where each token has its own."""

    @property
    def probabilities(self) -> dict[str, float]:
        """Expert -> the prompt router's probability; empty for other routings."""

    def cancel(self) -> None:
        """Frees its place before the next step; its last event is an `End` of finish "cancelled". From any thread."""


class CompletionEngine(Protocol):
    """Many requests at once."""

    @property
    def abilities(self) -> Abilities:
        """What can be asked of it."""

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer: `encode`, `decode`, `token_id`."""

    def submit(self, request: Request, emit: Emit) -> Ticket:
        """Takes a request, from any thread.

        `emit` gets its events in order, on the engine's own thread, so it must not wait; if it raises, its request
        alone is dropped. Raises InputError for what this engine cannot do, EngineStoppedError.
        """

    def close(self) -> None:
        """Stops the worker; requests in progress get a `Failure`."""


def stream(engine: CompletionEngine, request: Request) -> Iterator[Event]:
    """A request's events, for a caller that waits; whoever stops reading cancels it. Raises as `submit` does."""
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    ticket = engine.submit(request, events.put)
    try:
        while True:
            event = events.get()
            yield event
            if not isinstance(event, Chunk):
                return
    finally:
        ticket.cancel()


def check(request: Request, abilities: Abilities) -> None:
    """Refuses what an engine cannot do, or nobody can. Raises InputError."""
    _refuse_unless(request.max_tokens >= 1, "max_tokens", request.max_tokens, "1 or more")
    _refuse_unless(0 <= request.temperature < float("inf"), "temperature", request.temperature, "0 or more")
    _refuse_unless(0 < request.top_p <= 1, "top_p", request.top_p, "above 0, at most 1")
    _refuse_unless(all(request.stop), "stop strings", "an empty one", "strings of one character or more")
    fits = request.logprobs is None or 0 <= request.logprobs <= abilities.max_logprobs
    _refuse_unless(fits, "logprobs", request.logprobs, f"0 to {abilities.max_logprobs}")
    lacks = "; ".join(abilities.lacks)
    if request.expert is not None and request.expert not in abilities.experts:
        raise InputError("no such expert", seen=request.expert, allowed=_listed(abilities.experts, lacks))
    if request.routing is not None and request.routing not in abilities.routings:
        raise InputError("no such routing", seen=request.routing, allowed=_listed(abilities.routings, lacks))
    if request.traced and not abilities.traces:
        raise InputError("no token's route can be told", seen="traced", allowed=_listed((), lacks))
    if not isinstance(request.prompt, str):
        outside = [token for token in request.prompt if not 0 <= token < abilities.vocabulary]
        _refuse_unless(not outside, "token ids", outside[:3], f"0 to {abilities.vocabulary - 1}")


def room_after(num_prompt_tokens: int, context: int) -> int:
    """The tokens that a prompt leaves of a model's positions, one at least. Raises InputError."""
    if num_prompt_tokens >= context:
        raise InputError("the prompt is too long", seen=f"{num_prompt_tokens} tokens", allowed=f"at most {context - 1}")
    return context - num_prompt_tokens


def _refuse_unless(holds: bool, what: str, seen: object, allowed: str) -> None:
    if not holds:
        raise InputError(f"{what} out of range", seen=seen, allowed=allowed)


def _listed(names: Sequence[str], lacks: str) -> str:
    return ", ".join(names) or lacks or "none: this model has no experts"
