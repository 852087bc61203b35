"""What every target language inherits, and the language that docs/translate.md adds."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from codechoir.translation.errors import Untranslatable
from codechoir.translation.problem import Assertion, Example, Parameter, PythonProblem, Signature
from codechoir.translation.reading import read_problem, row_of
from codechoir.translation.target import Target, Terms
from codechoir.translation.types import ANY, FLOAT, INT, STR, Type, Value, dict_of, list_of, optional_of, tuple_of

DOCUMENT = (Path(__file__).parents[2] / "docs" / "translate.md").read_text(encoding="utf-8")
TERMS = Terms(array="vector", list="ordered set", tuple="", dictionary="map", none="null")


class Plain(Target):
    """A language made for these tests: it shows each value's expected type."""

    language = "sql"
    terms = TERMS
    comment = "-- "
    comment_first = "--"

    def opening(self) -> str:
        return f"{self.signature.name}:\n"

    def before_tests(self) -> Sequence[str]:
        return ("begin",)

    def after_tests(self) -> Sequence[str]:
        return ("end",)

    def assertion(self, call: str, expected: str) -> str:
        return f"{call} is {expected}"

    def literal(self, value: bool | int | float | str | None, type: Type) -> str:
        if value == "?":
            raise Untranslatable("no question marks")
        return f"{value}:{type.kind}"

    def list_of(self, items: Sequence[str], type: Type) -> str:
        return f"[{' '.join(items)}]:{type.kind}"

    def dict_of(self, pairs: Sequence[tuple[str, str]], type: Type) -> str:
        return f"{{{' '.join(f'{key}={value}' for key, value in pairs)}}}:{type.kind}"


def signature(*types: Type, result: Type = INT) -> Signature:
    return Signature("sort_list", tuple(Parameter(f"x{place}", type) for place, type in enumerate(types)), result)


@pytest.mark.parametrize(
    ("value", "type", "expected"),
    [
        (1, FLOAT, "1:float"),
        ([1.0], list_of(FLOAT), "[1.0:float]:list"),
        ([1, "a"], list_of(ANY), "[1:any a:any]:list"),
        ([1], ANY, "[1:any]:any"),
        ((1, "a"), tuple_of(INT, STR), "[1:int a:str]:tuple"),
        ((1,), Type("many", (INT,)), "[1:int]:many"),
        ((1, 2), ANY, "[1:any 2:any]:any"),
        ({"a": [1]}, dict_of(STR, list_of(INT)), "{a:str=[1:int]:list}:dict"),
        ({"a": 1}, ANY, "{a:any=1:any}:any"),
        (None, optional_of(INT), "None:optional"),
        (1, optional_of(INT), "1:int"),
    ],
)
def test_values_come_with_the_type_expected_of_them(value: Value, type: Type, expected: str) -> None:
    assert Plain(signature(type)).argument(value, type) == expected
    assert Plain(signature(result=type)).expected(value) == expected


def test_a_prompt_and_its_tests() -> None:
    assertion = Assertion(([1],), 2)
    problem = PythonProblem(
        "one",
        signature(list_of(INT)),
        (
            "\n   Sort an array of Python.\n\n   See sort_list.\n",
            Example("other", assertion, "other([1]) == 2\n"),
            "  A tuple.\n ",
        ),
        (assertion, Assertion(([],), 3)),
    )
    target = Plain(problem.signature)
    assert target.prompt(problem) == (
        "--Sort a vector of SQL.\n-- See sort_list.\n-- >>> other([1:int]:list)\n-- 2:int\n-- A tuple.\nsort_list:\n"
    )
    assert (
        target.tests(problem.assertions) == "begin\ncandidate([1:int]:list) is 2:int\ncandidate([]:list) is 3:int\nend"
    )


def test_one_value_that_cannot_be_said_takes_all_tests_with_it() -> None:
    with pytest.raises(Untranslatable, match="no question marks"):
        Plain(signature(STR)).tests([Assertion(("a",), 1), Assertion(("?",), 1)])


def test_too_many_arguments() -> None:
    with pytest.raises(Untranslatable, match="more arguments"):
        Plain(signature(INT)).call("candidate", [1, 2])


@pytest.mark.parametrize(
    ("prose", "expected"),
    [
        ("a list of a dictionary", "an ordered set of a map"),
        ("an array of an array", "a vector of a vector"),
        ("lists, None or True", "ordered sets, null or true"),
        ("a tuple is False", "a tuple is false"),
        ("nothing to say", "nothing to say"),
    ],
)
def test_prose_is_reworded(prose: str, expected: str) -> None:
    assert TERMS.reword(prose) == expected


def test_terms_are_replaced_one_by_one_as_multipl_e_does() -> None:
    java = Terms(array="array list", list="array list", tuple="pair", dictionary="hash map", none="null")
    assert java.reword("an array, a list") == "an array array list, an array array list"


def documented(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.M | re.S)


def test_the_documented_language_works_as_documented(tmp_path: Path) -> None:
    code, problem = documented("python")
    (expected,) = documented("tcl")
    (tmp_path / "tcl.py").write_text(code, encoding="utf-8")
    target: type[Target] = runpy.run_path(str(tmp_path / "tcl.py"))["Tcl"]
    prompt, tests = problem.split("\n\n\n")
    row = {"task_id": "Own/0", "entry_point": "longest", "prompt": prompt, "test": tests}
    found = read_problem(row_of(row, "here"))
    translator = target(found.signature)
    assert translator.prompt(found) + translator.tests(found.assertions) + "\n" == expected
    assert len(code.splitlines()) <= 60


@pytest.mark.skipif(shutil.which("tclsh") is None, reason="tclsh is not installed")
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (
            "return [lindex [lsort -command {apply {{a b} {expr {"
            "[string length $b] - [string length $a]}}}} $words] 0]",
            0,
        ),
        ('return "a"', 1),
    ],
)
def test_the_documented_program_runs(tmp_path: Path, body: str, code: int) -> None:
    (program,) = documented("tcl")
    opening = "proc longest {words} {\n"
    assert opening in program
    (tmp_path / "longest.tcl").write_text(program.replace(opening, opening + body + "\n"), encoding="utf-8")
    done = subprocess.run(["tclsh", str(tmp_path / "longest.tcl")], capture_output=True, check=False)
    assert done.returncode == code, done.stderr
