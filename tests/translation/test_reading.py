"""Rows of Python problems, taken apart."""

from __future__ import annotations

import pytest

from codechoir.errors import InputError
from codechoir.translation.errors import Untranslatable
from codechoir.translation.problem import Assertion, Example, Parameter, PythonProblem, Signature
from codechoir.translation.reading import read_problem, row_of
from codechoir.translation.types import FLOAT, INT, STR, dict_of, list_of, optional_of

PROMPT = '''from typing import List


def helper(x):
    """Not this one."""
    return x


def largest(numbers: List[float], key=None):
    """ The largest.
    >>> largest([1, 2], 'a')
    'b'
    """
'''
TESTS = """
METADATA = {"author": "me"}


def check(candidate):
    assert candidate([1, 2.5], "a") == "b"
    assert candidate([], "a") is None, "nothing"
    assert candidate(3, "a") == "b"
    assert candidate([random()], "a") == "b"
"""
HUMAN_EVAL = {"task_id": "Own/7", "entry_point": "largest", "prompt": PROMPT, "test": TESTS, "canonical_solution": ""}


def test_a_row_as_humaneval_has_it() -> None:
    assert read_problem(row_of(HUMAN_EVAL, "here")) == PythonProblem(
        name="Own_7_largest",
        signature=Signature("largest", (Parameter("numbers", list_of(FLOAT)), Parameter("key", STR)), optional_of(STR)),
        description=(
            " The largest.\n",
            Example("largest", Assertion(([1.0, 2.0], "a"), "b"), "    >>> largest([1, 2], 'a')\n    'b'\n"),
            "    ",
        ),
        assertions=(Assertion(([1.0, 2.5], "a"), "b"), Assertion(([], "a"), None)),
        left_out=("random() is no constant", "3 is no list"),
    )


def test_a_row_as_multipl_e_has_it() -> None:
    row = {
        "name": "Own_7_largest",
        "language": "py",
        "prompt": PROMPT,
        "tests": f"{TESTS}\ndef test_check():\n    pass\n",
    }
    assert read_problem(row_of(row, "here")) == read_problem(row_of(HUMAN_EVAL, "here"))


def test_a_docstring_below_an_import_and_none() -> None:
    def description(body: str) -> tuple[str | Example, ...]:
        row = {**HUMAN_EVAL, "prompt": f"def largest(a, b):\n{body}"}
        return read_problem(row_of(row, "here")).description

    assert description('    import math\n    """ Late. """') == (" Late. ",)
    assert description("    # nothing said\n") == ()


def test_aliases_and_examples_that_do_not_fit() -> None:
    prompt = 'Stock = Dict[str, int]\n\ndef largest(a: Stock) -> int:\n    """\n    largest([1]) == 2\n    """\n'
    tests = "def check(f):\n    assert f({'a': 1}) == 2\n"
    found = read_problem(row_of({**HUMAN_EVAL, "prompt": prompt, "test": tests}, "here"))
    assert found.signature == Signature("largest", (Parameter("a", dict_of(STR, INT)),), INT)
    assert found.description == ("\n", "    largest([1]) == 2\n", "    ")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"prompt": "def largest(:\n"}, "the prompt cannot be read as Python"),
        ({"prompt": "def smallest(x):\n"}, "no function largest"),
        ({"prompt": "def largest(*x):\n"}, "not fixed"),
        ({"prompt": "def largest(x: Callable) -> int:\n"}, "type Callable"),
        ({"test": "def check(:\n"}, "the tests cannot be read as Python"),
        ({"test": "assert largest([1], 'a') == 1"}, "no function of the candidate"),
        ({"test": "def check(candidate):\n    pass"}, "they assert nothing"),
        ({"test": "def check(candidate):\n    assert candidate(f()) == 1"}, r"hindrance: f\(\) is no constant"),
        ({"test": "def check(candidate):\n    assert candidate([], 1, 2, 3) == 1"}, "more arguments"),
    ],
)
def test_why_a_problem_cannot_be_read(change: dict[str, str], why: str) -> None:
    with pytest.raises(Untranslatable, match=why):
        read_problem(row_of({**HUMAN_EVAL, **change}, "here"))


@pytest.mark.parametrize(
    ("row", "seen"),
    [
        ([], "here: name, entry_point, prompt, tests"),
        ({**HUMAN_EVAL, "prompt": 3}, "here: prompt"),
        ({"task_id": "Own/7", "prompt": "", "test": ""}, "here: name, entry_point"),
        ({"name": "Own", "prompt": "", "tests": ""}, "here: entry_point"),
    ],
)
def test_a_row_that_is_no_problem(row: object, seen: str) -> None:
    with pytest.raises(InputError, match="lacks a field") as refused:
        row_of(row, "here")
    assert refused.value.seen == seen
