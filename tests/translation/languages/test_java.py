"""Java: texts worked out by hand, compiled and run by the real compiler where there is one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from codechoir.translation.errors import Untranslatable
from codechoir.translation.languages.java import Java, camel_case
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

JAVATUPLES = Path("/usr/share/java/javatuples.jar")
CASES: list[tuple[Value, Type, str]] = [
    (-3, INT, "(-3l)"),
    (2, FLOAT, "(float)2l"),
    (0.5, FLOAT, "(0.5f)"),
    (True, BOOL, "(true)"),
    ('a"\n\\', STR, '("a\\"\\n\\\\")'),
    ([1], list_of(INT), "(new ArrayList<Long>(Arrays.asList((long)1l)))"),
    ([0.5], list_of(FLOAT), "(new ArrayList<Float>(Arrays.asList((float)0.5f)))"),
    ([], list_of(STR), "(new ArrayList<String>(Arrays.asList()))"),
    ([[True]], list_of(list_of(BOOL)), "(new ArrayList<ArrayList<Boolean>>(Arrays.asList("
     "(ArrayList<Boolean>)new ArrayList<Boolean>(Arrays.asList((boolean)true)))))"),
    ([1, "a", {}], list_of(ANY), '(new ArrayList<Object>(Arrays.asList(1l, "a", new HashMap<Long,Long>(Map.of()))))'),
    (("a",), Type("many", (STR,)), '(new ArrayList<String>(Arrays.asList((String)"a")))'),
    ((1, "a"), tuple_of(INT, STR), '(Pair.with(1l, "a"))'),
    ({"a": 1}, dict_of(STR, INT), '(new HashMap<String,Long>(Map.of("a", 1l)))'),
    ({}, dict_of(STR, INT), "(new HashMap<String,Long>())"),
    (None, optional_of(STR), "Optional.empty()"),
    (1, optional_of(INT), "Optional.of(1l)"),
    ((None, 1), tuple_of(optional_of(INT), optional_of(INT)), "Pair.with(Optional.empty(), Optional.of(1l))"),
]  # fmt: skip


def signature(*types: Type, result: Type = BOOL) -> Signature:
    return Signature("pick", tuple(Parameter(f"x{place}", type) for place, type in enumerate(types)), result)


@pytest.mark.parametrize(("value", "type", "expected"), CASES)
def test_values(value: Value, type: Type, expected: str) -> None:
    assert Java(signature(type)).argument(value, type) == expected
    assert Java(signature(result=type)).expected(value) == expected


@pytest.mark.parametrize(
    ("name", "expected"), [("has_two_words", "hasTwoWords"), ("f", "f"), ("minPath", "minPath"), ("throws", "throws_")]
)
def test_names(name: str, expected: str) -> None:
    assert camel_case(name) == expected


def test_a_prompt_and_its_tests() -> None:
    assertion = Assertion(([1], 2), "a")
    parameters = (Parameter("some_list", list_of(INT)), Parameter("new", FLOAT))
    problem = PythonProblem(
        "one",
        Signature("first_of", parameters, STR),
        ("A dictionary.\n\n   ", Example("first_of", assertion, "")),
        (assertion,),
    )
    target = Java(problem.signature)
    prompt = target.prompt(problem)
    assert prompt.startswith("import java.util.*;\nimport java.lang.reflect.*;\nimport org.javatuples.*;\n")
    assert prompt.endswith(
        "class Problem {\n    // A hash map.\n"
        "    // >>> firstOf((new ArrayList<Long>(Arrays.asList((long)1l))), (float)2l)\n"
        '    // ("a")\n'
        "    public static String firstOf(ArrayList<Long> some_list, float new_) {\n"
    )
    assert target.tests(problem.assertions) == (
        "    }\n    public static void main(String[] args) {\n"
        '    assert(firstOf((new ArrayList<Long>(Arrays.asList((long)1l))), (float)2l).equals(("a")));\n'
        "    }\n\n}\n"
    )


def test_primitive_results_are_compared_with_two_equals_signs() -> None:
    assert Java(signature(result=INT)).assertion("f()", "(1l)") == "    assert(f() == (1l));"


def test_what_has_no_type() -> None:
    with pytest.raises(Untranslatable, match="union"):
        Java(signature(union_of(STR, INT))).opening()


@pytest.mark.skipif(
    shutil.which("javac") is None or not JAVATUPLES.exists(), reason="javac or javatuples is not installed"
)
def test_a_real_compiler_agrees(tmp_path: Path) -> None:
    """A function that gives back each value in turn passes."""
    classes = []
    for place, (value, type, _) in enumerate(CASES):
        target = Java(signature(type, result=type))
        imports, start, rest = target.preamble().partition("class Problem")
        program = f"{start}{place}{rest}{target.opening()}return x0;\n{target.tests([Assertion((value,), value)])}"
        classes.append(program if classes else imports + program)
    calls = "".join(f"Problem{place}.main(args);" for place in range(len(classes)))
    classes.append(f"class All {{ public static void main(String[] args) {{ {calls} }} }}")
    (tmp_path / "All.java").write_text("\n".join(classes), encoding="utf-8")
    path = f"{JAVATUPLES}:{tmp_path}"
    subprocess.run(["javac", "-nowarn", "-cp", path, "-d", str(tmp_path), str(tmp_path / "All.java")], check=True)
    subprocess.run(["java", "-ea", "-cp", path, "All"], check=True)
