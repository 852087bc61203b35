"""Progress lines, with a clock that the test moves."""

import io
import os
import shutil

import pytest

from codechoir.console import Progress, say


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that calls itself a terminal."""

    def isatty(self) -> bool:
        return True


def test_plain_lines_come_at_most_every_ten_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress("train", 1200, "tokens", stream=stream, clock=clock) as progress:
        for _ in range(12):  # a call each 5 s: lines after 5, 15, 25, 35, 45 and 55 s, and the last
            clock.now += 5
            progress.advance(100)
    lines = stream.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        f"train: {done}/1,200 tokens" for done in ("100", "300", "500", "700", "900", "1,100", "1,200")
    ]
    assert "\r" not in stream.getvalue()


def test_rate_eta_and_note() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress("curate", 100, "files", stream=stream, clock=clock)
    clock.now += 10
    progress.advance(20, "loss 1.5")
    assert stream.getvalue() == "curate: 20/100 files  2.0/s  ETA 0:40  loss 1.5\n"


def test_what_an_interrupted_run_did_counts_but_not_towards_the_rate() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress("train", 100, "steps", done=50, stream=stream, clock=clock)
    clock.now += 10
    progress.advance(10)
    assert progress.rate == pytest.approx(1.0)
    assert stream.getvalue() == "train: 60/100 steps  1.0/s  ETA 0:40\n"


@pytest.mark.parametrize(
    ("seconds_a_unit", "expected"),
    [(0.5, "2.0/s  ETA 0:50"), (20, "0.05/s  ETA 33:20"), (3600, "0.00028/s  ETA 100:00:00"), (1e-4, "10,000.0/s")],
)
def test_slow_and_fast_work(seconds_a_unit: float, expected: str) -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress("x", 101, "units", stream=stream, clock=clock)
    clock.now += seconds_a_unit
    progress.advance(1)
    assert expected in stream.getvalue()


def test_the_last_line_says_the_time_taken_and_comes_once() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress("fit", 1, "layers", stream=stream, clock=clock) as progress:
        clock.now += 61
        progress.advance(1)
    assert stream.getvalue() == "fit: 1/1 layers  0.016/s  took 1:01\n"


def test_nothing_done_and_nothing_to_do() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress("a", 5, "files", stream=stream, clock=clock):
        clock.now += 1
    with Progress("b", 0, "files", stream=stream, clock=clock):
        pass
    assert stream.getvalue() == "a: 0/5 files  0.0/s  ETA ?\nb: 0/0 files  0.0/s  took 0:00\n"


def test_an_error_ends_the_line_and_passes() -> None:
    stream, clock = Terminal(), Clock()
    with pytest.raises(KeyError), Progress("a", 5, "files", stream=stream, clock=clock) as progress:
        progress.advance(2)
        raise KeyError
    assert stream.getvalue().endswith("\n")


def test_a_terminal_sees_one_line_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((200, 24)))
    stream, clock = Terminal(), Clock()
    with Progress("a", 3, "files", stream=stream, clock=clock) as progress:
        for pause in (1.0, 0.1, 1.0):  # the second comes too soon to be shown
            clock.now += pause
            progress.advance(1)
    drawn = stream.getvalue().split("\r\x1b[K")
    assert [line.split("  ")[0] for line in drawn] == ["", "a: 1/3 files", "a: 3/3 files", "a: 3/3 files"]
    assert stream.getvalue().count("\n") == 1


def test_a_terminal_line_does_not_wrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((40, 24)))
    stream = Terminal()
    Progress("a", 3, "files", stream=stream, clock=Clock()).advance(1, "note " * 30)
    assert len(stream.getvalue().removeprefix("\r\x1b[K")) == 39


def test_say_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    say("fetched 3 packages")
    assert capsys.readouterr() == ("", "fetched 3 packages\n")


def test_say_clears_a_progress_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    say("fetched")
    assert stream.getvalue() == "\r\x1b[Kfetched\n"
