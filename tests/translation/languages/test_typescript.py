"""TypeScript: texts worked out by hand, run by node without their types, and literals read back by it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codechoir.translation.errors import Untranslatable
from codechoir.translation.languages.typescript import TypeScript
from codechoir.translation.problem import Assertion, Example, Parameter, PythonProblem, Signature
from codechoir.translation.types import (
    ANY,
    BOOL,
    FLOAT,
    INT,
    NONE,
    STR,
    Type,
    dict_of,
    list_of,
    optional_of,
    tuple_of,
    union_of,
)

NEEDS_NODE = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
SIGNATURE = Signature(
    "toll",
    (Parameter("stops", list_of(tuple_of(STR, INT))), Parameter("rates", dict_of(INT, FLOAT))),
    union_of(STR, optional_of(FLOAT)),
)
EXAMPLE = Assertion(([("Ely", 1)], {1: 2.5}), 2.5)
PROBLEM = PythonProblem(
    "Own_5_toll",
    SIGNATURE,
    (
        "Sum the rates in a dictionary for a list of stops, None without\n"
        "    stops; the name of a stop with no rate.\n    ",
        Example("toll", EXAMPLE, 'toll([("Ely", 1)], {1: 2.5})'),
    ),
    (
        EXAMPLE,
        Assertion(([], {}), None),
        Assertion(([('"\\\n', -3), ("B", 4)], {-3: 1.0}), "B"),
    ),
)
PROMPT = """\
//Sum the rates in an object for an array of stops, undefined without
// stops; the name of a stop with no rate.
// >>> toll([["Ely", 1]], {1: 2.5})
// 2.5
function toll(stops: [string, number][], rates: {[key: number]: number}): string| number | undefined {
"""
TESTS = r"""declare var require: any;
const assert = require('node:assert');


function test() {
  let candidate = toll;
  assert.deepEqual(candidate([["Ely", 1]], {1: 2.5}),2.5);
  assert.deepEqual(candidate([], {}),undefined);
  assert.deepEqual(candidate([["\"\\\n", -3], ["B", 4]], {[-3]: 1.0}),"B");
}

test();"""
SOLUTION = """\
    if (stops.length === 0) return undefined;
    const free = stops.find(stop => !(stop[1] in rates));
    return free ? free[0] : stops.reduce((sum, stop) => sum + rates[stop[1]], 0);
}
"""


def run(program: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    path = folder / "program.js"
    path.write_bytes(program.encode())
    return subprocess.run(["node", path], capture_output=True, check=False)


def test_the_prompt() -> None:
    assert TypeScript(SIGNATURE).prompt(PROBLEM) == PROMPT


def test_the_tests() -> None:
    assert TypeScript(SIGNATURE).tests(PROBLEM.assertions) == TESTS


def test_names_that_mean_something_else_get_an_underscore() -> None:
    typescript = TypeScript(Signature("new", (Parameter("function", INT), Parameter("x", INT)), INT))
    assert typescript.opening() == "function new_(function_: number, x: number): number {\n"
    assert "  let candidate = new_;" in typescript.before_tests()
    assert typescript.applied("new", ["1", "2"]) == "new_(1, 2)"


@NEEDS_NODE
def test_a_right_solution_passes_and_a_wrong_one_fails(tmp_path: Path) -> None:
    opening = "function toll(stops, rates) {\n"
    tests = TESTS.removeprefix("declare var require: any;\n")
    right = run(f"{opening}{SOLUTION}\n{tests}", tmp_path)
    wrong = run(f"{opening}{SOLUTION.replace('undefined', '0')}\n{tests}", tmp_path)
    assert (right.returncode, right.stderr) == (0, b"")
    assert wrong.returncode == 1
    assert b"AssertionError" in wrong.stderr


@pytest.mark.parametrize(
    ("type", "text"),
    [
        (list_of(optional_of(BOOL)), "(boolean | undefined)[]"),
        (list_of(union_of(INT, STR)), "(number| string)[]"),
        (list_of(list_of(ANY)), "any[][]"),
        (dict_of(STR, list_of(INT)), "{[key: string]: number[]}"),
    ],
)
def test_types_of_parts(type: Type, text: str) -> None:
    opening = TypeScript(Signature("f", (Parameter("x", type),), INT)).opening()
    assert opening == f"function f(x: {text}): number {{\n"


@pytest.mark.parametrize("type", [Type("many", (STR,)), union_of(STR, NONE), NONE, dict_of(BOOL, INT)])
def test_types_that_are_refused(type: Type) -> None:
    with pytest.raises(Untranslatable):
        TypeScript(Signature("f", (Parameter("x", list_of(type)),), INT)).opening()


def test_an_object_has_no_arrays_for_keys() -> None:
    with pytest.raises(Untranslatable):
        TypeScript(SIGNATURE).value({(1, 2): 3}, ANY)


@NEEDS_NODE
@settings(max_examples=8)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\\\"'`${}\r\n0"), max_size=8), min_size=10
    )
)
def test_node_reads_every_string_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    literals = TypeScript(SIGNATURE).value(texts, list_of(STR))
    program = f"for (const text of {literals}) console.log(Buffer.from(text).toString('hex'));"
    found = run(program, tmp_path_factory.mktemp("node"))
    assert found.stdout.decode().split("\n") == [*(text.encode().hex() for text in texts), ""]
