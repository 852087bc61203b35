"""TypeScript: what MultiPL-E's problems look like in it.

Owns the language's data and literals; `target.py` owns the order of prompt and tests. Knows nothing of Python's syntax.
"""

from __future__ import annotations

from collections.abc import Sequence

from codechoir.translation.errors import Untranslatable
from codechoir.translation.languages.javascript import array, named, object_of, scalar
from codechoir.translation.languages.literals import no_type
from codechoir.translation.target import Target, Terms
from codechoir.translation.types import Type

_ATOMS = {"int": "number", "float": "number", "bool": "boolean", "str": "string", "any": "any"}
_INDEXES = ("int", "float", "str")  # all that an index signature takes


class TypeScript(Target):
    """None is undefined; tuples are arrays, dicts are objects. Only the arguments are checked for their types."""

    language = "typescript"
    terms = Terms(array="array", list="array", tuple="array", dictionary="object", none="undefined")
    comment_first = "//"

    def opening(self) -> str:
        parameters = ", ".join(f"{named(each.name)}: {_type(each.type)}" for each in self.signature.parameters)
        return f"function {named(self.signature.name)}({parameters}): {_type(self.signature.result)} {{\n"

    def before_tests(self) -> Sequence[str]:
        return (
            "declare var require: any;\nconst assert = require('node:assert');\n",
            "",
            "function test() {",
            f"  let candidate = {named(self.signature.name)};",
        )

    def after_tests(self) -> Sequence[str]:
        return ("}", "", "test();")

    def applied(self, function: str, arguments: Sequence[str]) -> str:
        return super().applied(named(function), arguments)

    def assertion(self, call: str, expected: str) -> str:
        return f"  assert.deepEqual({call},{expected});"

    def literal(self, value: bool | int | float | str | None, type: Type) -> str:
        return scalar(value)

    def list_of(self, items: Sequence[str], type: Type) -> str:
        return array(items)

    def dict_of(self, pairs: Sequence[tuple[str, str]], type: Type) -> str:
        return object_of(pairs)


def _type(type: Type) -> str:
    """The annotation. Refuses what MultiPL-E's TypeScript refuses, so that both have the same problems."""
    match type:
        case Type(kind) if kind in _ATOMS:
            return _ATOMS[kind]
        case Type("list", (Type("optional" | "union") as item,)):
            return f"({_type(item)})[]"
        case Type("list", (item,)):
            return f"{_type(item)}[]"
        case Type("tuple", items):
            return f"[{', '.join(map(_type, items))}]"
        case Type("dict", (key, value)) if key.kind in _INDEXES:
            return f"{{[key: {_type(key)}]: {_type(value)}}}"
        case Type("optional", (item,)):
            return f"{_type(item)} | undefined"
        case Type("union", items):
            return "| ".join(map(_type, items))
        case Type("dict"):
            raise Untranslatable("an object's keys are strings or numbers")
        case _:
            raise no_type("TypeScript", type)
