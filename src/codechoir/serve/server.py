"""A server's life: models loaded, a socket opened, requests served, and on SIGTERM or SIGINT a drain.

While it drains it is not ready and takes nothing new; what runs may end within a bound, and is stopped beyond it. A
second signal stops all at once.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import uvicorn

from codechoir.console import say
from codechoir.errors import InputError
from codechoir.serve.app import create_app
from codechoir.serve.config import ServeConfig
from codechoir.serve.front import Served
from codechoir.serve.keys import ApiKeys, others_can_read, read_keys
from codechoir.serve.models import Catalogue, ServedModel, open_model, parse_model
from codechoir.serve.service import Service

_BACKLOG = 512
_POLL_SECONDS = 0.02
_CLOSING_SECONDS = 5  # for connections whose answers are yet to be sent


class Server:
    """Models behind a socket. `run` serves until `drain` is called, from any thread or a signal."""

    def __init__(
        self, models: Sequence[ServedModel], config: ServeConfig, keys: ApiKeys, log: Callable[[str], None] = say
    ) -> None:
        self._service, self._served = Service(Catalogue(models), config), Served()
        self._config, self._log = config, log
        self._drain = asyncio.Event()
        self._at_once = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._uvicorn = _Uvicorn(
            uvicorn.Config(
                create_app(self._service, self._served, keys, log),
                log_config=None,
                log_level="critical",
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                timeout_graceful_shutdown=_CLOSING_SECONDS,
            )
        )

    def run(self, listening: socket.socket, with_signals: bool = True) -> None:
        """Serves a listening socket. The engines are the caller's to close."""
        asyncio.run(self._serve(listening, with_signals))

    def drain(self) -> None:
        """Begins the drain; the second time it stops all at once. From any thread."""
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # it has stopped already
                loop.call_soon_threadsafe(self._begin_drain)

    async def _serve(self, listening: socket.socket, with_signals: bool) -> None:
        self._loop = asyncio.get_running_loop()
        if with_signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(number, self._begin_drain)
        drainer = asyncio.create_task(self._when_drained())
        await self._uvicorn.serve(sockets=[listening])
        drainer.cancel()

    def _begin_drain(self) -> None:
        self._at_once = self._drain.is_set()
        self._served.draining = True
        self._drain.set()

    async def _when_drained(self) -> None:
        await self._drain.wait()
        self._log(f"draining: {self._served.in_flight} requests run, {self._config.drain_seconds:g}s at most")
        assert self._loop is not None
        until = self._loop.time() + self._config.drain_seconds
        while self._served.in_flight and self._loop.time() < until and not self._at_once:
            await asyncio.sleep(_POLL_SECONDS)
        self._service.stop_all("stopping")
        self._uvicorn.should_exit = True


class _Uvicorn(uvicorn.Server):
    """Uvicorn, which would end the process by the signal that it caught; signals are ours."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


def listen(config: ServeConfig) -> socket.socket:
    """A listening socket. Raises InputError where the address cannot be had."""
    try:
        family = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((config.host, config.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        address = f"{config.host}:{config.port}"
        raise InputError("cannot listen there", seen=f"{address}: {error}", next_step="give another --port") from None
    # For the connections that it accepts. asyncio does it where a socket's protocol is told, which create_server does
    # not; without it an answer's body waits until the client acknowledges its head, which clients delay.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.setblocking(False)
    return listening


def check_access(config: ServeConfig) -> ApiKeys:
    """The keys, where there are some. Raises InputError for an open address without any."""
    if config.api_key_file is None:
        if not config.is_loopback:
            raise InputError(
                "an address that others can reach needs an API key",
                seen=config.host,
                allowed="127.0.0.1, ::1 or localhost without a key",
                next_step="write a key into a file and give it with --api-key-file",
            )
        return ApiKeys()
    keys = read_keys(config.api_key_file)
    if others_can_read(config.api_key_file):
        say(f"warning: others can read {config.api_key_file}; chmod 600 it")
    return keys


def serve(arguments: Sequence[str], config: ServeConfig, ready: Callable[[str], None]) -> None:
    """Loads the models that `[NAME=]FOLDER` arguments name and serves them until a signal comes.

    `ready` gets the server's address once it listens. Raises InputError.
    """
    named = [parse_model(argument) for argument in arguments]
    names = [name for name, _ in named]
    if len(set(names)) != len(names):
        raise InputError("two models have one name", seen=", ".join(names), allowed="NAME=FOLDER gives another")
    keys = check_access(config)
    with listen(config) as listening:
        models = [open_model(name, folder, config.max_sequences) for name, folder in named]
        server = Server(models, config, keys)
        host, port = listening.getsockname()[:2]
        gc.collect()
        gc.freeze()  # what is loaded stays: no collection need stop requests to visit it again
        ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        try:
            server.run(listening)
        finally:
            for model in models:
                model.engine.close()
