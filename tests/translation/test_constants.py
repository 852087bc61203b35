"""Constants: against Python's own reading, and what is refused."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.translation.constants import constant
from codechoir.translation.errors import Untranslatable

NUMBERS = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(st.characters(exclude_categories=("Cs",)), max_size=5))
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(st.integers(), st.text("ab", max_size=3)), inner, max_size=3),
    ),
    max_leaves=8,
)


def read(text: str, **names: object) -> object:
    return constant(ast.parse(text, mode="eval").body, names)


@given(VALUES)
def test_what_python_writes_is_read(value: object) -> None:
    assert repr(read(repr(value))) == repr(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3 * 19 * 3", 171),
        ("0 ** 0", 1),
        ("-0", 0),
        ("--2", 2),
        ("7 // 2", 3),
        ("7 % 4", 3),
        ("1 / 4", 0.25),
        ("not 3", False),
        ("(1 + 2,)", (3,)),
        ("{'a': [1 - 2]}", {"a": [-1]}),
        ("'ab' + 'c' * 3", "abccc"),
        ("[0] * 3", [0, 0, 0]),
        ("str(12)", "12"),
        ("len([1, 2])", 2),
        ("list(range(2, 5))", [2, 3, 4]),
        ("sum([1, 2])", 3),
        ("tuple([1])", (1,)),
        ("round(2.5)", 2),
        ("sorted([3, 1])", [1, 3]),
        ("float(3)", 3.0),
        ("[i ** 2 for i in [1, 2, 3] if i % 2 == 1 and i > 1]", [9]),
        ("sum(i for i in range(4))", 6),
        ("[1 != 2, 1 < 2, 2 <= 1, 2 > 1, 1 >= 2]", [True, True, False, True, False]),
        ("[0 or 2 or 3, 1 and 0 and 2, 0 or False, 1 and 2]", [2, 0, False, 2]),
    ],
)
def test_arithmetic_is_done(text: str, value: object) -> None:
    assert repr(read(text)) == repr(value)


def test_names_that_have_a_value() -> None:
    assert read("[x, str(y)]", x=1, y=2) == [1, "2"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x", "x is no constant"),
        ("f(3)", "no constant"),
        ("random.randint(0, 3)", "no constant"),
        ("[i for i in range(2000)]", "no loop over a few"),
        ("[i for i, j in [(1, 2)]]", "no loop over a few"),
        ("[i for i in [1] for j in [1]]", "no constant"),
        ("1 < 2 < 3", "no constant"),
        ("1 or x", "no constant"),
        ("1 in [1]", "no constant"),
        ("{1, 2}", "no constant"),
        ("b'x'", "no constant"),
        ("1j", "no constant"),
        ("{**{}}", "no constant"),
        ("1 / 0", "has no value"),
        ("'a' + 1", "has no value"),
        ("{[]: 1}", "has no value"),
        ("int('x')", "has no value"),
        ("9 ** 9 ** 9", "too large"),
        ("10 ** 100000", "too large"),
        ("'a' * 10 ** 9", "too long"),
        ("[0] * 20000", "too long"),
        ("list(range(10 ** 12))", "too long"),
        ("'a' * 6000 + 'a' * 6000", "too long"),
        ("1e999", "has no literal"),
        ("float('nan')", "has no literal"),
        ("'\\ud800'", "surrogate"),
    ],
)
def test_what_is_no_constant(text: str, why: str) -> None:
    with pytest.raises(Untranslatable, match=why):
        read(text)


def test_a_name_hides_a_function() -> None:
    with pytest.raises(Untranslatable, match="no constant"):
        read("len([])", len=1)
