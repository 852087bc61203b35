"""What clients do to a server: paced requests, and a storm of good, broken and vanishing ones.

Every good request of the storm has a prompt of its own and asks for it back, with usage and, half of them, each token:
an answer that is lost, cut or mixed up shows in the text or in a count.
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
Count = Callable[[str], int]  # a prompt's tokens

CLIENTS = 32
BROKEN = {"bad JSON": {400}, "oversized": {413}, "wrong key": {401}, "invalid UTF-8": {400}}
GOOD = ("whole", "streamed", "slow reader")
WEIGHTS = {"whole": 8, "streamed": 3, "slow reader": 1, "disconnect": 3} | dict.fromkeys(BROKEN, 1)
WARM_UP = 0.1  # of the requests, before memory is read for the first time
MAX_BODY = 100_000
_SLOW_BYTES, _SLOW_SECONDS = 512, 0.01
_IDLE_SECONDS = 2.0  # less than the server keeps a connection
_DISCONNECT_SECONDS = 0.1  # at most, before a client goes


@dataclass(slots=True)
class Storm:
    """What became of the requests."""

    sent: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    refused: int = 0  # good ones that got 429 or 503
    wrong: list[str] = field(default_factory=list)  # lost, mixed up or of a status that cannot be


@dataclass(slots=True)
class Paced:
    """Milliseconds from when a request is due to its whole answer, and how many were refused for want of a place."""

    times: list[float] = field(default_factory=list)
    refused: int = 0


async def _connect(server: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", server.port)


async def paced(server: Served, rate: float, seconds: float) -> Paced:
    """Requests at a rate a second whatever the server does.

    A request waits for nothing but the clock: each takes the connection that has been idle for the shortest time, or
    opens one. Those idle for long are not used: the server may be closing them.
    """
    body = message(asked(model="tiny", prompt="def a", max_tokens=1, temperature=0))
    idle: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []
    found = Paced()

    async def one() -> None:
        begin = time.perf_counter()
        if idle and begin - idle[-1][0] < _IDLE_SECONDS:
            _, reader, writer = idle.pop()
        else:
            reader, writer = await _connect(server)
        writer.write(body)
        status, _ = await read_answer(reader)
        end = time.perf_counter()
        if status == 200:
            found.times.append(1000 * (end - begin))
        else:
            assert status == 429, status
            found.refused += 1
        idle.append((end, reader, writer))

    begin, tasks = time.perf_counter(), []
    for number in range(round(rate * seconds)):
        await asyncio.sleep(max(0.0, begin + number / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(one()))
    await asyncio.gather(*tasks)
    for _, _, writer in idle:
        writer.close()
    return found


async def storm(server: Served, number: int, count: Count, tell: Tell) -> dict[str, Any]:
    """Requests of all kinds by 32 clients, and the server's memory before and after."""
    await _clients(server, round(number * WARM_UP), 1, count)
    before = server.resident_mib
    done = await _clients(server, number, 2, count)
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


async def _clients(server: Served, number: int, seed: int, count: Count) -> Storm:
    result, left = Storm(), iter(range(number))

    async def client(which: int) -> None:
        rng = random.Random(seed * 1000 + which)
        for mark in left:
            kind = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            result.sent[kind] += 1
            try:
                async with asyncio.timeout(300):
                    await _one(server, kind, _prompt(seed, mark), rng, count, result)
            except (OSError, EOFError, ValueError, TimeoutError) as error:
                result.wrong.append(f"{kind}: {type(error).__name__}: {error}")

    await asyncio.gather(*(client(which) for which in range(CLIENTS)))
    return result


async def _one(server: Served, kind: str, prompt: str, rng: random.Random, count: Count, result: Storm) -> None:
    reader, writer = await _connect(server)
    try:
        writer.write(_sent(kind, prompt, rng))
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
        elif status != 200 or (fault := _fault(kind, body, prompt, count)):
            result.wrong.append(f"{kind}: {status if status != 200 else fault}")
        else:
            result.answered += 1
    finally:
        writer.close()


def _prompt(seed: int, number: int) -> str:
    """Of another text and, among those that run side by side, another length; it ends in no blank, to be healed."""
    return f"# {seed}-{number}" + " pass" * (number % 50)


def _sent(kind: str, prompt: str, rng: random.Random) -> bytes:
    stream = kind in ("streamed", "slow reader") or (kind == "disconnect" and rng.random() < 0.5)
    body = asked(
        model=rng.choice(("choir", "choir/token", "choir/python")),
        prompt=prompt,
        max_tokens=rng.randint(1, 24),
        temperature=rng.choice((0, 1)),
        echo=True,
        x_trace=rng.random() < 0.5,
        stream=stream,
        **({"stream_options": {"include_usage": True}} if stream else {}),
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


def _fault(kind: str, body: bytes, prompt: str, count: Count) -> str:
    """What an answer has that is not its own, or lacks; nothing where all is well."""
    if kind == "whole":
        parts = [json.loads(body)]
    else:
        *events, done = body.decode().strip().split("\n\n")
        if done != "data: [DONE]":
            return "not ended"
        parts = [json.loads(event.removeprefix("data: ")) for event in events]
    choices = [choice for part in parts for choice in part["choices"]]
    usage = parts[-1]["usage"]
    if not "".join(choice["text"] for choice in choices).startswith(prompt):
        return "another's text"
    if usage["prompt_tokens"] != count(prompt):
        return "another's prompt"
    traces = [choice["x_tokens"] for choice in choices if "x_tokens" in choice]
    if traces and sum(map(len, traces)) != usage["completion_tokens"]:
        return "not as many tokens as counted"
    return ""
