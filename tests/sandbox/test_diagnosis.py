from dataclasses import replace

import pytest

from codechoir.sandbox import diagnosis, isolation
from codechoir.sandbox.diagnosis import diagnose
from codechoir.sandbox.toolchains import TOOLCHAINS


@pytest.fixture
def only_python(monkeypatch):
    """The other toolchains take seconds and differ in nothing that matters here."""
    monkeypatch.setattr(diagnosis, "TOOLCHAINS", {"python": TOOLCHAINS["python"]})


@pytest.mark.usefixtures("only_python")
def test_a_sound_machine():
    sandbox, python = diagnose()
    assert (sandbox.part, sandbox.state, sandbox.packages) == ("sandbox", "works", ("bubblewrap",))
    assert sandbox.version.startswith("bubblewrap ")
    assert (python.part, python.state, python.detail) == ("python", "works", "")
    assert python.version.startswith("Python 3.")


@pytest.mark.usefixtures("only_python")
def test_toolchains_are_tried_although_the_sandbox_is_broken(monkeypatch):
    monkeypatch.setattr(isolation, "_BUBBLEWRAP", ("bwrap", "--no-such-option"))
    sandbox, python = diagnose()
    assert sandbox.state == "broken" and "no-such-option" in sandbox.detail
    assert python.state == "works"


def test_missing_and_broken_toolchains_are_told_apart(monkeypatch):
    python = TOOLCHAINS["python"]
    kinds = {"a": replace(python, programs=("no-such-python",)), "b": replace(python, run=("python3", "gone.py"))}
    monkeypatch.setattr(diagnosis, "TOOLCHAINS", kinds)
    _, missing, broken = diagnose()
    assert missing.state == "missing" and "no-such-python" in missing.detail
    assert broken.state == "broken" and "gone.py" in broken.detail
