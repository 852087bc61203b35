"""Examples told from prose."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.translation.description import parts_of
from codechoir.translation.problem import Assertion, Example


def examples(text: str, *parameters: str) -> list[tuple[tuple[object, ...], object]]:
    parts = parts_of(text, "f", parameters or ("x",))
    assert "".join(part if isinstance(part, str) else part.source for part in parts) == text
    return [(each.assertion.arguments, each.assertion.expected) for each in parts if isinstance(each, Example)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("    >>> f(1)\n    2\n", 2),
        (">>> f(1) == 2", 2),
        ("f(1) == 2\n", 2),
        ("f(1) = 2", 2),
        ("  f(1) => 2", 2),
        ("f(1) ==> 2", 2),
        ("f(1) -> 2", 2),
        ("f(1) ➞ 2", 2),
        ("f(1) returns 2", 2),
        ("f(1) should return 2.", 2),
        ("* f(1) == 2", 2),
        ("assert f(1) == 2", 2),
        ("for f(1) == 2", 2),
        ("f(1) # => 'a' (a remark)", "a"),
        ("f(1)   # returns 'a'", "a"),
        ("f(1) => true", True),
        ("f(1) == 1 + 1 = 2", 2),
        ("f(1) -> 2 # a remark", 2),
        (">>> f(1)\n", None),
        (">>> f(1)\n\n", None),
        ("Input: 1\n  Output: 2\n", 2),
        ("Input: x = 1\nOutput: 2 # a remark\n", 2),
        ("For x = 1 the output should be 2.\n", 2),
        ("For x = 1, the sum of it will be 9 the output should be 2.", 2),
        ("f(1) == ['a',\n   'b']\n", ["a", "b"]),
        (">>> f(1)\n['a',\n'b']\n", ["a", "b"]),
    ],
)
def test_forms_of_an_example(text: str, expected: object) -> None:
    assert examples(text) == [((1,), expected)]


def test_calls_over_several_lines_and_several_parameters() -> None:
    assert examples("f([\n  [1],\n  [2]\n], 1) == [(0, 0)]", "x", "y") == [(([[1], [2]], 1), [(0, 0)])]
    assert examples('For x = "a", y = [1, 2], the result should be ("b", true)', "x", "y") == [
        (("a", [1, 2]), ("b", True))
    ]
    assert examples("f('a(', (1, 2)) == (3, 4)", "x", "y") == [(("a(", (1, 2)), (3, 4))]


def test_a_bare_word_is_the_text_that_it_is() -> None:
    assert examples("f(abc) => False") == [(("abc",), False)]


@pytest.mark.parametrize(
    "text",
    [
        "f(x + 1) == 2",
        "f(1) is the value of f at 1.",
        "f(1) == g(2)",
        "f(1, 2) == 3",
        "a call such as f(1) == 2",
        "f(1) == 2 or so",
        "f(1) == 2 or 3",
        "f(1) == 2 > 1",
        "f(1) ->2 - 5 = 8",
        "Input: y = 1\nOutput: 2",
        "Input: 1\nExplanation: 2",
        "For x = 1 it is hard.",
        ">>> f(1\n",
        ">>> print(f(1))\n1\n",
        "f = 1\n\nf(1)",
        "f(0) = 1\nf(1) = 1\nf(n) = f(n - 1) + f(n - 2)\n",
        "",
        "\n\n",
    ],
)
def test_what_stays_prose(text: str) -> None:
    assert examples(text) == []


def test_the_name_and_the_prose_around_are_kept() -> None:
    assert parts_of("Gives one.\n  >>> g(1)\n  2\nThat is all.", "f", ("x",)) == (
        "Gives one.\n",
        Example("g", Assertion((1,), 2), "  >>> g(1)\n  2\n"),
        "That is all.",
    )


@given(st.text("f(1) =>\n'#.xInput:Outp", max_size=60))
def test_nothing_is_lost(text: str) -> None:
    parts = parts_of(text, "f", ("x",))
    assert "".join(part if isinstance(part, str) else part.source for part in parts) == text
