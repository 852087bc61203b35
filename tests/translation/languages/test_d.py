"""D: texts worked out by hand, and judged by a real compiler where one is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from codechoir.translation.errors import Untranslatable
from codechoir.translation.languages.d import D
from codechoir.translation.problem import Assertion, Example, Parameter, PythonProblem, Signature
from codechoir.translation.types import (
    ANY,
    BOOL,
    FLOAT,
    INT,
    STR,
    Type,
    Value,
    dict_of,
    list_of,
    optional_of,
    tuple_of,
    union_of,
)

SIGNATURE = Signature("tally", (Parameter("words", list_of(STR)), Parameter("out", FLOAT)), dict_of(STR, INT))
EXAMPLE = Assertion((['a"\\', "*/"], -1), {"a": 2})
PROBLEM = PythonProblem(
    "Own_1_tally",
    SIGNATURE,
    ("\n    A dictionary of */\n    a list, or None.\n\n", Example("tally", EXAMPLE, "tally(...)")),
    (EXAMPLE, Assertion(([], 0.5), {})),
)
PROMPT = r"""import std.math;
import std.typecons;
/*

    A associative array of * /
    an array, or null.

    >>> tally(["a\"\\", "* /"], -1L)
    ["a": 2L].nullable

*/
Nullable!(long[string]) tally(string[] words, float out_) 
"""
TESTS = r"""unittest
{
    alias candidate = tally;

{
        auto result = candidate(["a\"\\", "*/"], -1L);
        assert(!result.isNull && result.get == ["a": 2L]);
}

{
        auto result = candidate([], 0.5);
        assert(result.isNull);
}

}
void main(){}"""


def test_the_prompt() -> None:
    assert D(SIGNATURE).prompt(PROBLEM) == PROMPT


def test_the_tests() -> None:
    assert D(SIGNATURE).tests(PROBLEM.assertions) == TESTS


@pytest.mark.parametrize(
    ("value", "type", "text"),
    [
        (None, optional_of(INT), "Nullable!(long).init"),
        ("x\ny", optional_of(STR), 'nullable("x\ny")'),
        ({"a": 1, "b": 0.5}, dict_of(STR, FLOAT), '["a": 1.0f, "b": 0.5f].nullable'),
        ([None, 2], list_of(optional_of(FLOAT)), "[Nullable!(float).init, nullable(2.0f)]"),
        ({}, dict_of(STR, BOOL), "Nullable!(bool[string]).init"),
        ((True, 0.1), tuple_of(BOOL, FLOAT), "tuple(true, 0.1)"),
        ([[], [2]], list_of(list_of(INT)), "[[], [2L]]"),
    ],
)
def test_values(value: Value, type: Type, text: str) -> None:
    assert D(SIGNATURE).value(value, type) == text


@pytest.mark.parametrize(
    ("value", "type", "text"),
    [
        (0.5, FLOAT, "0.5"),
        (0.1, FLOAT, "0.1f"),
        (1e300, FLOAT, "1e+300f"),
        ([0.25, 0.3], list_of(FLOAT), "[0.25, 0.3f]"),
        (None, optional_of(FLOAT), "assert(result.isNull);"),
        (0.1, optional_of(FLOAT), "assert(!result.isNull && result.get == 0.1f);"),
    ],
)
def test_what_a_function_gives(value: Value, type: Type, text: str) -> None:
    assert D(Signature("f", (), type)).expected(value) == text


def test_a_tuple_with_something_that_may_be_null() -> None:
    target = D(Signature("f", (), tuple_of(optional_of(INT), STR, optional_of(INT))))
    assert [line.strip() for line in target.expected((None, "x", 3)).splitlines()] == [
        "assert(result[0].isNull);",
        'assert(result[1] == "x");',
        "assert(!result[2].isNull && result[2].get == 3L);",
    ]
    assert target.shown((None, "x", 3)) == 'tuple(Nullable!(long).init, "x", nullable(3L))'


@pytest.mark.parametrize("type", [ANY, union_of(INT, STR), Type("many", (INT,))])
def test_what_d_has_no_type_for_is_refused(type: Type) -> None:
    with pytest.raises(Untranslatable):
        D(Signature("f", (), type)).opening()


@pytest.mark.skipif(shutil.which("ldc2") is None, reason="no D compiler")
@pytest.mark.parametrize("passes", [True, False])
def test_the_compiler_takes_it_and_tells_right_from_wrong(tmp_path: Path, passes: bool) -> None:
    signature = Signature(
        "weigh",
        (
            Parameter("weights", dict_of(STR, FLOAT)),
            Parameter("limit", optional_of(INT)),
            Parameter("span", tuple_of(FLOAT, INT)),
        ),
        tuple_of(FLOAT, optional_of(STR), dict_of(STR, INT)),
    )
    problem = PythonProblem(
        "Own_2_weigh",
        signature,
        ("Weigh.",),
        (
            Assertion(({"a": 0.1}, 2, (0, 1)), (0.1, None, {})),
            Assertion(({}, None, (0.5, 1)), (0.7, "\x07\n", {"b": 1})),
        ),
    )
    body = """{
    Nullable!(long[string]) none;
    if (!limit.isNull) return typeof(return)(weights.get["a"], Nullable!(string).init, none);
    return typeof(return)(0.7f, nullable("\\a\\n"), ["b": 1L].nullable);
}
"""
    program = f"{D(signature).prompt(problem)}{body}{D(signature).tests(problem.assertions)}"
    (tmp_path / "own.d").write_text(program if passes else program.replace("0.7f, nullable", "0.8f, nullable"))
    subprocess.run(["ldc2", "-unittest", "own.d"], cwd=tmp_path, check=True, capture_output=True)
    ran = subprocess.run([tmp_path / "own"], check=False, capture_output=True)
    assert (ran.returncode == 0) == passes
