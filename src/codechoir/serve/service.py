"""What all generating routes share: bodies read within limits, runs started, watched and stopped, answers sent.

Stops a run when its client has gone, its deadline has passed, or the server must go.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from codechoir.serve.answers import Generated
from codechoir.serve.bodies import Body
from codechoir.serve.config import ServeConfig
from codechoir.serve.front import read_on
from codechoir.serve.metrics import Metrics
from codechoir.serve.models import Catalogue
from codechoir.serve.prompts import Plan
from codechoir.serve.refusals import RefusedError, refusal_of, refusal_of_body
from codechoir.serve.running import Gate, Mailbox, Reason, Run, StoppedError

BodyT = TypeVar("BodyT", bound=Body)

_LAST_WORDS = 1.0  # seconds that a stopped stream may take to send its end


class Service:
    """The models, and every run that is going on. Belongs to one event loop."""

    def __init__(self, catalogue: Catalogue, config: ServeConfig) -> None:
        self.catalogue, self.config, self.metrics = catalogue, config, Metrics()
        self.draining = False
        places = config.max_sequences + config.max_waiting
        self._gates = {name: Gate(places) for name in catalogue.models}
        self._counters = {name: self.metrics.of_model(name) for name in catalogue.models}
        self._runs: set[Run] = set()
        self._mailbox: Mailbox | None = None

    async def begin(self, request: Request, plan: Plan, stream: bool) -> Run:
        """Starts a plan, to be stopped when the client goes or the deadline comes. Raises RefusedError."""
        loop = asyncio.get_running_loop()
        self._mailbox = self._mailbox or Mailbox(loop)
        facts = request.state.facts
        facts["model"], facts["sequences"] = plan.choice.id, len(plan.requests)
        if self.config.log_prompts:
            facts["prompts"] = [one.prompt for one in plan.requests[:: plan.drawn]]
        name = plan.choice.model.name
        unread = self.config.stream_events if stream else None
        run = Run(self._gates[name], self._mailbox, self._counters[name], unread)
        watcher = loop.create_task(_watch(request.receive, run))
        timer = loop.call_later(self.config.request_seconds, run.stop, "deadline")
        self._runs.add(run)

        def forget() -> None:
            watcher.cancel()
            timer.cancel()
            self._runs.discard(run)

        run.when_done = forget
        try:
            await run.start(plan.choice.model.engine, plan.requests, plan.num_characters)
        except BaseException as error:
            run.done()
            refusal = refusal_of(error) if isinstance(error, Exception) else None
            if refusal is None:
                raise
            raise refusal from None
        return run

    def stop_all(self, reason: Reason) -> None:
        """Stops every run."""
        for run in list(self._runs):
            run.stop(reason)


async def _watch(receive: Receive, run: Run) -> None:
    """Stops a run when its client goes."""
    while (await receive())["type"] != "http.disconnect":
        pass
    run.stop("disconnected")


async def read_body(request: Request, kind: type[BodyT], config: ServeConfig) -> BodyT:
    """A request's body. Raises RefusedError: 400, 408, 413, 415."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        # Browsers ask before they send this type to another origin; of others a page need not have leave.
        await read_on(request.receive)
        raise RefusedError(415, "the body must have content-type: application/json", code="unsupported_media_type")
    too_large = RefusedError(413, f"the body is larger than {config.max_body_bytes} bytes", code="body_too_large")
    if int(request.headers.get("content-length", 0)) > config.max_body_bytes:
        await read_on(request.receive)
        raise too_large
    try:
        async with asyncio.timeout(config.body_seconds):
            raw = await _read(request.receive, config.max_body_bytes)
    except TimeoutError:
        raise RefusedError(408, "the body did not come in time", code="timeout") from None
    if raw is None:
        raise too_large
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        raise refusal_of_body(error) from None


async def _read(receive: Receive, limit: int) -> bytes | None:
    """The bytes; None for too many. Raises RefusedError where the client goes."""
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RefusedError(400, "the body is not whole")
        parts.append(message.get("body", b""))
        size, more = size + len(parts[-1]), message.get("more_body", False)
        if size > limit:
            if more:
                await read_on(receive)
            return None
    return b"".join(parts)


async def collect(run: Run, plan: Plan) -> list[Generated]:
    """The sequences of a run, whole. Raises RefusedError: 408 where the client has gone, 503, 504, and errors' own."""
    sequences = [Generated(began=run.began) for _ in plan.requests]
    try:
        async for events in run.events():
            for place, event in events:
                sequences[place].take(event)
    except StoppedError as error:
        raise stopped_refusal(error.reason) from None
    except Exception as error:
        raise refusal_of(error) or error from None
    finally:
        run.done()
    return sequences


def stopped_refusal(reason: Reason) -> RefusedError:
    """What is said of a run that was stopped."""
    if reason == "deadline":
        return RefusedError(504, "the request took too long", code="deadline")
    if reason == "stopping":
        return RefusedError(503, "the server is stopping", code="stopping", retry_after=1)
    return RefusedError(408, "the client has gone or reads too slowly", code=reason)  # nobody may be there to read it


def sse(value: dict[str, Any]) -> bytes:
    """A server-sent event."""
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


class EventStream(Response):
    """Server-sent events from a run. A reader that does not read is left: see `Run`."""

    media_type = "text/event-stream"

    def __init__(self, run: Run, events: AsyncIterator[bytes], headers: dict[str, str]) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no", **headers})
        del self.headers["content-length"]
        self._run, self._events = run, events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (ASGI's signature)
        """Sends the events; an error that comes after the first byte is an event, too."""
        loop = asyncio.get_running_loop()
        with suppress(TimeoutError):
            async with asyncio.timeout(None) as limit:
                self._run.when_stopped = lambda: limit.reschedule(loop.time() + _LAST_WORDS)
                try:
                    await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                    async for data in self._guarded():
                        await send({"type": "http.response.body", "body": data, "more_body": True})
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                finally:
                    self._run.when_stopped = _nothing
                    self._run.done()

    async def _guarded(self) -> AsyncIterator[bytes]:
        try:
            async for data in self._events:
                yield data
        except StoppedError as error:
            yield sse(stopped_refusal(error.reason).content())
        except Exception as error:
            refusal = refusal_of(error)
            yield sse((refusal or RefusedError(500, "internal error", code="internal")).content())
            if refusal is None:
                raise


def _nothing() -> None:
    pass


def json_response(value: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    """An answer whole."""
    content = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(content, media_type="application/json", headers=headers)
