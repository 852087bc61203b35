"""`codechoir chat`: through pipes, and on a terminal."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from codechoir.model.checkpoint import load_tokenizer

TEMPLATE = "{% for message in messages %}[{{ message.role }}]{{ message.content }}\n{% endfor %}[assistant]"
# Whoever started the tests may have interrupts ignored, as a shell does for what it runs in the background.
MAIN = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from codechoir.cli.main import main
main()
"""


def with_template(folder: Path, out: Path) -> Path:
    shutil.copytree(folder, out)
    tokenizer = load_tokenizer(out)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(out)
    return out


@pytest.fixture(scope="module")
def dense(trunk: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_template(trunk, tmp_path_factory.mktemp("dense") / "model")


@pytest.fixture(scope="module")
def choir(composed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_template(composed, tmp_path_factory.mktemp("choir") / "model")


def test_one_turn_a_line_and_what_was_said_is_remembered(codechoir, dense: Path) -> None:
    options = ("--max-tokens", 4)
    first = codechoir("chat", dense, *options, stdin=b"one\n")
    both = codechoir("chat", dense, *options, stdin=b"one\n\n  \none\n")
    cleared = codechoir("chat", dense, *options, stdin=b"one\n/clear\none\n")
    left = codechoir("chat", dense, *options, stdin=b"one\n/quit\none\n")
    assert (first.code, first.stderr) == (0, "")
    assert both.stdout.startswith(first.stdout)
    assert cleared.stdout == first.stdout * 2 != both.stdout
    assert left.stdout == first.stdout


def test_routes_are_chosen_and_told(codechoir, choir: Path) -> None:
    lines = b"/route\none\n/route java\n/route\none\n/route token\n/route\none\n"
    done = codechoir("chat", choir, "--max-tokens", 3, stdin=lines)
    said = done.stderr.splitlines()
    assert done.code == 0, done.stderr
    assert [said[0], said[2], said[4]] == ["auto", "java", "token"]
    assert ", probability 0." in said[1] or ", probability 1." in said[1]
    assert said[3] == "route: java"
    assert "%" in said[5]
    wrong = codechoir("chat", choir, stdin=b"/route cobol\n").refusal()
    assert wrong.startswith("no such route\n  seen:    cobol\n  allowed: auto, token, python, java, cpp")


def test_what_is_forgotten_is_said_once(codechoir, dense: Path) -> None:
    lines = ("word " * 150 + "\n").encode() * 8
    done = codechoir("chat", dense, "--max-tokens", 2, stdin=lines)
    assert done.code == 0, done.stderr
    assert done.stderr.count("outgrown") == 1
    assert done.stderr.count("\n") == 1


def test_help_and_unknown_commands(codechoir, dense: Path) -> None:
    done = codechoir("chat", dense, stdin=b"/help\n/what\n/\n")
    assert (done.code, done.stdout) == (0, "")
    assert done.stderr.count("/clear        forget") == 3
    assert "no such command: /what" in done.stderr


def test_what_is_refused(codechoir, random_base: Path, dense: Path) -> None:
    assert codechoir("chat", random_base, stdin=b"hello\n").refusal().startswith("the model has no chat template")
    assert "not UTF-8" in codechoir("chat", dense, stdin=b"\xff\n").refusal()
    assert "the prompt is too long" in codechoir("chat", dense, stdin=b"word " * 30_000 + b"\n").refusal()


class Terminal:
    """The command on a terminal of its own."""

    def __init__(self, *arguments: object) -> None:
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", MAIN, *map(str, arguments)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            preexec_fn=lambda: os.login_tty(theirs),
        )
        os.close(theirs)

    def until(self, text: str) -> str:
        """What is shown up to and with `text`."""
        shown = ""
        while text not in shown:
            shown += os.read(self._ours, 1).decode("latin1")
        return shown

    def some(self) -> bytes:
        """What is shown next, however little."""
        return os.read(self._ours, 1)

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def ended(self) -> int:
        code = self._process.wait()
        os.close(self._ours)
        return code


def test_on_a_terminal_an_interrupt_stops_the_answer_and_then_the_chat(dense: Path) -> None:
    terminal = Terminal("chat", dense, "--max-tokens", 900)
    terminal.until("> ")
    terminal.type("hello\n")
    terminal.until("hello\r\n")
    terminal.some()
    terminal.type("\x03")
    terminal.until("> ")
    terminal.type("/nothing\n")
    assert "no such command: /nothing" in terminal.until("leaves.")
    terminal.until("> ")
    terminal.type("\x03")
    terminal.until("interrupted")
    assert terminal.ended() == 130
