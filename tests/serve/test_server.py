"""A server's life: where it may listen, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from codechoir.errors import InputError
from codechoir.serve.config import ServeConfig
from codechoir.serve.models import Catalogue, parse_model
from codechoir.serve.server import check_access, listen

# Greedy random models may end early; of sixteen prompts some run on to the limit.
LONG = {"model": "choir/java", "prompt": [f"x{number}" for number in range(16)], "max_tokens": 400, "temperature": 0}
START = "from codechoir.cli.main import main; main()"


@pytest.mark.parametrize(("host", "loopback"), [
    ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True),
    ("0.0.0.0", False), ("::", False), ("192.0.2.1", False), ("localhost.example", False),
])  # fmt: skip
def test_only_loopback_needs_no_key(tmp_path: Path, host: str, loopback: bool) -> None:
    if loopback:
        assert not check_access(ServeConfig(host=host))
    else:
        with pytest.raises(InputError, match="needs an API key"):
            check_access(ServeConfig(host=host))
    path = tmp_path / "keys"
    path.write_text("a-long-enough-key\n")
    assert check_access(ServeConfig(host=host, api_key_file=path)).admit("Bearer a-long-enough-key")


def test_a_key_file_that_others_read_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys"
    path.write_text("a-long-enough-key\n")
    path.chmod(0o600)
    check_access(ServeConfig(api_key_file=path))
    assert capsys.readouterr().err == ""
    path.chmod(0o644)
    check_access(ServeConfig(api_key_file=path))
    assert "others can read" in capsys.readouterr().err


def test_a_port_in_use_is_a_users_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InputError, match="cannot listen"):
        listen(ServeConfig(port=taken.getsockname()[1]))


def test_connections_send_what_they_have_at_once() -> None:
    with listen(ServeConfig(port=0)) as listening:
        listening.setblocking(True)
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_models_are_named_by_their_folder_or_by_the_caller(choir) -> None:
    assert parse_model("runs/tiny/compose") == ("compose", Path("runs/tiny/compose"))
    assert parse_model("choir=runs/tiny/compose") == ("choir", Path("runs/tiny/compose"))
    for wrong in ("a/b=x", "=x", "ch oir=x"):
        with pytest.raises(InputError, match="not a name"):
            parse_model(wrong)
    with pytest.raises(InputError, match="a name of its own"):
        Catalogue([choir, choir])


@contextmanager
def process(model: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """`codechoir serve` in a process of its own, and a client of it."""
    command = [sys.executable, "-c", START, "serve", f"choir={model}", "--port", "0", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as running:
        assert running.stdout is not None
        try:
            with httpx.Client(base_url=running.stdout.readline().strip(), timeout=60) as client:
                yield running, client
        finally:
            running.kill()


def test_sigterm_lets_what_runs_end_and_takes_nothing_new(composed: Path) -> None:
    with process(composed) as (running, client):
        with client.stream("POST", "/v1/completions", json=LONG | {"stream": True}) as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith("data: ")
            running.send_signal(signal.SIGTERM)
            while (told := client.get("/ready")).status_code == 200:
                pass
            assert told.json()["error"]["code"] == "stopping"
            refused = client.post("/v1/completions", json=LONG)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        ends = [json.loads(line.removeprefix("data: "))["choices"][0]["finish_reason"] for line in rest[:-1]]
        assert len([end for end in ends if end]) == 16 and "length" in ends
        _, errors = running.communicate()
        assert running.returncode == 0
        assert "Traceback" not in errors
        assert "draining: 1 requests run" in errors


@pytest.mark.parametrize(("seconds", "num_signals"), [(0.0, 1), (300.0, 2)])
def test_the_drain_has_a_bound_and_a_second_signal_ends_it(serving, choir, seconds: float, num_signals: int) -> None:
    running = serving([choir], ServeConfig(drain_seconds=seconds))
    with running.http() as client, client.stream("POST", "/v1/completions", json=LONG | {"stream": True}) as stream:
        lines = stream.iter_lines()
        next(lines)
        for _ in range(num_signals):
            running.server.drain()
        rest = [line for line in lines if line]
    assert json.loads(rest[-1].removeprefix("data: "))["error"]["code"] == "stopping"
