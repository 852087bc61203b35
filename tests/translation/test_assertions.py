"""Tests read as assertions: each form, and the reason where there is none."""

from __future__ import annotations

import ast

import pytest

from codechoir.translation.assertions import Reader
from codechoir.translation.problem import Assertion


def read(text: str) -> Reader:
    reader = Reader("candidate", "twice", ("x", "y"))
    reader.read(ast.parse(text).body)
    return reader


@pytest.mark.parametrize(
    ("text", "arguments", "expected"),
    [
        ("assert candidate(1) == 2", (1,), 2),
        ("assert candidate(1) == 2, 'a message'", (1,), 2),
        ("assert 2 == candidate(1)", (1,), 2),
        ("assert (candidate(3 * 19) == 'a' + 'b')", (57,), "ab"),
        ("assert candidate(1) is None", (1,), None),
        ("assert candidate(1) is True", (1,), True),
        ("assert candidate('a')", ("a",), True),
        ("assert not candidate('a', -1)", ("a", -1), False),
        ("assert tuple(candidate([1])) == tuple([2])", ([1],), [2]),
        ("assert list(candidate([1])) == [2]", ([1],), [2]),
        ("assert candidate(y=2, x=1) == 3", (1, 2), 3),
        ("assert abs(candidate(3.5) - 0.5) < 1e-6", (3.5,), 0.5),
        ("assert abs(candidate([1, {2: 0.5}]) - 3) <= 1e-6", ([1, {2: 0.5}],), 3),
        ("a, b = 1, [2]\nassert candidate(a) == b", (1,), [2]),
    ],
)
def test_forms_of_an_assertion(text: str, arguments: tuple[object, ...], expected: object) -> None:
    reader = read(text)
    assert reader.assertions == [Assertion(arguments, expected)]
    assert repr(reader.assertions[0].expected) == repr(expected)  # True is not 1
    assert reader.left_out == []


@pytest.mark.parametrize(
    "text",
    [
        "assert True, 'edge cases'",
        "assert 1",
        "'''a remark'''",
        "print",
        "print(candidate(1))",
        "import random",
        "pass",
    ],
)
def test_what_asserts_nothing(text: str) -> None:
    reader = read(text)
    assert (reader.assertions, reader.left_out) == ([], [])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("assert candidate(random.randint(0, 9)) == 1", "no constant"),
        ("assert candidate(1) == twice(1)", "compared with itself"),
        ("assert candidate(1) == candidate(1)", "compared with itself"),
        ("assert candidate(candidate(1)) == 1", "no constant"),
        ("assert candidate(1) + 1 == 2", "no plain call"),
        ("assert candidate(z=1) == 2", "no plain call"),
        ("assert abs(candidate(1.33) - 0.33) < 1e-6", "up to rounding"),
        ("assert abs(candidate(1) - 1e300) < 1e-6", "up to rounding"),
        ("assert abs(3 - candidate(1)) < 1e-6", "up to rounding"),
        ("assert candidate(1) < 3", "no comparison with a value|no plain call"),
        ("assert candidate(1) == 1 and candidate(2) == 2", "no comparison|no plain call"),
        ("with open('x'): pass", "do more than assert"),
        ("for i in range(10 ** 6): assert candidate(i) == i", "too many rounds|too long"),
        ("x.y = 3", "form that is not translated"),
    ],
)
def test_what_cannot_be_expressed(text: str, why: str) -> None:
    reader = read(text)
    assert reader.assertions == []
    assert len(reader.left_out) == 1
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(reader.left_out[0])


def test_loops_are_unrolled() -> None:
    reader = read("for x in range(2, 4):\n    for a, b in [(1, 2)]:\n        assert candidate(x, a) == str(x + b)")
    assert reader.assertions == [Assertion((2, 1), "4"), Assertion((3, 1), "5")]


def test_one_statement_does_not_hinder_the_next() -> None:
    reader = read("assert candidate(1) == 1\nassert candidate(f()) == 1\nassert candidate(2) == 2")
    assert [each.arguments for each in reader.assertions] == [(1,), (2,)]
    assert len(reader.left_out) == 1


@pytest.mark.parametrize(
    "change",
    ["x = f()", "x.append(2)", "x += [2]", "y = x\ny.append(2)", "for i in f(): x = 3", "if f(): x = 3", "del x"],
)
def test_a_name_that_may_have_changed_is_forgotten(change: str) -> None:
    reader = read(f"x = [1]\nassert candidate(x) == 1\n{change}\nassert candidate(x) == 1")
    assert reader.assertions == [Assertion(([1],), 1)]
    assert reader.left_out[-1] == "x is no constant"
