"""JavaScript: what MultiPL-E's problems look like in it."""

from __future__ import annotations

from collections.abc import Sequence

from codechoir.translation.errors import Untranslatable
from codechoir.translation.languages.literals import number, quoted, renamed, words
from codechoir.translation.target import Target, Terms
from codechoir.translation.types import Type

_RESERVED = words(
    "arguments case catch const debugger default delete do enum eval export extends false function implements "
    "instanceof interface let new null package private protected public static super switch this throw true typeof var "
    "void"
)


class JavaScript(Target):
    """None is undefined; tuples are arrays, dicts are objects."""

    language = "javascript"
    terms = Terms(array="array", list="array", tuple="array", dictionary="object", none="undefined")
    comment_first = "//"

    def opening(self) -> str:
        names = ", ".join(named(parameter.name) for parameter in self.signature.parameters)
        return f"function {named(self.signature.name)}({names}){{\n"

    def before_tests(self) -> Sequence[str]:
        return (
            "const assert = require('node:assert');\n",
            "",
            "function test() {",
            f"  let candidate = {named(self.signature.name)};",
        )

    def after_tests(self) -> Sequence[str]:
        return ("}", "", "test();")

    def assertion(self, call: str, expected: str) -> str:
        return f"  assert.deepEqual({call},{expected});"

    def applied(self, function: str, arguments: Sequence[str]) -> str:
        return super().applied(named(function), arguments)

    def literal(self, value: bool | int | float | str | None, type: Type) -> str:
        return scalar(value)

    def list_of(self, items: Sequence[str], type: Type) -> str:
        return array(items)

    def dict_of(self, pairs: Sequence[tuple[str, str]], type: Type) -> str:
        return object_of(pairs)


def scalar(value: bool | int | float | str | None) -> str:
    """A value that holds no others."""
    match value:
        case None:
            return "undefined"
        case bool():
            return str(value).lower()
        case str():
            return quoted(value)
        case _:
            return number(value)


def array(items: Sequence[str]) -> str:
    """An array of written values."""
    return f"[{', '.join(items)}]"


def object_of(pairs: Sequence[tuple[str, str]]) -> str:
    """An object of written keys and values."""
    return "{" + ", ".join(f"{property_name(key)}: {value}" for key, value in pairs) + "}"


def named(name: str) -> str:
    """A Python name as a name in JavaScript."""
    return renamed(name, _RESERVED)


def property_name(key: str) -> str:
    """An object's key, of the key's own text: a negative number must stand in brackets."""
    if key.startswith(("[", "{")):
        raise Untranslatable("an object's keys are strings or numbers")
    return f"[{key}]" if key.startswith("-") else key
