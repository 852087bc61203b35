"""C#: texts worked out by hand, and judged by a real compiler where one is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from codechoir.translation.errors import Untranslatable
from codechoir.translation.languages.csharp import CSharp
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

SIGNATURE = Signature(
    "tally_all",
    (Parameter("string", list_of(STR)), Parameter("lock", FLOAT), Parameter("base", dict_of(STR, INT))),
    list_of(tuple_of(INT, BOOL)),
)
EXAMPLE = Assertion((['a"\\\n'], -1, {"x": 2}), [(1, True)])
PROBLEM = PythonProblem(
    "Own_1_tally_all",
    SIGNATURE,
    ("\n    A dictionary of\n    a list, or None.\n\n", Example("tally_all", EXAMPLE, "tally_all(...)")),
    (EXAMPLE, Assertion(([], 0.5, {}), [])),
)
PROMPT = r"""using System;
using System.Numerics;
using System.Diagnostics;
using System.Collections.Generic;
using System.Linq;
using System.Text;
using System.Security.Cryptography;
class Problem {
    // A dictionary of
    // a list, or null.
    // >>> TallyAll((new List<string>(new string[]{(string)"a\"\\\n"})), (float)-1L, (new Dictionary<string,long>(){{"x", 2L}}))
    // (new List<Tuple<long, bool>>(new Tuple<long, bool>[]{(Tuple<long, bool>)Tuple.Create(1L, true)}))
    public static List<Tuple<long, bool>> TallyAll(List<string> str, float @lock, Dictionary<string,long> numBase) {
"""  # noqa: E501
TESTS = [
    "    }",
    "    public static void Main(string[] args) {",
    '    Debug.Assert(TallyAll((new List<string>(new string[]{(string)"a\\"\\\\\\n"})), (float)-1L, '
    '(new Dictionary<string,long>(){{"x", 2L}})).Equals((new List<Tuple<long, bool>>(new Tuple<long, bool>[]'
    "{(Tuple<long, bool>)Tuple.Create(1L, true)}))));",
    "    Debug.Assert(TallyAll((new List<string>()), (0.5f), (new Dictionary<string,long>()))"
    ".Equals((new List<Tuple<long, bool>>())));",
    "    }",
    "",
    "}",
]


def test_the_prompt() -> None:
    assert CSharp(SIGNATURE).prompt(PROBLEM) == PROMPT


def test_the_tests() -> None:
    assert CSharp(SIGNATURE).tests(PROBLEM.assertions).splitlines() == TESTS


@pytest.mark.parametrize(
    ("value", "type", "text"),
    [
        (2, INT, "(2L)"),
        (True, BOOL, "(true)"),
        (2, FLOAT, "(float)2L"),
        (2, optional_of(INT), "2L"),
        (None, optional_of(INT), "null"),
        ("x", optional_of(STR), '("x")'),
        (None, optional_of(STR), "null"),
        ((1, 2), Type("many", (FLOAT,)), "(new List<float>(new float[]{(float)1L, (float)2L}))"),
        ((None, -1), tuple_of(*[optional_of(INT)] * 2), "Tuple.Create((Nullable<long>)null, (Nullable<long>)(-1L))"),
        (
            [1, "a", [], {}],
            list_of(ANY),
            '(new List<object>(new object[]{1L, "a", new List<long>(), new Dictionary<long,long>()}))',
        ),
    ],
)
def test_what_a_call_is_given(value: Value, type: Type, text: str) -> None:
    assert CSharp(SIGNATURE).argument(value, type) == text


def test_numbers_and_truths_are_compared_by_an_operator() -> None:
    assert CSharp(Signature("f", (), FLOAT)).assertion("F()", "(0.5f)") == "    Debug.Assert(F() == (0.5f));"


def test_what_csharp_has_no_type_for_is_refused() -> None:
    with pytest.raises(Untranslatable):
        CSharp(Signature("f", (), union_of(INT, STR))).opening()


@pytest.mark.skipif(shutil.which("mcs") is None or shutil.which("mono") is None, reason="no C# compiler")
@pytest.mark.parametrize(("answer", "passes"), [("0.5f", True), ("0.25f", False)])
def test_the_compiler_takes_it_and_tells_right_from_wrong(tmp_path: Path, answer: str, passes: bool) -> None:
    pair = tuple_of(optional_of(INT), optional_of(STR))
    parameters = (Parameter("decimal", list_of(ANY)), Parameter("operator", pair), Parameter("x", optional_of(FLOAT)))
    signature = Signature("mean_of", parameters, FLOAT)
    assertions = (Assertion(([1, "é", {}], (None, "a"), 1.5), 0.5), Assertion(([], (-1, None), None), 0.5))
    problem = PythonProblem("Own_2_mean_of", signature, ("Mean.",), assertions)
    body = f"        if (decimalNum.Count == 3 && op.Item2 != null && x == 1.5f) return {answer};\n        return 0.5f;"
    program = f"{CSharp(signature).prompt(problem)}{body}\n{CSharp(signature).tests(assertions)}"
    (tmp_path / "own.cs").write_text(program)
    subprocess.run(["mcs", "-d:DEBUG", "-warn:0", "own.cs"], cwd=tmp_path, check=True, capture_output=True)
    environment = {"PATH": "/usr/bin:/bin", "MONO_TRACE_LISTENER": "Console.Error"}
    ran = subprocess.run(["mono", "own.exe"], cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert (b"Fail" not in ran.stderr) == passes
