"""PHP: texts worked out by hand, run by the real php, and literals read back by it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codechoir.translation.errors import Untranslatable
from codechoir.translation.languages.php import Php
from codechoir.translation.problem import Assertion, Example, Parameter, PythonProblem, Signature
from codechoir.translation.types import ANY, BOOL, INT, STR, dict_of, list_of, optional_of, tuple_of

NEEDS_PHP = pytest.mark.skipif(shutil.which("php") is None, reason="php is not installed")
SIGNATURE = Signature(
    "cheapest",
    (Parameter("prices", dict_of(STR, INT)), Parameter("banned", list_of(STR))),
    tuple_of(optional_of(STR), BOOL),
)
EXAMPLE = Assertion(({"tea": 3, "$x": 2}, ["$x"]), ("tea", True))
PROBLEM = PythonProblem(
    "Own_1_cheapest",
    SIGNATURE,
    (
        "Give the cheapest key of a dictionary that a list\n"
        "    does not ban, or None; and whether True was ?> banned.\n    ",
        Example("cheapest", EXAMPLE, 'cheapest({"tea": 3, "$x": 2}, ["$x"])'),
        "    Ties go to the first.\n    ",
    ),
    (
        EXAMPLE,
        Assertion(({}, []), (None, False)),
        Assertion(({'a "\\b"\n': -1}, ["5$"]), ('a "\\b"\n', False)),
    ),
)
PROMPT = """\
<?php
// Give the cheapest key of an array that an array
// does not ban, or null; and whether true was ? > banned.
// >>> cheapest(array("tea" => 3, "\\$x" => 2), array("\\$x"))
// array("tea", true)
// Ties go to the first.
function cheapest($prices, $banned) {
"""
TESTS = r"""function candidate(...$args) {
    return cheapest(...$args);
}

function test(): void {
    if (candidate(array("tea" => 3, "\$x" => 2), array("\$x")) !== array("tea", true)) { THROW }
    if (candidate(array(), array()) !== array(null, false)) { THROW }
    if (candidate(array("a \"\\b\"\n" => -1), array("5$")) !== array("a \"\\b\"\n", false)) { THROW }
}

test();""".replace("THROW", 'throw new Exception("Test failed!");')
SOLUTION = """\
    $best = null;
    foreach ($prices as $name => $price) {
        if (!in_array($name, $banned) && ($best === null || $price < $prices[$best])) { $best = $name; }
    }
    return array($best, count(array_intersect(array_keys($prices), $banned)) > 0);
}
"""


def run(program: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    path = folder / "program.php"
    path.write_bytes(program.encode())
    return subprocess.run(["php", "-n", path], capture_output=True, check=False)


def test_the_prompt() -> None:
    assert Php(SIGNATURE).prompt(PROBLEM) == PROMPT


def test_the_tests() -> None:
    assert Php(SIGNATURE).tests(PROBLEM.assertions) == TESTS


def test_names_that_mean_something_else_get_an_underscore() -> None:
    php = Php(Signature("List", (Parameter("this", INT), Parameter("list", INT)), INT))
    assert php.opening() == "function List_($this_, $list) {\n"
    assert "    return List_(...$args);" in php.before_tests()
    assert php.applied("List", ["1", "2"]) == "List_(1, 2)"


@NEEDS_PHP
def test_a_right_solution_passes_and_a_wrong_one_fails(tmp_path: Path) -> None:
    right = run(f"{PROMPT}{SOLUTION}\n{TESTS}", tmp_path)
    wrong = run(f"{PROMPT}{SOLUTION.replace('=== null', '!== null')}\n{TESTS}", tmp_path)
    assert (right.returncode, right.stdout, right.stderr) == (0, b"", b"")
    assert wrong.returncode == 255
    assert b"Test failed!" in wrong.stdout


def test_what_php_cannot_say_is_refused() -> None:
    php = Php(SIGNATURE)
    assert php.value([2**63 - 1, -(2**63) + 1], ANY) == "array(9223372036854775807, -9223372036854775807)"
    for value in (2**63, -(2**63), "\ud800", {1.5: 3}, {True: 3}, {(1, 2): 3}):
        with pytest.raises(Untranslatable):
            php.value(value, ANY)


@NEEDS_PHP
@settings(max_examples=15)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("$a{}@\\\"'\n[0"), max_size=8), min_size=10
    )
)
def test_php_reads_every_string_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    literals = Php(SIGNATURE).value(texts, list_of(STR))
    found = run(
        f"<?php\nforeach ({literals} as $text) {{ echo bin2hex($text), PHP_EOL; }}", tmp_path_factory.mktemp("php")
    )
    assert found.stdout.decode().split("\n") == [*(text.encode().hex() for text in texts), ""]
