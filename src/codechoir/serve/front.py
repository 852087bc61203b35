"""The server's outermost layer: who may call, what is counted and logged, and that no error shows its inside.

A plain ASGI application around another one. Knows paths, headers and statuses; nothing of models or bodies.
"""

from __future__ import annotations

import asyncio
import json
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from codechoir.serve.answers import new_id
from codechoir.serve.keys import ApiKeys
from codechoir.serve.metrics import Metrics
from codechoir.serve.refusals import RefusedError

GENERATING = frozenset({"/v1/completions", "/v1/chat/completions", "/infill"})
PROTECTED = GENERATING | {"/v1/models", "/metrics"}
OPEN = frozenset({"/", "/health", "/ready", "/openapi.json"})

_READ_ON_BYTES, _READ_ON_SECONDS = 16_777_216, 5.0
_LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(slots=True)
class Served:
    """What the layer counts for the drain, and says of the server."""

    in_flight: int = 0  # generating requests
    draining: bool = False


class Front:
    """Keys, the host's name, metrics, a log line a request, and 500 without a trace.

    `checks_host`: requests must name a loopback host, so that no page of the web reaches a server without keys through
    a name that it has pointed at this machine (DNS rebinding).
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: ApiKeys,
        metrics: Metrics,
        served: Served,
        log: Callable[[str], None],
        checks_host: bool,
    ) -> None:
        self._app, self._keys, self._metrics, self._served, self._log = app, keys, metrics, served, log
        self._checks_host = checks_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        route = path if path in PROTECTED | OPEN else "/playground" if path.startswith("/playground/") else "other"
        request_id, began, status = new_id("req"), time.monotonic(), 0
        facts: dict[str, Any] = {}
        scope.setdefault("state", {})["facts"] = facts

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                extra = [(b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        generating = route in GENERATING
        self._served.in_flight += generating
        try:
            if (refusal := self._refusal(scope, route)) is not None:
                await read_on(receive)
                await respond(sending, refusal)
            else:
                await self._app(scope, receive, sending)
        except Exception as error:
            self._log_bug(error, request_id)
            if not status:
                await respond(sending, RefusedError(500, f"internal error; request {request_id}", code="internal"))
        finally:
            self._served.in_flight -= generating
            seconds = time.monotonic() - began
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.request_seconds.labels(route).observe(seconds)
            told = "".join(f" {name}={_shown(value)}" for name, value in facts.items())
            self._log(f"{scope['method']} {route} {status} {seconds * 1000:.1f}ms id={request_id}{told}")

    def _refusal(self, scope: Scope, route: str) -> RefusedError | None:
        headers = dict(scope["headers"])
        if self._checks_host and not _is_loopback_host(headers):
            return RefusedError(400, "the host header must name this machine", param="host", code="wrong_host")
        given = headers.get(b"authorization", b"").decode("latin-1")
        if self._keys and route in PROTECTED and not self._keys.admit(given):
            return RefusedError(401, "a valid API key is needed: authorization: Bearer KEY", code="invalid_api_key")
        if self._served.draining and route in GENERATING:
            return RefusedError(503, "the server is stopping", code="stopping", retry_after=1)
        return None

    def _log_bug(self, error: Exception, request_id: str) -> None:
        """Where it happened and of which type; not what it says, which may quote a prompt."""
        frames = "".join(traceback.format_tb(error.__traceback__))
        self._log(f"bug in request {request_id}: {type(error).__name__}\n{frames}")


async def read_on(receive: Receive) -> None:
    """Reads and drops a refused body, within bounds: a closed connection would cost its sender the answer."""
    left = _READ_ON_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(_READ_ON_SECONDS):
            while left > 0:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
                left -= len(message.get("body", b""))


async def respond(send: Send, refusal: RefusedError) -> None:
    """Sends a refusal."""
    headers = [(name.encode(), value.encode()) for name, value in refusal.headers.items()]
    body = refusal.body()
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _is_loopback_host(headers: Mapping[bytes, bytes]) -> bool:
    host = headers.get(b"host", b"").decode("latin-1").lower()
    name, _, port = host.rpartition(":")
    return (name if name and port.isdigit() else host) in _LOOPBACK_HOSTS


def _shown(value: object) -> str:
    return value if isinstance(value, str) and value.isalnum() else json.dumps(value, ensure_ascii=True)
