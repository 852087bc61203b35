"""Types read from annotations and values, and joined."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.translation.errors import Untranslatable
from codechoir.translation.types import (
    ANY,
    BOOL,
    FLOAT,
    INT,
    NONE,
    STR,
    UNKNOWN,
    Type,
    dict_of,
    join,
    known,
    list_of,
    optional_of,
    tuple_of,
    type_of_annotation,
    type_of_value,
    union_of,
)

ATOMS = st.sampled_from([INT, FLOAT, BOOL, STR, NONE, UNKNOWN])
TYPES = st.recursive(ATOMS, lambda inner: st.one_of(inner.map(list_of), st.builds(dict_of, inner, inner)), max_leaves=5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int", INT),
        ("None", NONE),
        ("'str'", STR),
        ("List[int]", list_of(INT)),
        ("list[typing.List[float]]", list_of(list_of(FLOAT))),
        ("list", list_of(UNKNOWN)),
        ("dict", dict_of(UNKNOWN, UNKNOWN)),
        ("tuple", Type("many", (UNKNOWN,))),
        ("Dict[str, List[bool]]", dict_of(STR, list_of(BOOL))),
        ("Tuple[int, str]", tuple_of(INT, STR)),
        ("Tuple[int]", tuple_of(INT)),
        ("Tuple[str, ...]", Type("many", (STR,))),
        ("typing.Optional[str]", optional_of(STR)),
        ("Union[str, None]", optional_of(STR)),
        ("Union[int, float, str, None]", union_of(INT, FLOAT, STR, NONE)),
        ("int | str", union_of(INT, STR)),
        ("int | None", optional_of(INT)),
        ("List[Any]", list_of(ANY)),
        ("Row", list_of(INT)),
    ],
)
def test_annotations(text: str, expected: Type) -> None:
    aliases = {"Row": ast.parse("List[int]", mode="eval").body}
    assert type_of_annotation(ast.parse(text, mode="eval").body, aliases) == expected


def test_no_annotation_says_nothing() -> None:
    assert type_of_annotation(None) == UNKNOWN


@pytest.mark.parametrize("text", ["Callable[[int], int]", "np.ndarray", "Set[int]", "Dict[str]", "3", "Row"])
def test_types_outside_the_algebra_are_refused(text: str) -> None:
    aliases = {"Row": ast.parse("Row", mode="eval").body}  # an alias of itself ends, too
    with pytest.raises(Untranslatable, match="not one of those that are translated"):
        type_of_annotation(ast.parse(text, mode="eval").body, aliases)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, BOOL),
        (1, INT),
        (1.0, FLOAT),
        (None, NONE),
        ([], list_of(UNKNOWN)),
        ([1, 2.5], list_of(FLOAT)),
        ([1, "a"], list_of(ANY)),
        ([None, "a"], list_of(optional_of(STR))),
        ([[], [1]], list_of(list_of(INT))),
        ((1, "a"), tuple_of(INT, STR)),
        ([(0, 1), (2, None)], list_of(tuple_of(INT, optional_of(INT)))),
        ({"a": 1}, dict_of(STR, INT)),
        ({}, dict_of(UNKNOWN, UNKNOWN)),
        ([("a",), ("a", "b")], list_of(Type("many", (STR,)))),
    ],
)
def test_values(value: object, expected: Type) -> None:
    assert type_of_value(value) == expected


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ([], UNKNOWN),
        ([INT, INT], INT),
        ([INT, FLOAT], FLOAT),
        ([FLOAT, INT], FLOAT),
        ([NONE], NONE),
        ([NONE, INT], optional_of(INT)),
        ([INT, optional_of(FLOAT)], optional_of(FLOAT)),
        ([STR, INT], union_of(STR, INT)),
        ([INT, FLOAT, STR, NONE], union_of(INT, FLOAT, STR, NONE)),
        ([INT, ANY], ANY),
        ([list_of(INT), INT, list_of(UNKNOWN)], union_of(list_of(INT), INT)),
        ([list_of(UNKNOWN), list_of(STR)], list_of(STR)),
        ([tuple_of(), tuple_of(STR), tuple_of(STR, STR)], Type("many", (STR,))),
    ],
)
def test_joining(types: list[Type], expected: Type) -> None:
    assert join(types) == expected


@given(st.lists(TYPES, max_size=4))
def test_a_join_holds_what_it_joined(types: list[Type]) -> None:
    joined = join(types)
    assert join([joined, *types]) == joined
    assert join([joined, joined]) == joined


@given(TYPES)
def test_nothing_is_unknown_in_a_known_type(type: Type) -> None:
    assert "unknown" not in repr(known(type))
    assert known(known(type)) == known(type)


def test_what_is_never_seen_is_an_int() -> None:
    assert known(dict_of(UNKNOWN, list_of(UNKNOWN))) == dict_of(INT, list_of(INT))
