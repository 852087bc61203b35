"""Python's tests as assertions: the function, applied to these values, gives that value.

In goes the text of the tests (HumanEval's `check` function); out come the assertions in order, and for each statement
that became none the reason. Statements are read, never executed: loops over constants are unrolled, arithmetic is done.
Knows nothing of types and of target languages.
"""

from __future__ import annotations

import ast
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from codechoir.translation.constants import constant
from codechoir.translation.errors import Untranslatable
from codechoir.translation.problem import Assertion
from codechoir.translation.types import Value

_MOST_ROUNDS = 100  # of a loop that is unrolled
_SEQUENCES = ("tuple", "list")  # wrapped around both sides so that a list equals a tuple


@dataclass(slots=True)
class Reader:
    """Reads one test function. `candidate` and `entry_point` are the names that the function goes by."""

    candidate: str
    entry_point: str
    parameters: Sequence[str]
    names: dict[str, Value] = field(default_factory=dict)
    assertions: list[Assertion] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def read(self, statements: Sequence[ast.stmt]) -> None:
        """Adds what the statements assert."""
        for statement in statements:
            try:
                self._statement(statement)
            except Untranslatable as error:
                self.left_out.append(error.reason)

    def _statement(self, statement: ast.stmt) -> None:
        match statement:
            case ast.Assert(test=ast.Constant()) | ast.Pass() | ast.Import() | ast.ImportFrom():
                return  # asserts nothing about the function
            case ast.Expr(value=ast.Constant() | ast.Name() | ast.Call(func=ast.Name(id="print"))):
                return
            case ast.Assert(test=test):
                self.assertions.append(self._assertion(test))
            case ast.Assign(targets=[target], value=value):
                self._bind(target, value)
            case ast.For(target=target, iter=values, body=body, orelse=[]):
                self._unroll(target, values, body)
            case _:
                self.names.clear()  # which it may change, also through another name
                raise Untranslatable(f"the tests do more than assert: {ast.unparse(statement).splitlines()[0]}")

    def _unroll(self, target: ast.expr, values: ast.expr, body: Sequence[ast.stmt]) -> None:
        try:
            rounds = constant(values, self.names)
            if not isinstance(rounds, list | tuple) or len(rounds) > _MOST_ROUNDS:
                raise Untranslatable(f"the loop over {ast.unparse(values)} has too many rounds to be unrolled")
        except Untranslatable:
            self.names.clear()  # which its body may change
            raise
        for each in rounds:
            self._assign(target, each)
            self.read(body)

    def _bind(self, target: ast.expr, value: ast.expr) -> None:
        for node in ast.walk(target):
            if isinstance(node, ast.Name):
                self.names.pop(node.id, None)  # what it was before is no longer known
        self._assign(target, constant(value, self.names))

    def _assign(self, target: ast.expr, value: Value) -> None:
        match target:
            case ast.Name(id=name):
                self.names[name] = value
            case ast.Tuple(elts=parts) if isinstance(value, list | tuple) and len(value) == len(parts):
                for part, each in zip(parts, value, strict=True):
                    self._assign(part, each)
            case _:
                raise Untranslatable(f"{ast.unparse(target)} is assigned in a form that is not translated")

    def _assertion(self, test: ast.expr) -> Assertion:
        match test:
            case ast.UnaryOp(op=ast.Not(), operand=call) if self._calls(call):
                return Assertion(self._arguments(call), False)
            case ast.Compare(left=left, ops=[ast.Eq() | ast.Is()], comparators=[right]):
                if not self._calls(left):
                    left, right = right, left
                left, right = _unwrapped(left, right)
                if self._calls(right):
                    raise Untranslatable("the function is compared with itself")
                return Assertion(self._arguments(left), constant(right, self.names))
            case ast.Compare(left=ast.Call(func=ast.Name(id="abs"), args=[gap]), ops=[ast.Lt() | ast.LtE()]):
                return self._nearly(gap)
            case _ if self._calls(test):
                return Assertion(self._arguments(test), True)
        raise Untranslatable(f"the assertion is no comparison with a value: {ast.unparse(test)}")

    def _nearly(self, gap: ast.expr) -> Assertion:
        """`abs(f(x) - y) < e` as an equality, where every number in it is exact in single precision, too."""
        match gap:
            case ast.BinOp(left=left, op=ast.Sub(), right=right) if self._calls(left) and not self._calls(right):
                found = Assertion(self._arguments(left), constant(right, self.names))
                if all(map(_exact, _floats([*found.arguments, found.expected]))):
                    return found
        raise Untranslatable(f"equal only up to rounding: {ast.unparse(gap)}")

    def _calls(self, node: ast.expr) -> bool:
        names = (self.candidate, self.entry_point)
        return any(isinstance(each, ast.Name) and each.id in names for each in ast.walk(node))

    def _arguments(self, node: ast.expr) -> tuple[Value, ...]:
        match node:
            case ast.Call(func=ast.Name(id=name), args=positional, keywords=named) if name == self.candidate:
                values = [constant(argument, self.names) for argument in positional]
                rest = {keyword.arg: keyword.value for keyword in named}
                for parameter in self.parameters[len(values) :]:
                    if parameter in rest:
                        values.append(constant(rest.pop(parameter), self.names))
                if not rest:
                    return tuple(values)
        raise Untranslatable(f"no plain call of the function: {ast.unparse(node)}")


def _unwrapped(left: ast.expr, right: ast.expr) -> tuple[ast.expr, ast.expr]:
    """Both sides without `tuple(...)` or `list(...)` around the call (and, with it, around the value)."""
    match left:
        case ast.Call(func=ast.Name(id=wrapper), args=[inner]) if wrapper in _SEQUENCES:
            match right:
                case ast.Call(func=ast.Name(id=other), args=[value]) if other == wrapper:
                    return inner, value
            return inner, right
    return left, right


def _floats(values: Sequence[Value]) -> Iterator[float]:
    for value in values:
        match value:
            case float():
                yield value
            case list() | tuple():
                yield from _floats(value)
            case dict():
                yield from _floats([*value, *value.values()])


def _exact(number: float) -> bool:
    try:
        return bool(struct.unpack("f", struct.pack("f", number))[0] == number)
    except OverflowError:
        return False
