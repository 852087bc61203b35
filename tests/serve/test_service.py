"""Bodies, clients that go away, deadlines, queues and slow readers, over raw sockets against a real server."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable

import pytest

from codechoir.serve.config import ServeConfig

LONG = {"model": "choir/java", "prompt": "x", "max_tokens": 2000, "temperature": 0}
RUNNING = 'codechoir_running{model="choir"}'


def cancelled(reason: str) -> str:
    return f'codechoir_cancelled_total{{model="choir",reason="{reason}"}}'


def request(body: bytes, *, path: str = "/v1/completions", **headers: str) -> bytes:
    """An HTTP request in bytes."""
    all_headers = {"host": "localhost", "content-type": "application/json", "content-length": str(len(body))}
    all_headers |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in all_headers.items() if value)
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def answer_of(connection: socket.socket) -> tuple[int, dict[str, object]]:
    """The status and JSON of the next answer."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65536)
        assert part, received
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    while len(body) < int(headers[b"content-length"]):
        body += connection.recv(65536)
    return int(head.split()[1]), json.loads(body)


def until(condition: Callable[[], bool]) -> None:
    """Asks until it holds, patiently. The server answers in between, so that this neither sleeps nor spins alone."""
    asked_from = time.monotonic()
    while not condition():
        assert time.monotonic() - asked_from < 120, "it never came to be"


@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        (request(b"{"), 400, "Invalid JSON"),
        (request(b"[]"), 400, "the body"),
        (request(b'{"prompt": "\xff\xfe"}'), 400, "Invalid JSON"),
        (request(b'{"prompt": "\\ud800"}'), 400, ""),
        (request(b'{"n": ' + b"[" * 5000), 400, ""),
        (request(b'{"temperature": NaN}'), 400, ""),
        (request(b'{"max_tokens": 1e999}'), 400, ""),
        (request(b'{"prompt": "x"}', content_type="text/plain"), 415, "application/json"),
        (request(b'{"prompt": "x"}', content_type=""), 415, "application/json"),
        (request(b"x" * 100_001), 413, "100000 bytes"),
        (request(b'{"prompt": "x"}', host="evil.example"), 400, "host"),
        (request(b'{"prompt": "x"}', path="/v1/embeddings"), 404, "no such path"),
        (request(b"{}").replace(b"POST", b"GET"), 405, "other methods"),
    ],
)
def test_bad_requests_are_refused_in_openais_form(server, sent: bytes, status: int, said: str) -> None:
    with server.connect() as connection:
        connection.sendall(sent)
        got, answer = answer_of(connection)
    assert got == status
    error = answer["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert said in error["message"]
    assert "Traceback" not in json.dumps(answer) and "xxx" not in error["message"]


def test_a_body_in_chunks_is_bounded_too(server) -> None:
    with server.connect() as connection:
        connection.sendall(request(b"", content_length="", transfer_encoding="chunked"))
        for _ in range(11):
            connection.sendall(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        assert answer_of(connection)[0] == 413


@pytest.mark.parametrize(
    ("headers", "status"), [({}, 413), ({"content_type": "text/plain"}, 415), ({"host": "evil.example"}, 400)]
)
def test_who_still_sends_sees_why_he_is_refused(server, headers: dict[str, str], status: int) -> None:
    """A connection closed with a body unread is reset, and the answer lost."""
    with server.connect() as connection:
        connection.sendall(request(b"x" * 4_000_000, connection="close", **headers))
        assert answer_of(connection)[0] == status


def test_a_connection_serves_on_after_a_refusal(server) -> None:
    good = request(json.dumps({"model": "choir", "prompt": "x", "max_tokens": 1}).encode())
    with server.connect() as connection:
        for sent, status in ((request(b"{"), 400), (good, 200), (request(b"x" * 200_000), 413), (good, 200)):
            connection.sendall(sent)
            assert answer_of(connection)[0] == status


def test_noise_and_half_requests_hurt_nobody(server) -> None:
    for noise in (b"\x16\x03\x01\x02\x00\x01", request(b'{"prompt": "x"')[:-3], b"POST /v1/comp", b"\r\n\r\n"):
        with server.connect() as connection:
            connection.sendall(noise)
    with server.http() as client:
        assert client.get("/health").json() == {"status": "ok"}
    assert not any("bug" in line for line in server.log)


def test_a_body_that_does_not_come_is_given_up(serving, choir) -> None:
    running = serving([choir], ServeConfig(body_seconds=0.05))
    with running.connect() as connection:
        connection.sendall(request(b'{"prompt"', content_length="100"))
        assert answer_of(connection)[0] == 408


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_frees_its_place(serving, choir, stream: bool) -> None:
    running = serving([choir])
    with running.connect() as connection:
        connection.sendall(request(json.dumps(LONG | {"stream": stream}).encode()))
        until(lambda: running.metric(RUNNING) == 1)
    until(lambda: running.metric(RUNNING) == 0)
    assert running.metric(cancelled("disconnected")) == 1
    assert running.metric('codechoir_tokens_total{kind="completion",model="choir"}') < 2000


def test_beyond_the_queue_there_is_429_until_a_place_is_free(serving, choir) -> None:
    running = serving([choir], ServeConfig(max_sequences=1, max_waiting=0))
    small = {"model": "choir", "prompt": "x", "max_tokens": 1}
    with running.http() as client:
        with running.connect() as connection:
            connection.sendall(request(json.dumps(LONG | {"stream": True}).encode()))
            until(lambda: running.metric(RUNNING) == 1)
            told = client.post("/v1/completions", json=small)
            assert told.status_code == 429
            assert 1 <= int(told.headers["retry-after"]) <= 60
            assert told.json()["error"]["type"] == "rate_limit_error"
        until(lambda: client.post("/v1/completions", json=small).status_code == 200)


def test_a_request_past_its_deadline_is_given_up(serving, choir) -> None:
    running = serving([choir], ServeConfig(request_seconds=0.05))
    with running.http() as client:
        told = client.post("/v1/completions", json=LONG)
        assert (told.status_code, told.json()["error"]["code"]) == (504, "deadline")
        stream = client.post("/v1/completions", json=LONG | {"stream": True})
    assert json.loads(stream.text.split("\n\n")[-2].removeprefix("data: "))["error"]["code"] == "deadline"
    assert "[DONE]" not in stream.text
    until(lambda: running.metric(RUNNING) == 0)


def test_a_reader_that_does_not_read_is_left(serving, choir) -> None:
    """Sixteen traced streams in one, far more than sockets' buffers hold, and a client that reads nothing."""
    running = serving([choir], ServeConfig(stream_events=64))
    asked = LONG | {"model": "choir/token", "stream": True, "n": 16, "x_trace": True, "logprobs": 20}
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", running.port))
        connection.sendall(request(json.dumps(asked).encode()))
        until(lambda: running.metric(cancelled("slow_reader")) == 1)
        until(lambda: running.metric(RUNNING) == 0)
    assert running.metric('codechoir_tokens_total{kind="completion",model="choir"}') < 16 * 2000


def test_answers_under_load_are_those_of_requests_alone(server) -> None:
    """Thirty-two streams at once in float32: each gets its own tokens."""
    prompts = [f"def f{number}(x):\n    return" for number in range(16)]
    asked = {"max_tokens": 8, "temperature": 0, "model": "choir"}
    create = server.openai().completions.create
    alone = [create(prompt=prompt, **asked).choices[0].text for prompt in prompts]
    together = create(prompt=prompts, **asked)
    assert [choice.text for choice in together.choices] == alone
