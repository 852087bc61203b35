"""Julia: texts worked out by hand, and parsed by an independent grammar."""

from __future__ import annotations

import pytest
from tree_sitter_language_pack import get_parser

from codechoir.translation.errors import Untranslatable
from codechoir.translation.languages.julia import Julia
from codechoir.translation.problem import Assertion, Example, Parameter, PythonProblem, Signature
from codechoir.translation.types import (
    ANY,
    BOOL,
    FLOAT,
    INT,
    NONE,
    STR,
    Type,
    dict_of,
    list_of,
    optional_of,
    tuple_of,
    union_of,
)

SIGNATURE = Signature(
    "restock",
    (Parameter("stock", dict_of(STR, INT)), Parameter("end", list_of(list_of(STR))), Parameter("share", FLOAT)),
    optional_of(list_of(tuple_of(STR, BOOL))),
)
EXAMPLE = Assertion(({'"$a"': 1}, [["x"], []], 0.5), [("\\", True)])
PROBLEM = PythonProblem(
    "Own_5_restock",
    SIGNATURE,
    (
        "\n    What a dictionary of $ has,\n    as a list, or None.\n\n",
        Example("restock", EXAMPLE, "restock({'\"$a\"': 1}, [['x'], []], 0.5)"),
    ),
    (EXAMPLE, Assertion(({}, [], 1e-07), None), Assertion(({"b": -2}, [["b"]], -1.0), [])),
)
PROMPT = r'''"""
What a dictionary of \$ has,
as a vector, or nothing.

>>> restock(Dict("\\"\\\$a\\"" => 1), [["x"], Vector{String}([])], 0.5)
[("\\\\", true)]
"""
function restock(stock::Dict{String, Int64}, var"end"::Vector{Vector{String}}, share::Float64)::''' + (
    "Union{Vector{Tuple{String, Bool}}, Nothing} \n"
)
TESTS = r"""using Test

@testset begin

candidate = restock;
	@test(candidate(Dict("\"\$a\"" => 1), [["x"], Vector{String}([])], 0.5) == [("\\", true)])
	@test(candidate(Dict{String, Int64}(), Vector{Vector{String}}([]), 1e-07) == nothing)
	@test(candidate(Dict("b" => -2), [["b"]], -1.0) == Vector{Tuple{String, Bool}}([]))
end
"""


def test_the_prompt() -> None:
    assert Julia(SIGNATURE).prompt(PROBLEM) == PROMPT


def test_the_tests() -> None:
    assert Julia(SIGNATURE).tests(PROBLEM.assertions) == TESTS


def test_the_program_parses() -> None:
    tree = get_parser("julia").parse(f"{PROMPT}    nothing\nend\n\n{TESTS}".encode())
    assert not tree.root_node.has_error


def test_tuples() -> None:
    values = [Julia(SIGNATURE).value(value, ANY) for value in ((), (1,), (1, None))]
    assert values == ["()", "(1,)", "(1, nothing)"]


@pytest.mark.parametrize("type", [NONE, Type("many", (STR,)), union_of(INT, NONE), list_of(Type("many", (STR,)))])
def test_a_type_that_julia_cannot_say_is_refused(type: Type) -> None:
    with pytest.raises(Untranslatable):
        Julia(Signature("f", (Parameter("x", type),), INT)).opening()


def test_unions_and_any() -> None:
    opening = Julia(Signature("f", (Parameter("x", union_of(INT, STR)), Parameter("y", ANY)), INT)).opening()
    assert opening == "function f(x::Union{Int64, String}, y::Any)::Int64 \n"
