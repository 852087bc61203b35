"""The value of a Python expression that needs nothing but itself: `3 * 19`, `"a" + "b"`, `str(x)` with x known.

In goes an expression's syntax tree and the names that have values; out comes the value, or Untranslatable. Nothing is
executed: only the forms below are known, and results beyond a size that a test would show are refused.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, cast

from codechoir.translation.errors import Untranslatable
from codechoir.translation.types import Value

_MOST_ITEMS = 10_000
_MOST_BITS = 4096
_MOST_ROUNDS = 1000  # of a comprehension
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (str, int, float, bool, list, tuple, dict, len, abs, sum, min, max, round, sorted)
}


def constant(node: ast.expr, names: Mapping[str, Value] | None = None) -> Value:
    """The value of `node`. Raises Untranslatable where it is no constant, or one of a kind that no language shares."""
    try:
        value = _value(node, names or {})
        _checked(value)
    except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise Untranslatable(f"{ast.unparse(node)} has no value: {error}") from None
    return value


def _value(node: ast.expr, names: Mapping[str, Value]) -> Value:
    match node:
        case ast.Constant(value=None | bool() | int() | float() | str() as value):
            return value
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.List(elts=items):
            return [_value(item, names) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_value(item, names) for item in items)
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {_value(cast(ast.expr, key), names): _value(v, names) for key, v in zip(keys, values, strict=True)}
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return cast(Value, -cast(Any, _value(operand, names)))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, names)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _operation(op, _value(left, names), _value(right, names))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARISONS:
            return bool(_COMPARISONS[type(op)](_value(left, names), _value(right, names)))
        case ast.BoolOp(op=op, values=operands):
            *first, last = [_value(each, names) for each in operands]
            return next((each for each in first if bool(each) is isinstance(op, ast.Or)), last)
        case ast.ListComp(elt=item, generators=[each]) | ast.GeneratorExp(elt=item, generators=[each]):
            return [_value(item, bound) for bound in _rounds(each, names)]
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS and name not in names:
            return cast(Value, _FUNCTIONS[name](*(_value(argument, names) for argument in arguments)))
        case ast.Call(func=ast.Name(id="range"), args=arguments, keywords=[]) if "range" not in names:
            numbers = range(*(cast(int, _value(argument, names)) for argument in arguments))
            return list(numbers[: _MOST_ITEMS + 1])
    raise Untranslatable(f"{ast.unparse(node)} is no constant")


def _rounds(each: ast.comprehension, names: Mapping[str, Value]) -> list[Mapping[str, Value]]:
    """The names of each round of a comprehension that its conditions let through."""
    values = _value(each.iter, names)
    if not isinstance(each.target, ast.Name) or not isinstance(values, list | tuple) or len(values) > _MOST_ROUNDS:
        raise Untranslatable(f"{ast.unparse(each)} is no loop over a few constants")
    rounds = [{**names, each.target.id: value} for value in values]
    return [bound for bound in rounds if all(_value(condition, bound) for condition in each.ifs)]


def _operation(op: ast.operator, left: Value, right: Value) -> Value:
    """The operation, unless its result would be too large to be computed."""
    sizes = [len(side) for side in (left, right) if isinstance(side, str | list | tuple)]
    numbers = [side for side in (left, right) if isinstance(side, int)]
    if isinstance(op, ast.Mult) and sizes and numbers and sizes[0] * numbers[0] > _MOST_ITEMS:
        raise Untranslatable("a value is too long for a test")
    if isinstance(op, ast.Pow) and len(numbers) == 2 and numbers[0].bit_length() * abs(numbers[1]) > _MOST_BITS:
        raise Untranslatable("a number is too large for a test")
    return cast(Value, _OPERATORS[type(op)](left, right))


def _checked(value: object, budget: int = _MOST_ITEMS) -> int:
    """What is left of `budget` after all of the value's parts. Refuses what not every language has, and too much."""
    if isinstance(value, dict):
        parts = [*value, *value.values()]
    elif isinstance(value, list | tuple):
        parts = list(value)
    elif value is None or isinstance(value, bool | int | float | str):
        parts = []
        budget -= len(value) if isinstance(value, str) else 0
    else:
        raise Untranslatable(f"a value of type {type(value).__name__} has no counterpart in other languages")
    if isinstance(value, float) and not math.isfinite(value):
        raise Untranslatable(f"{value} has no literal")
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        raise Untranslatable("a text holds half of a surrogate pair")
    for part in parts:
        budget = _checked(part, budget - 1)
    if budget < 0:
        raise Untranslatable("a value is too long for a test")
    return budget
