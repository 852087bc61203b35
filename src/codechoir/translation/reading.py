"""One row of a file of Python problems as a `PythonProblem`.

Rows have HumanEval's form (task_id, prompt, entry_point, test) or MultiPL-E's for Python (name, prompt, tests, and
entry_point if it is not in the name). In goes a row; out comes the problem, or Untranslatable with the reason, or
InputError where the row is no problem at all. Knows nothing of target languages.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codechoir.errors import InputError
from codechoir.translation.assertions import Reader
from codechoir.translation.description import parts_of
from codechoir.translation.errors import Untranslatable
from codechoir.translation.inference import inferred, settled
from codechoir.translation.problem import Assertion, Example, Parameter, PythonProblem, Signature
from codechoir.translation.types import type_of_annotation

_NAME = re.compile(r"(?P<benchmark>[^_]+_\d+)_(?P<entry_point>\w+)")


@dataclass(frozen=True, slots=True)
class Row:
    """A row's texts under one set of names."""

    name: str
    entry_point: str
    prompt: str
    tests: str


def row_of(values: Any, where: str) -> Row:
    """Checks a row's form. Raises InputError naming what it lacks."""
    fields: Mapping[str, Any] = values if isinstance(values, dict) else {}
    tests = fields.get("test", fields.get("tests"))
    entry_point = fields.get("entry_point")
    name = fields.get("name")
    if name is None and isinstance(fields.get("task_id"), str) and isinstance(entry_point, str):
        name = f"{fields['task_id'].replace('/', '_')}_{entry_point}"
    if entry_point is None and isinstance(name, str) and (match := _NAME.fullmatch(name)):
        entry_point = match["entry_point"]
    found = {"name": name, "entry_point": entry_point, "prompt": fields.get("prompt"), "tests": tests}
    lacking = [field for field, text in found.items() if not isinstance(text, str)]
    if lacking:
        raise InputError(
            "a Python problem lacks a field, or it is no text",
            seen=f"{where}: {', '.join(lacking)}",
            allowed="task_id, entry_point, prompt, test (as HumanEval), or name, prompt, tests (as MultiPL-E)",
        )
    return Row(**found)


def read_problem(row: Row) -> PythonProblem:
    """The problem. Raises Untranslatable where nothing of its tests can be said, or its types cannot."""
    function, aliases = _function(row)
    parameters = _parameters(function, aliases)
    annotated = Signature(row.entry_point, parameters, type_of_annotation(function.returns, aliases))
    names = [parameter.name for parameter in parameters]
    assertions, left_out = _assertions(row, names)
    description = parts_of(_docstring(function), row.entry_point, names)
    examples = [part.assertion for part in description if isinstance(part, Example)]
    signature = inferred(annotated, assertions, [each for each in examples if len(each.arguments) <= len(names)])
    kept = []
    for assertion in assertions:
        try:
            kept.append(settled(signature, assertion))
        except Untranslatable as error:
            left_out.append(error.reason)
    if not kept:
        why = next(iter(left_out), "they assert nothing of the function")
        raise Untranslatable(f"none of the tests can be expressed; the first hindrance: {why}")
    settled_description = tuple(_fitting(part, signature) for part in description)
    return PythonProblem(row.name, signature, settled_description, tuple(kept), tuple(dict.fromkeys(left_out)))


def _fitting(part: str | Example, signature: Signature) -> str | Example:
    """An example settled to the types; as the prose that it is where it does not fit them."""
    if isinstance(part, str):
        return part
    try:
        return Example(part.function, settled(signature, part.assertion), part.source)
    except Untranslatable:
        return part.source


def _parsed(text: str, what: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise Untranslatable(f"the {what} cannot be read as Python: {error}") from None


def _function(row: Row) -> tuple[ast.FunctionDef, Mapping[str, ast.expr]]:
    """The function asked for, and the prompt's own names for types."""
    module = _parsed(row.prompt + "\n    pass\n", "prompt")
    aliases: dict[str, ast.expr] = {}
    found = None
    for statement in module.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                aliases[name] = value
            case ast.FunctionDef(name=row.entry_point):
                found = statement
    if found is None:
        raise Untranslatable(f"the prompt has no function {row.entry_point}")
    return found, aliases


def _docstring(function: ast.FunctionDef) -> str:
    """The first text that stands by itself in the function, also below an import."""
    for statement in function.body:
        match statement:
            case ast.Expr(value=ast.Constant(value=str(text))):
                return text
    return ""


def _parameters(function: ast.FunctionDef, aliases: Mapping[str, ast.expr]) -> tuple[Parameter, ...]:
    given = function.args
    if given.vararg or given.kwarg or given.kwonlyargs:
        raise Untranslatable("the function takes a number of arguments that is not fixed")
    everything = [*given.posonlyargs, *given.args]
    return tuple(Parameter(each.arg, type_of_annotation(each.annotation, aliases)) for each in everything)


def _assertions(row: Row, parameters: Sequence[str]) -> tuple[list[Assertion], list[str]]:
    """What the test function asserts: the one that is called `check`, or else the first with one parameter."""
    functions = [each for each in _parsed(row.tests, "tests").body if isinstance(each, ast.FunctionDef)]
    checks = [each for each in functions if len(each.args.args) == 1]
    if not checks:
        raise Untranslatable("the tests have no function of the candidate")
    check = next((each for each in checks if each.name == "check"), checks[0])
    reader = Reader(check.args.args[0].arg, row.entry_point, parameters)
    reader.read(check.body)
    return reader.assertions, reader.left_out
