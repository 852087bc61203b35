"""What clients do to a server: paced requests, and a storm of good, broken and vanishing ones.

Every good request of the storm has a mark in its prompt and asks for it back, so a lost or mixed-up answer shows.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from bench.serve.server import KEY, Served, asked, message, read_answer

Tell = Callable[[str, str], None]

CLIENTS = 32
BROKEN = {"bad JSON": {400}, "oversized": {413}, "wrong key": {401}, "invalid UTF-8": {400}}
GOOD = ("whole", "streamed", "slow reader")
WEIGHTS = {"whole": 8, "streamed": 3, "slow reader": 1, "disconnect": 3} | dict.fromkeys(BROKEN, 1)
WARM_UP = 0.1  # of the requests, before memory is read for the first time
MAX_BODY = 100_000
_SLOW_BYTES, _SLOW_SECONDS = 512, 0.01
_DISCONNECT_SECONDS = 0.1  # at most, before a client goes


@dataclass(slots=True)
class Storm:
    """What became of the requests."""

    sent: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    refused: int = 0  # good ones that got 429 or 503
    wrong: list[str] = field(default_factory=list)  # lost, mixed up or of a status that cannot be


async def _connect(server: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", server.port)


async def paced(server: Served, rate: float, seconds: float) -> list[float]:
    """Milliseconds from a request's sending to its whole answer, at a rate a second whatever the server does.

    A request waits for nothing but the clock: each takes an idle connection, or opens one.
    """
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = [await _connect(server) for _ in range(16)]
    body = message(asked(model="tiny", prompt="def a", max_tokens=1, temperature=0))
    found: list[float] = []

    async def one() -> None:
        connection = idle.pop() if idle else await _connect(server)
        begin = time.perf_counter()
        connection[1].write(body)
        status, _ = await read_answer(connection[0])
        found.append(1000 * (time.perf_counter() - begin))
        assert status == 200, status
        idle.append(connection)

    begin, tasks = time.perf_counter(), []
    for number in range(round(rate * seconds)):
        await asyncio.sleep(max(0.0, begin + number / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(one()))
    await asyncio.gather(*tasks)
    for _, writer in idle:
        writer.close()
    return found


async def storm(server: Served, number: int, tell: Tell) -> dict[str, Any]:
    """Requests of all kinds by 32 clients, and the server's memory before and after."""
    await _clients(server, round(number * WARM_UP), 1)
    before = server.resident_mib
    done = await _clients(server, number, 2)
    async with asyncio.timeout(60):
        while await _in_flight(server):
            await asyncio.sleep(0.05)
    after = server.resident_mib
    tell("storm", f"{done.answered} answered, {len(done.wrong)} wrong, {before:.0f} to {after:.0f} MiB")
    return {
        "sent": dict(done.sent),
        "answered": done.answered,
        "refused": done.refused,
        "wrong": done.wrong[:20],
        "num_wrong": len(done.wrong),
        "before_mib": before,
        "after_mib": after,
    }


async def _in_flight(server: Served) -> bool:
    """Whether any model still has a request."""
    reader, writer = await _connect(server)
    writer.write(message(b"", path="/metrics").replace(b"POST", b"GET", 1))
    _, body = await read_answer(reader)
    writer.close()
    lines = body.decode().splitlines()
    return any(line.startswith("codechoir_running{") and float(line.split()[-1]) > 0 for line in lines)


async def _clients(server: Served, number: int, seed: int) -> Storm:
    result, left = Storm(), iter(range(number))

    async def client(which: int) -> None:
        rng = random.Random(seed * 1000 + which)
        for mark in left:
            kind = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            result.sent[kind] += 1
            try:
                async with asyncio.timeout(300):
                    await _one(server, kind, f"{seed}-{mark}", rng, result)
            except (OSError, EOFError, ValueError, TimeoutError) as error:
                result.wrong.append(f"{kind}: {type(error).__name__}: {error}")

    await asyncio.gather(*(client(which) for which in range(CLIENTS)))
    return result


async def _one(server: Served, kind: str, mark: str, rng: random.Random, result: Storm) -> None:
    reader, writer = await _connect(server)
    try:
        writer.write(_sent(kind, mark, rng))
        if kind == "disconnect":
            await writer.drain()
            with suppress(TimeoutError):
                async with asyncio.timeout(rng.random() * _DISCONNECT_SECONDS):
                    await reader.read(rng.randint(1, 400))
            return
        if kind in BROKEN:
            status, body = await read_answer(reader)
            if status not in BROKEN[kind] or "message" not in json.loads(body)["error"]:
                result.wrong.append(f"{kind}: {status}")
            return
        raw = await _slowly(reader) if kind == "slow reader" else None
        status, body = await read_answer(reader if raw is None else _fed(raw))
        if status in (429, 503):
            result.refused += 1
        elif status != 200 or not _told(kind, body).startswith(_prompt(mark)):
            result.wrong.append(f"{kind}: {status}: not its own answer")
        else:
            result.answered += 1
    finally:
        writer.close()


def _prompt(mark: str) -> str:
    return f"# {mark}\n"


def _sent(kind: str, mark: str, rng: random.Random) -> bytes:
    body = asked(
        model=rng.choice(("choir", "choir/token", "choir/python")),
        prompt=_prompt(mark),
        max_tokens=rng.randint(1, 24),
        temperature=rng.choice((0, 1)),
        echo=True,
        stream=kind in ("streamed", "slow reader") or (kind == "disconnect" and rng.random() < 0.5),
    )
    if kind == "bad JSON":
        body = body[: rng.randint(1, len(body) - 1)]
    elif kind == "oversized":
        body = body[:-1] + b" " * MAX_BODY + b"}"
    elif kind == "invalid UTF-8":
        body = body.replace(b"# ", b"\xff\xfe", 1)
    elif kind == "disconnect" and rng.random() < 0.2:
        whole = message(body, close=True)
        return whole[: rng.randint(1, len(whole))]
    return message(body, "not-a-key-at-all" if kind == "wrong key" else KEY, close=True)


async def _slowly(reader: asyncio.StreamReader) -> bytes:
    received = b""
    while part := await reader.read(_SLOW_BYTES):
        received += part
        await asyncio.sleep(_SLOW_SECONDS)
    return received


def _fed(raw: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(raw)
    reader.feed_eof()
    return reader


def _told(kind: str, body: bytes) -> str:
    """An answer's text; of a stream that was not ended, none."""
    if kind == "whole":
        return str(json.loads(body)["choices"][0]["text"])
    events = body.decode().strip().split("\n\n")
    if events[-1] != "data: [DONE]":
        return ""
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
    return "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])
