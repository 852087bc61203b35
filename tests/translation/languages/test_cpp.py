"""C++: texts worked out by hand, compiled and run by the real compiler where there is one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from codechoir.translation.errors import Untranslatable
from codechoir.translation.languages.cpp import Cpp
from codechoir.translation.problem import Assertion, Example, Parameter, PythonProblem, Signature
from codechoir.translation.types import (
    ANY,
    BOOL,
    FLOAT,
    INT,
    NONE,
    STR,
    Type,
    Value,
    dict_of,
    list_of,
    optional_of,
    tuple_of,
    union_of,
)

CASES: list[tuple[Value, Type, str]] = [
    (-3, INT, "(-3)"),
    (2, FLOAT, "(float(2))"),
    (0.5, FLOAT, "(0.5f)"),
    (True, BOOL, "(true)"),
    ('a"\n\\', STR, '("a\\"\\n\\\\")'),
    ([1, 2], list_of(INT), "(std::vector<long>({(long)1, (long)2}))"),
    ([], list_of(STR), "(std::vector<std::string>())"),
    ([[1], []], list_of(list_of(INT)),
     "(std::vector<std::vector<long>>({(std::vector<long>)std::vector<long>({(long)1}), "
     "(std::vector<long>)std::vector<long>()}))"),
    ([1, "a", {}], list_of(ANY), '(std::vector<std::any>({1, "a", std::map<long,long>()}))'),
    (("a", "b"), Type("many", (STR,)), '(std::vector<std::string>({(std::string)"a", (std::string)"b"}))'),
    ((1, "a"), tuple_of(INT, STR), '(std::make_tuple(1, "a"))'),
    ({"a": 1}, dict_of(STR, INT), '(std::map<std::string,long>({{"a", 1}}))'),
    ({}, dict_of(STR, list_of(INT)), "(std::map<std::string,std::vector<long>>())"),
    (None, optional_of(STR), "std::nullopt"),
    (1, optional_of(INT), "1"),
    ((None, 1), tuple_of(optional_of(INT), optional_of(INT)),
     "std::make_tuple(std::optional<long>(std::nullopt), std::optional<long>(1))"),
    ("a", union_of(STR, INT), '"a"'),
]  # fmt: skip


def signature(*types: Type, result: Type = BOOL) -> Signature:
    return Signature("pick", tuple(Parameter(f"x{place}", type) for place, type in enumerate(types)), result)


@pytest.mark.parametrize(("value", "type", "expected"), CASES)
def test_values(value: Value, type: Type, expected: str) -> None:
    assert Cpp(signature(type)).argument(value, type) == expected
    assert Cpp(signature(result=type)).expected(value) == expected


def test_a_prompt_and_its_tests() -> None:
    assertion = Assertion(([1], 2), 3)
    parameters = (Parameter("operator", list_of(INT)), Parameter("new", FLOAT))
    problem = PythonProblem(
        "one",
        Signature("strlen", parameters, INT),
        ("A list.\n\n   ", Example("strlen", assertion, "")),
        (assertion,),
    )
    target = Cpp(problem.signature)
    assert target.prompt(problem) == (
        "#include<assert.h>\n#include<bits/stdc++.h>\n// A vector.\n"
        "// >>> string_length((std::vector<long>({(long)1})), (float(2)))\n// (3)\n"
        "long string_length(std::vector<long> op, float new_) {\n"
    )
    assert target.tests(problem.assertions) == (
        "}\nint main() {\n    auto candidate = string_length;\n"
        "    assert(candidate((std::vector<long>({(long)1})), (float(2))) == (3));\n}\n"
    )


def test_a_union_is_declared_once() -> None:
    either = union_of(list_of(STR), INT)
    preamble = Cpp(signature(either, result=either)).preamble()
    assert preamble.count("union Union_std_vector_std_string__long{") == 1
    assert "    std::vector<std::string> f0;\n    long f1;" in preamble


def test_what_has_no_type() -> None:
    with pytest.raises(Untranslatable, match="None alone"):
        Cpp(signature(result=NONE)).opening()


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_a_real_compiler_agrees(tmp_path: Path) -> None:
    """A function that gives back each value in turn passes; one that gives another fails."""
    programs = []
    for place, (value, type, _) in enumerate(CASES):
        if type.kind != "union" and ANY not in type.items:
            target = Cpp(signature(type, result=type))
            prompt = f"{target.preamble() if not programs else ''}{target.opening()}".replace("pick", f"pick{place}")
            tests = target.tests([Assertion((value,), value)]).replace("pick", f"pick{place}")
            programs.append(f"{prompt}return x0;\n{tests.replace('main', f'main{place}')}")
    calls = "".join(f"main{program.split('main')[1].split('(')[0]}();" for program in programs)
    source = tmp_path / "all.cpp"
    source.write_text("\n".join(programs) + f"\nint main() {{ {calls} }}\n", encoding="utf-8")
    subprocess.run(["g++", "-std=c++17", "-o", str(tmp_path / "all"), str(source)], check=True)
    subprocess.run([str(tmp_path / "all")], check=True)
