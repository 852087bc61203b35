"""JavaScript: texts worked out by hand; literals against JSON, programs run by node where it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.translation.errors import Untranslatable
from codechoir.translation.languages.javascript import JavaScript
from codechoir.translation.problem import Assertion, Example, Parameter, PythonProblem, Signature
from codechoir.translation.types import ANY, INT, STR, dict_of, list_of, optional_of

SIGNATURE = Signature("pick_one", (Parameter("stock", dict_of(STR, INT)), Parameter("new", STR)), optional_of(INT))
ASSERTION = Assertion(({'it"s': 3}, 'it"s'), 3)
PROBLEM = PythonProblem(
    "one",
    SIGNATURE,
    ("What a dictionary has, or None.\n\n    ", Example("pick_one", ASSERTION, "")),
    (ASSERTION, Assertion(({}, "\n"), None)),
)
PROMPT = """\
//What a object has, or undefined.
// >>> pick_one({"it\\"s": 3}, "it\\"s")
// 3
function pick_one(stock, new_){
"""
TESTS = """\
const assert = require('node:assert');


function test() {
  let candidate = pick_one;
  assert.deepEqual(candidate({"it\\"s": 3}, "it\\"s"),3);
  assert.deepEqual(candidate({}, "\\n"),undefined);
}

test();"""
LEAVES = st.one_of(
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=4),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("a\"\\\n'", max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


def test_a_prompt_and_its_tests() -> None:
    target = JavaScript(SIGNATURE)
    assert target.prompt(PROBLEM) == PROMPT.replace("a object", "an object")
    assert target.tests(PROBLEM.assertions) == TESTS


@given(VALUES)
def test_values_without_none_are_json(value: object) -> None:
    assert json.loads(JavaScript(SIGNATURE).value(value, ANY)) == value


def test_keys_of_objects() -> None:
    assert JavaScript(SIGNATURE).value({-1: 2, 3: 4}, ANY) == "{[-1]: 2, 3: 4}"
    with pytest.raises(Untranslatable, match="keys"):
        JavaScript(SIGNATURE).value({(1, 2): 3}, ANY)


def test_tuples_are_arrays() -> None:
    assert JavaScript(SIGNATURE).value((1, None, [2.5]), list_of(ANY)) == "[1, undefined, [2.5]]"


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.parametrize(("body", "passes"), [("return stock[new_];\n", True), ("return 3;\n", False)])
def test_a_real_interpreter_agrees(tmp_path: Path, body: str, passes: bool) -> None:
    target = JavaScript(SIGNATURE)
    program = tmp_path / "program.js"
    program.write_text(f"{target.prompt(PROBLEM)}{body}}}\n{target.tests(PROBLEM.assertions)}", encoding="utf-8")
    done = subprocess.run(["node", str(program)], capture_output=True, check=False)
    assert (done.returncode == 0) is passes, done.stderr
