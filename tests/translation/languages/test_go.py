"""Go: texts worked out by hand, and judged by the real compiler where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from codechoir.translation.errors import Untranslatable
from codechoir.translation.languages.go import Go
from codechoir.translation.problem import Assertion, Example, Parameter, PythonProblem, Signature
from codechoir.translation.types import (
    ANY,
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

SIGNATURE = Signature(
    "tally_words", (Parameter("string", list_of(STR)), Parameter("type", INT)), dict_of(STR, list_of(FLOAT))
)
EXAMPLE = Assertion((["a", 'b"\n'], -1), {"a": [1.0, 0.5]})
PROBLEM = PythonProblem(
    "Own_1_tally_words",
    SIGNATURE,
    ("\n    A dictionary of a list, or None.\n\n", Example("tally_words", EXAMPLE, "tally_words(...)")),
    (EXAMPLE, Assertion(([], 0), {})),
)
PROMPT = r"""package tally_words_test

import (
    "testing"
    "fmt"
)

// A map of a list, or nil.
// >>> tally_words([]string{"a", "b\"\n"}, -1)
// map[string][]float64{"a": []float64{1.0, 0.5}}
func tally_words(myString []string, myType int) map[string][]float64 {
"""
TESTS = [
    "func TestTally_Words(t *testing.T) {",
    "candidate := tally_words",
    "type test struct {",
    "actual interface{}",
    "expected interface{}",
    "}",
    "tests := []test{",
    r'{ actual: candidate([]string{"a", "b\"\n"}, -1), expected: map[string][]float64{"a": []float64{1.0, 0.5}} },',
    "{ actual: candidate([]string{}, 0), expected: map[string][]float64{} },",
    "}",
]


def test_the_prompt() -> None:
    assert Go(SIGNATURE).prompt(PROBLEM) == PROMPT


def test_the_tests() -> None:
    lines = [" ".join(line.split()) for line in Go(SIGNATURE).tests(PROBLEM.assertions).splitlines()]
    assert lines[: len(TESTS)] == TESTS


@pytest.mark.parametrize(
    ("value", "type", "text"),
    [
        (None, ANY, "nil"),
        (True, ANY, "true"),
        ((1, None, "x"), tuple_of(INT, optional_of(INT), STR), '[]interface{}{1, nil, "x"}'),
        (("x", "y"), Type("many", (STR,)), '[]interface{}{"x", "y"}'),
        ([(1, 2)], list_of(tuple_of(INT, INT)), "[][]interface{}{[]interface{}{1, 2}}"),
        ([2, [], {}, [1]], list_of(ANY), "[]interface{}{2, []interface{}{}, map[interface{}]interface{}{}, []int{1}}"),
    ],
)
def test_values(value: Value, type: Type, text: str) -> None:
    assert Go(SIGNATURE).value(value, type) == text


@pytest.mark.parametrize("type", [optional_of(INT), union_of(INT, STR), list_of(optional_of(INT))])
def test_what_go_has_no_type_for_is_refused(type: Type) -> None:
    with pytest.raises(Untranslatable):
        Go(Signature("f", (), type)).opening()


@pytest.mark.skipif(shutil.which("go") is None, reason="no Go compiler")
def test_the_compiler_takes_it_and_tells_right_from_wrong(tmp_path: Path) -> None:
    signature = Signature(
        "shelve",
        (Parameter("sizes", list_of(FLOAT)), Parameter("odd", ANY)),
        tuple_of(INT, optional_of(STR), list_of(INT)),
    )
    problem = PythonProblem(
        "Own_2_shelve",
        signature,
        ("Sizes.",),
        (Assertion(([0.5, 2.0], {"a": ["é\t"]}), (2, None, [1])), Assertion(([], []), (0, None, [1]))),
    )
    right = "\treturn []interface{}{len(sizes), nil, []int{1}}\n}\n"
    for folder, body in (("right", right), ("wrong", right.replace("{1}", "{2}"))):
        (tmp_path / folder).mkdir()
        program = f"{Go(signature).prompt(problem)}{body}\n{Go(signature).tests(problem.assertions)}"
        (tmp_path / folder / "shelve_test.go").write_text(program)
    (tmp_path / "go.mod").write_text("module own\n\ngo 1.19\n")
    environment = {**os.environ, "GOCACHE": str(tmp_path / "cache"), "GOFLAGS": "-mod=mod"}
    ran = subprocess.run(
        ["go", "test", "./..."], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert [line.split()[:2] for line in ran.stdout.splitlines() if "\town/" in line] == [
        ["ok", "own/right"],
        ["FAIL", "own/wrong"],
    ]
