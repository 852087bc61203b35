"""Types from values, and values that agree with their types."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.translation.errors import Untranslatable
from codechoir.translation.inference import inferred, settled
from codechoir.translation.problem import Assertion, Parameter, Signature
from codechoir.translation.types import (
    ANY,
    BOOL,
    FLOAT,
    INT,
    STR,
    UNKNOWN,
    Type,
    dict_of,
    list_of,
    optional_of,
    tuple_of,
    union_of,
)


def signature(argument: Type = UNKNOWN, result: Type = UNKNOWN) -> Signature:
    return Signature("f", (Parameter("x", argument),), result)


def assertions(*pairs: tuple[object, object]) -> list[Assertion]:
    return [Assertion((argument,), expected) for argument, expected in pairs]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2], INT),
        ([1, 2.5], FLOAT),
        ([[1], []], list_of(INT)),
        ([[], []], list_of(INT)),
        ([], INT),
        (["a", None], optional_of(STR)),
        (["a", 1], union_of(STR, INT)),
        (["a", []], STR),
        ([[1, 2.0], [3]], list_of(INT)),
        ([[1.0, 2], [0.5]], list_of(FLOAT)),
        ([{"a": 1, 5: 2}], dict_of(STR, INT)),
        ([("a", True), ("b", False)], tuple_of(STR, BOOL)),
        ([("a",), ()], Type("many", (STR,))),
    ],
)
def test_what_values_show(values: list[object], expected: Type) -> None:
    found = inferred(signature(), assertions(*((value, 0) for value in values)), [])
    assert found == Signature("f", (Parameter("x", expected),), INT)
    assert inferred(signature(INT), assertions(*((1, value) for value in values)), []).result == expected


def test_an_annotation_stands_and_its_gaps_are_filled() -> None:
    known = assertions(([1], 2), ([3], 4))
    assert inferred(signature(list_of(FLOAT), FLOAT), known, []) == signature(list_of(FLOAT), FLOAT)
    assert inferred(signature(list_of(UNKNOWN), ANY), known, []) == signature(list_of(INT), ANY)
    bare_tuple = Type("many", (UNKNOWN,))
    assert inferred(signature(bare_tuple, INT), assertions(((1, "a"), 0)), []) == signature(tuple_of(INT, STR), INT)


def test_examples_tell_what_assertions_do_not() -> None:
    told = inferred(signature(), assertions(([], 1)), assertions((["a"], "x")))
    assert told == signature(list_of(STR), INT)


@pytest.mark.parametrize(
    ("type", "value", "expected"),
    [
        (FLOAT, 1, 1),
        (INT, 16.0, 16),
        (list_of(FLOAT), [1, 2.5], [1.0, 2.5]),
        (list_of(INT), [1, 2.0], [1, 2]),
        (list_of(list_of(FLOAT)), [[1], []], [[1.0], []]),
        (list_of(INT), (1, 2), [1, 2]),
        (tuple_of(INT, FLOAT), [1, 2], (1, 2.0)),
        (Type("many", (INT,)), [1], (1,)),
        (dict_of(STR, INT), {"a": 1, 5: 2}, {"a": 1, "5": 2}),
        (dict_of(STR, list_of(FLOAT)), {"a": [1]}, {"a": [1.0]}),
        (optional_of(list_of(FLOAT)), None, None),
        (optional_of(list_of(FLOAT)), [1], [1.0]),
        (union_of(FLOAT, STR), "a", "a"),
        (union_of(FLOAT, INT), 1, 1),
        (union_of(STR, list_of(FLOAT)), [1], [1.0]),
        (list_of(ANY), [1, "a", 2.5, {}], [1, "a", 2.5, {}]),
        (list_of(optional_of(FLOAT)), [None, 1], [None, 1.0]),
    ],
)
def test_values_are_settled(type: Type, value: object, expected: object) -> None:
    found = settled(signature(type, type), Assertion((value,), value))
    assert repr(found) == repr(Assertion((expected,), expected))


@pytest.mark.parametrize(
    ("type", "value"),
    [
        (INT, 2.5),
        (INT, "a"),
        (INT, True),
        (BOOL, 1),
        (STR, []),
        (STR, None),
        (list_of(INT), 1),
        (list_of(INT), ["a"]),
        (list_of(FLOAT), [True]),
        (tuple_of(INT), (1, 2)),
        (dict_of(STR, INT), [1]),
        (union_of(INT, STR), [1]),
        (optional_of(INT), "a"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(type: Type, value: object) -> None:
    with pytest.raises(Untranslatable, match=r"is no|is none"):
        settled(signature(type, INT), Assertion((value,), 0))


def test_too_many_arguments_are_refused() -> None:
    with pytest.raises(Untranslatable, match="more arguments"):
        settled(signature(INT, INT), Assertion((1, 2), 0))


LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.floats(-2, 2), st.text("ab", max_size=2))
NESTED = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text("ab", max_size=2), inner, max_size=2)),
    max_leaves=6,
)


@given(st.lists(NESTED, min_size=1, max_size=4))
def test_what_types_are_inferred_from_fits_them(values: list[object]) -> None:
    known = assertions(*((value, value) for value in values))
    found = inferred(signature(), known, [])
    for each in known:
        try:
            fitting = settled(found, each)
        except Untranslatable:
            assert each.arguments[0] == []  # an empty list among other kinds says nothing, and so may not fit
            continue
        assert fitting.arguments[0] == each.arguments[0]  # the same value, though perhaps 1.0 for 1
