"""A service answers, and one that dies, is silent or talks nonsense is ended and replaced."""

import subprocess
import sys
from pathlib import Path

import pytest

from codechoir.sandbox.acceleration.service import Running, Service, ServiceError

# Answers a request of n bytes with its process id and n; misbehaves when told to.
SCRIPT = """
import os, sys
while True:
    request = os.read(0, 1 << 20)
    while request and not request.endswith(b"."):
        request += os.read(0, 1 << 20)
    if not request or request == b"die.":
        sys.exit()
    if request == b"hush.":
        continue
    if request == b"lie.":
        os.write(1, b"\\xff\\xff\\xff\\xff")
        continue
    reply = f"{os.getpid()} {len(request)}".encode()
    os.write(1, len(reply).to_bytes(4, "big") + reply)
"""


def start(log: Path) -> Running:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    )
    with log.open("a") as out:
        out.write("started\n")

    def clear_up() -> None:
        with log.open("a") as out:
            out.write("cleared\n")

    return Running(process, clear_up)


def test_one_process_answers_many_requests_of_any_size(tmp_path: Path) -> None:
    service = Service(lambda: start(tmp_path / "log"))
    answers = [service.ask(b"x" * size + b".", 60).split() for size in (0, 5, 300_000)]
    service.close()
    assert len({process for process, _ in answers}) == 1
    assert [int(size) for _, size in answers] == [1, 6, 300_001]
    assert (tmp_path / "log").read_text() == "started\ncleared\n"


@pytest.mark.parametrize("request_text", [b"die.", b"hush.", b"lie."])
def test_a_service_that_fails_is_replaced(tmp_path: Path, request_text: bytes) -> None:
    service = Service(lambda: start(tmp_path / "log"))
    first = service.ask(b".", 60).split()[0]
    with pytest.raises(ServiceError):
        service.ask(request_text, 60 if request_text != b"hush." else 0.2)
    second = service.ask(b".", 60).split()[0]
    service.close()
    assert first != second
    assert (tmp_path / "log").read_text() == "started\ncleared\n" * 2


def test_a_service_is_replaced_after_its_number_of_requests(tmp_path: Path) -> None:
    service = Service(lambda: start(tmp_path / "log"), max_requests=2)
    processes = [service.ask(b".", 60).split()[0] for _ in range(4)]
    service.close()
    assert processes[0] == processes[1] != processes[2] == processes[3]


def test_a_service_that_cannot_start_is_an_error() -> None:
    def fail() -> Running:
        raise FileNotFoundError("no such compiler")

    with pytest.raises(ServiceError, match="no such compiler"):
        Service(fail).ask(b".", 1)
