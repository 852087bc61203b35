"""Literals: read back by JSON's reader, whose texts have the same escapes, and by Python's for numbers."""

from __future__ import annotations

import ast
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.translation.errors import Untranslatable
from codechoir.translation.languages.literals import LINES_KEPT, no_type, number, quoted, words
from codechoir.translation.types import ANY, INT, Type, optional_of

WHOLE = st.characters(exclude_categories=["Cs"])


@given(st.text(WHOLE))
def test_a_text_is_read_back(text: str) -> None:
    assert json.loads(quoted(text)) == text


@given(st.text(WHOLE))
def test_a_text_that_keeps_its_lines_differs_in_nothing_else(text: str) -> None:
    assert json.loads(quoted(text, LINES_KEPT), strict=False) == text


def test_other_forms_of_control_characters() -> None:
    assert quoted("\x07\x7f é", control=r"\u{{{:x}}}") == r'"\u{7}\u{7f} é"'


def test_half_of_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(Untranslatable):
        quoted("a\ud800")


@given(st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_read_back(value: int | float) -> None:
    read = ast.literal_eval(number(value))
    assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize("value", [2**63, -(2**63), math.inf, -math.inf, math.nan])
def test_a_number_that_needs_more_than_a_literal_is_refused(value: int | float) -> None:
    with pytest.raises(Untranslatable):
        number(value)


def test_words() -> None:
    assert words(" let  mut\nfn ") == {"let", "mut", "fn"}


@pytest.mark.parametrize(
    ("type", "said"),
    [(ANY, "values of any type"), (optional_of(INT), "optionals"), (Type("many", (INT,)), "tuples of any length")],
)
def test_what_has_no_type_is_said_in_words(type: Type, said: str) -> None:
    assert no_type("Cobol", type).reason == f"Cobol has no type for {said}"
