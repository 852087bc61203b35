"""Every accelerated language ends its programs as it would without."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.sandbox.programs.endings import LANGUAGES

from codechoir.artifacts import cache_dir
from codechoir.records import Status
from codechoir.sandbox.acceleration.table import accelerations
from codechoir.sandbox.isolation import Sandbox, open_sandbox
from codechoir.sandbox.jobs import Job, Step, StepLimits
from codechoir.sandbox.programs import Limits, Outcome, Runner
from codechoir.sandbox.toolchains.finding import missing_parts
from codechoir.sandbox.toolchains.table import TOOLCHAINS

LIMITS = Limits(cpu_seconds=60, wall_seconds=120.0, memory_mib=256, output_mib=16)
BY_LIMITS = (Status.TIME_OUT, Status.OUT_OF_MEMORY, Status.OUTPUT_LIMIT)  # no matter how it was compiled
NONE = Sandbox("unsafe-no-sandbox", "none")


def test_accelerations_are_of_languages_with_a_toolchain() -> None:
    assert set(accelerations(NONE, Path("/nowhere"))) <= set(TOOLCHAINS)


@pytest.mark.parametrize("language", sorted(accelerations(NONE, Path("/nowhere"))))
def test_verdicts_are_the_plain_ones(language: str) -> None:
    if missing := missing_parts(TOOLCHAINS[language]):
        pytest.skip(f"missing: {missing}")
    sandbox = open_sandbox("bubblewrap")
    one_of_each = {status: text for text, status in LANGUAGES[language].endings() if status not in BY_LIMITS}

    def outcomes(accelerate: bool) -> list[Outcome]:
        with Runner(sandbox, cache_dir(), accelerate) as runner:
            return [runner.run(language, text, LIMITS) for text in one_of_each.values()]

    with ThreadPoolExecutor(2) as pool:
        fast, plain = pool.map(outcomes, (True, False))
    for text, found, wanted in zip(one_of_each.values(), fast, plain, strict=True):
        assert found.status is wanted.status, f"{text}\n{found.output}\n{wanted.output}"


@pytest.mark.parametrize("language", sorted(accelerations(NONE, Path("/nowhere"))))
def test_a_command_that_is_not_known_runs_plainly(tmp_path: Path, language: str) -> None:
    limits = StepLimits(cpu_seconds=1, wall_seconds=1.0, memory_mib=1)
    step = Step(name="compile", argv=("/nowhere/compiler", "file"), limits=limits)
    job = Job(files={}, steps=(step, Step(name="run", argv=("./main",), limits=limits)), marker=b"m")
    acceleration = accelerations(NONE, tmp_path)[language]
    assert acceleration.job("", job) is None
    assert acceleration.job("", Job(files={}, steps=job.steps[1:], marker=b"m")) is None
    assert acceleration.visible == ()
    acceleration.close()
