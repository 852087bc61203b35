"""Scala: texts worked out by hand, and parsed by an independent grammar."""

from __future__ import annotations

import pytest
from tree_sitter_language_pack import get_parser

from codechoir.translation.errors import Untranslatable
from codechoir.translation.languages.scala import Scala
from codechoir.translation.problem import Assertion, Example, Parameter, PythonProblem, Signature
from codechoir.translation.types import (
    ANY,
    BOOL,
    FLOAT,
    INT,
    STR,
    Type,
    Value,
    dict_of,
    list_of,
    optional_of,
    tuple_of,
    union_of,
)

SIGNATURE = Signature(
    "tally_all",
    (Parameter("operator", list_of(FLOAT)), Parameter("val", FLOAT), Parameter("known", dict_of(STR, INT))),
    list_of(tuple_of(INT, BOOL)),
)
EXAMPLE = Assertion(([1.5, -2.0], -1, {'x"\n': 2}), [(1, True)])
PROBLEM = PythonProblem(
    "Own_1_tally_all",
    SIGNATURE,
    ("\n    A dictionary of\n    a list, or None.\n\n", Example("tally_all", EXAMPLE, "tally_all(...)")),
    (EXAMPLE, Assertion(([], 0.5, {}), [])),
)
PROMPT = r"""import scala.math._
import scala.collection.mutable._
object Problem {
    // A map of
    // a list, or None.
    // >>> tallyAll((List[Float](1.5f.toFloat, -2.0f.toFloat)), -1l, (Map[String,Long]("x\"\n" -> 2l)))
    // (List[Tuple2[Long, Boolean]]((1l, true)))
    def tallyAll(op : List[Float], `val` : Float, known : Map[String,Long]) : List[Tuple2[Long, Boolean]] = {
"""
TESTS = r"""    }
    def main(args: Array[String]) = {
    assert(tallyAll((List[Float](1.5f.toFloat, -2.0f.toFloat)), -1l, (Map[String,Long]("x\"\n" -> 2l))).equals((List[Tuple2[Long, Boolean]]((1l, true)))));
    assert(tallyAll((List[Float]()), (0.5f), (Map[String,Long]())).equals((List[Tuple2[Long, Boolean]]())));
    }

}
"""  # noqa: E501


def test_the_prompt() -> None:
    assert Scala(SIGNATURE).prompt(PROBLEM) == PROMPT


def test_the_tests() -> None:
    assert Scala(SIGNATURE).tests(PROBLEM.assertions) == TESTS


def test_the_program_parses() -> None:
    tree = get_parser("scala").parse(f"{PROMPT}        List()\n{TESTS}".encode())
    assert not tree.root_node.has_error


@pytest.mark.parametrize(
    ("value", "type", "text"),
    [
        (2, INT, "(2l)"),
        (2, FLOAT, "2l"),
        ("x\\", STR, r'("x\\")'),
        (None, optional_of(INT), "None"),
        ("x", optional_of(STR), 'Some("x")'),
        ((None, 1), tuple_of(optional_of(INT), optional_of(INT)), "(None, Some(1l))"),
        (("a", "b"), Type("many", (STR,)), '(List[String]("a", "b"))'),
        ([[], [1]], list_of(list_of(INT)), "(List[List[Long]](List[Long](), List[Long](1l.toLong)))"),
        ([1, "a", [], {}], list_of(ANY), '(List[Any](1l, "a", List[Long](), Map[Long,Long]()))'),
        ("a", union_of(STR, INT), 'Left("a")'),
        (-1, union_of(STR, INT), "Right(-1l)"),
        ([], union_of(list_of(STR), INT), "Left(List[String]())"),
    ],
)
def test_what_a_call_is_given(value: Value, type: Type, text: str) -> None:
    assert Scala(SIGNATURE).argument(value, type) == text


def test_numbers_and_truths_are_compared_by_an_operator() -> None:
    assert Scala(Signature("f", (), BOOL)).assertion("f()", "(true)") == "    assert(f() == (true));"


def test_types() -> None:
    types = (tuple_of(INT, STR, BOOL), union_of(list_of(STR), INT), Type("many", (STR,)))
    openings = [Scala(Signature("f", (), type)).opening() for type in types]
    assert openings == [
        "    def f() : Tuple3[Long, String, Boolean] = {\n",
        "    def f() : Either[List[String], Long] = {\n",
        "    def f() : List[String] = {\n",
    ]


def test_a_union_of_three_is_refused() -> None:
    with pytest.raises(Untranslatable):
        Scala(Signature("f", (), union_of(INT, STR, BOOL))).opening()
