"""The doctor's findings: what works, what is broken, what is missing, and how each is told."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest

from codechoir.records import Status
from codechoir.sandbox import diagnosis
from codechoir.sandbox.diagnosis import diagnose
from codechoir.sandbox.isolation import SEARCH_PATH
from codechoir.sandbox.toolchains.table import TOOLCHAINS
from codechoir.sandbox.toolchains.toolchain import Known

PYTHON = TOOLCHAINS["python"]


def test_what_works_is_found_with_its_version_and_walls() -> None:
    sandbox, python, shell = diagnose(["python", "shell"])
    bwrap = subprocess.run(["bwrap", "--version"], capture_output=True, text=True).stdout.strip()
    assert (sandbox.part, sandbox.state, sandbox.detail) == ("sandbox", "works", "")
    assert sandbox.version.startswith(bwrap)
    told = subprocess.run(["python3", "--version"], capture_output=True, text=True, env={"PATH": SEARCH_PATH}).stdout
    assert (python.part, python.state, python.version) == ("python", "works", told.strip())
    assert (shell.part, shell.state) == ("shell", "works") and "bash" in shell.version
    by_group = sandbox.walls["limits on all processes of a program together"]
    assert {name for name, holds in sandbox.walls.items() if holds is not True} <= (
        set() if by_group else {"limits on all processes of a program together"}
    )
    assert len(sandbox.walls) >= 8


def test_what_is_missing_or_broken_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = {
        "python": replace(PYTHON, good=("assert False, 'a broken library'",)),
        "shell": replace(TOOLCHAINS["shell"], programs=("bash", "no-such-shell")),
        "lua": replace(PYTHON, language="lua", bad=(Known("x = 1", Status.RUNTIME_ERROR),)),
    }
    monkeypatch.setattr(diagnosis, "toolchain_of", changed.__getitem__)
    _, python, shell, lua = diagnose(changed)
    assert python.state == "broken" and "failed-assertion in place of passed" in python.detail
    assert "a broken library" in python.detail and python.packages == ("python3",)
    assert shell.state == "missing" and "missing: no-such-shell" in shell.detail
    assert shell.install.startswith("apt-get install bash")
    assert lua.state == "broken" and "passed in place of runtime-error" in lua.detail


def test_without_a_sandbox_toolchains_are_tried_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, **given: None if name == "bwrap" else _which(name, **given))
    sandbox, python = diagnose(["python"])
    assert sandbox.state == "missing" and sandbox.packages == ("bubblewrap",) and "bubblewrap" in sandbox.install
    assert python.state == "works"


def _which(name: str, path: str = SEARCH_PATH) -> str | None:
    found = subprocess.run(["which", name], capture_output=True, text=True, env={"PATH": f"/usr/bin:{path}"}).stdout
    return found.strip() or None
