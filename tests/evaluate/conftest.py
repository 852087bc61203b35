"""The sandbox's stand-in, for tests where only the order of work matters."""

from __future__ import annotations

import pytest
from tests.evaluate.made import Runs

from codechoir.evaluate import running
from codechoir.sandbox.programs import Outcome


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """The stand-in, in place of every runner and check of a toolchain."""
    made = Runs()

    class Runner:
        def __init__(self, *_: object) -> None:
            made.open_runners += 1

        def run(self, _language: str, program: str, _limits: object) -> Outcome:
            return made.run(program)

        def close(self) -> None:
            made.open_runners -= 1

    def check(_sandbox: object, languages: list[str], _workers: int) -> dict[str, running.Checked]:
        return {name: running.Checked(f"{name} {made.version}", made.seconds.get(name, 1.0)) for name in languages}

    monkeypatch.setattr(running, "Runner", Runner)
    monkeypatch.setattr("codechoir.evaluate.verdicts.check_toolchains", check)
    return made
