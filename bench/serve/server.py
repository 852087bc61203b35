"""`codechoir serve` in a process of its own, and bare HTTP/1.1 clients for it, whose own time is small."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

KEY = "a-key-of-the-benchmark"


@dataclass(frozen=True, slots=True)
class Served:
    """A server that listens."""

    port: int
    pid: int

    @property
    def resident_mib(self) -> float:
        """Its resident memory."""
        lines = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


@contextmanager
def serving(models: Sequence[str], work: Path, settings: dict[str, object]) -> Iterator[Served]:
    """A server of `NAME=FOLDER` models with one key, ended by SIGTERM; fails where it does not end well.

    It computes with one thread: two that share a small product wait for one another whenever a client has a core.
    """
    work.mkdir(parents=True, exist_ok=True)
    keys = work / "keys"
    keys.write_text(KEY + "\n", encoding="ascii")
    keys.chmod(0o600)
    command = [str(Path(sys.executable).with_name("codechoir")), "serve", *models, "--port", "0"]
    command += ["--api-key-file", str(keys)]
    command += [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    with (work / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        try:
            assert process.stdout is not None
            address = process.stdout.readline().decode().strip()
            if not address:
                sys.exit(f"bench.serve: the server did not start; see {log.name}")
            yield Served(urlsplit(address).port or 0, process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait()
            assert process.stdout is not None
            process.stdout.close()
    if code:
        sys.exit(f"bench.serve: the server ended with {code}; see {work / 'serve.log'}")


def message(body: bytes, key: str = KEY, path: str = "/v1/completions", close: bool = False) -> bytes:
    """A request in bytes."""
    lines = [
        f"POST {path} HTTP/1.1",
        "host: 127.0.0.1",
        "content-type: application/json",
        f"content-length: {len(body)}",
        f"authorization: Bearer {key}",
        *(["connection: close"] if close else []),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def asked(**fields: Any) -> bytes:
    """A body."""
    return json.dumps(fields).encode()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The status and body of an answer that has a content-length, or ends with the connection."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(maxsplit=2)[1])
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return status, await reader.readexactly(int(line.split(b":")[1]))
    rest = await reader.read(-1)
    if b"transfer-encoding: chunked" in head.lower():
        rest = _unchunked(rest)
    return status, rest


def _unchunked(raw: bytes) -> bytes:
    body = b""
    while raw:
        size, _, raw = raw.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return body
        body, raw = body + raw[:length], raw[length + 2 :]
    raise ValueError("the last chunk is missing")
