"""Swift: texts worked out by hand, and parsed by an independent grammar."""

from __future__ import annotations

import pytest
from tree_sitter_language_pack import get_parser

from codechoir.translation.errors import Untranslatable
from codechoir.translation.languages.swift import Swift
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

EITHER = union_of(INT, FLOAT, STR)
SIGNATURE = Signature(
    "tally_all",
    (Parameter("words", list_of(STR)), Parameter("limit", EITHER), Parameter("known", dict_of(STR, FLOAT))),
    union_of(list_of(tuple_of(INT, BOOL)), STR),
)
EXAMPLE = Assertion((['a"\\\n'], 2.5, {"x": 2}), [(1, True)])
PROBLEM = PythonProblem(
    "Own_1_tally_all",
    SIGNATURE,
    ("\n    A dictionary of\nan array, or None.\n\n", Example("tally_all", EXAMPLE, "tally_all(...)")),
    (EXAMPLE, Assertion(([], 3, {}), "no")),
)
PROMPT = r"""
enum Value: Equatable, Hashable {
    case intValue(Int)
    case doubleValue(Double)
    case stringValue(String)
}


extension String: Error {}

/// A dictionary of
/// an array, or nil.
/// >>> tally_all(words: ["a\"\\\n"], limit: .doubleValue(2.5), known: ["x" : 2])
/// .success([(1, true)])
func tally_all(words: [String], limit: Value, known: [String : Double]) -> Result<[(Int, Bool)], String> {
"""
TESTS = [
    r'assert(tally_all(words: ["a\"\\\n"], limit: .doubleValue(2.5), known: ["x" : 2]) == .success([(1, true)]))',
    'assert(tally_all(words: [] as [String], limit: .intValue(3), known: [:] as [String : Double]) == .failure("no"))',
]


def test_the_prompt() -> None:
    assert [line.rstrip() for line in Swift(SIGNATURE).prompt(PROBLEM).splitlines()] == PROMPT.splitlines()


def test_the_tests() -> None:
    lines = Swift(SIGNATURE).tests(PROBLEM.assertions).splitlines()
    assert (lines[0], lines[-2:]) == ("}", TESTS)


def test_the_program_parses() -> None:
    program = f"{Swift(SIGNATURE).prompt(PROBLEM)}    fatalError()\n{Swift(SIGNATURE).tests(PROBLEM.assertions)}"
    assert not get_parser("swift").parse(program.encode()).root_node.has_error


@pytest.mark.parametrize(
    ("value", "type", "text"),
    [
        (2, FLOAT, "2"),
        (None, optional_of(list_of(INT)), "nil"),
        ([], optional_of(list_of(INT)), "[] as [Int]"),
        ((None, -1), tuple_of(optional_of(INT), optional_of(INT)), "(nil, -1)"),
        ((1,), tuple_of(INT), "(1)"),
        (("a",), Type("many", (STR,)), '["a"]'),
        ((), Type("many", (STR,)), "[] as [String]"),
        ([1, "\x07", [], {}], list_of(ANY), r'[1, "\u{7}", [] as [AnyHashable], [:] as [AnyHashable : AnyHashable]]'),
        ((1, "a"), ANY, '(1, "a")'),
        (None, union_of(INT, STR, BOOL, NONE), "nil"),
        (True, union_of(INT, STR, BOOL, NONE), ".boolValue(true)"),
        (1, union_of(FLOAT, INT), ".failure(1)"),
        (1, union_of(STR, FLOAT), ".failure(1)"),
    ],
)
def test_values(value: Value, type: Type, text: str) -> None:
    assert Swift(SIGNATURE).value(value, type) == text


@pytest.mark.parametrize(
    ("value", "type"),
    [
        (0.5, INT),
        (1, BOOL),
        (True, INT),
        ("x", list_of(STR)),
        (None, INT),
        (None, ANY),
        ([1], dict_of(INT, INT)),
        ({1: 2}, dict_of(STR, INT)),
        ([], union_of(INT, STR)),
    ],
)
def test_a_value_of_another_type_is_refused(value: Value, type: Type) -> None:
    with pytest.raises(Untranslatable):
        Swift(SIGNATURE).value(value, type)


@pytest.mark.parametrize(
    "result",
    [
        Type("none"),
        union_of(INT, STR, list_of(INT)),
        union_of(INT, STR, ANY),
        tuple_of(EITHER, union_of(INT, STR, BOOL)),
    ],
)
def test_a_type_that_swift_cannot_declare_is_refused(result: Type) -> None:
    with pytest.raises(Untranslatable):
        Swift(Signature("f", (), result)).prompt(PROBLEM)


def test_a_call_with_fewer_arguments_is_refused() -> None:
    with pytest.raises(Untranslatable):
        Swift(SIGNATURE).call("tally_all", ([],))


def test_optional_unions() -> None:
    openings = [Swift(Signature("f", (), union_of(*each, NONE))).opening() for each in ((INT, STR), EITHER.items)]
    assert openings == ["func f() -> Result<Int, String>? {\n", "func f() -> Value? {\n"]
