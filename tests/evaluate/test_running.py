"""Programs in real toolchains, several at once."""

from __future__ import annotations

import pytest
from tests.evaluate.made import Runs

from codechoir.errors import ToolMissingError
from codechoir.evaluate.config import EvaluateConfig
from codechoir.evaluate.running import Program, check_toolchains, run_programs
from codechoir.records import Status
from codechoir.sandbox.isolation import open_sandbox
from codechoir.sandbox.programs import Outcome
from codechoir.sandbox.toolchains import finding


def test_a_checked_toolchain_has_a_version_and_a_pace() -> None:
    checked = check_toolchains(open_sandbox("bubblewrap"), ["python", "javascript"], 2)
    assert checked["python"].version.startswith("Python 3.") and "node" in checked["javascript"].version
    assert all(each.seconds > 0 for each in checked.values())


def test_a_toolchain_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = open_sandbox("bubblewrap")
    monkeypatch.setattr(finding, "find_program", lambda _: None)
    with pytest.raises(ToolMissingError):
        check_toolchains(sandbox, ["lua"], 1)


def test_every_program_gets_its_own_outcome() -> None:
    programs = [Program(n, "python", f"print({n})\nassert {n} % 3\n") for n in range(7)]
    programs.append(Program(7, "javascript", "console.log(7)\n"))
    found: dict[int, Outcome] = {}
    run_programs(programs, found.__setitem__, open_sandbox("bubblewrap"), EvaluateConfig(), 3)
    assert {number: outcome.status for number, outcome in found.items()} == {
        n: Status.PASSED if n % 3 else Status.FAILED_ASSERTION for n in range(8)
    }
    assert all(outcome.output.startswith(f"{number}\n") for number, outcome in found.items())


def test_the_limits_are_the_configs() -> None:
    found: dict[int, Outcome] = {}
    config = EvaluateConfig(cpu_seconds=1, memory_mib=64)
    programs = [Program(0, "python", "while True: pass\n"), Program(1, "python", "x = bytearray(300 * 2**20)\n")]
    run_programs(programs, found.__setitem__, open_sandbox("bubblewrap"), config, 2)
    assert (found[0].status, found[1].status) == (Status.TIME_OUT, Status.OUT_OF_MEMORY)


def test_what_is_running_when_one_raises_is_still_handed_on(runs: Runs) -> None:
    settled: list[int] = []

    def settle(number: int, _: Outcome) -> None:
        settled.append(number)
        if number == 0:
            raise KeyboardInterrupt

    programs = [Program(n, "python", str(n)) for n in range(50)]
    with pytest.raises(KeyboardInterrupt):
        run_programs(programs, settle, open_sandbox("unsafe-no-sandbox"), EvaluateConfig(), 1)
    assert sorted(settled) == list(range(len(runs.programs)))
    assert len(runs.programs) < 10 and runs.open_runners == 0
