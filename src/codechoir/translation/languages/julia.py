"""Julia: what MultiPL-E's problems look like in it.

In go a problem's signature and values, out come Julia's texts. Julia's vectors are invariant, so an empty list must say
what it is a list of.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from codechoir.translation.errors import Untranslatable
from codechoir.translation.target import Target, Terms
from codechoir.translation.types import NONE, Type, Value

_ATOMS = {"int": "Int64", "float": "Float64", "bool": "Bool", "str": "String", "any": "Any"}
_GENERIC = {"list": "Vector", "tuple": "Tuple", "dict": "Dict", "union": "Union"}
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "$": "\\$", "\r": "\\r"})
_RESERVED = frozenset(  # but for Python's own keywords
    (
        *("baremodule", "begin", "catch", "const", "do", "elseif", "end", "export", "false", "function", "let"),
        *("local", "macro", "module", "quote", "struct", "true", "using"),
    )
)


class Julia(Target):
    """A typed signature below its docstring; None is nothing."""

    language = "julia"
    terms = Terms(array="vector", list="vector", tuple="tuple", dictionary="dictionary", none="nothing")

    def described(self, description: str) -> str:
        text = re.sub("\n {4}", "\n", description)  # the function is not indented as it is in Python
        text = text.replace("\\", "\\\\").replace("$", "\\$").replace('"""', '\\"\\"\\"')
        return f'"""{text}"""\n'

    def opening(self) -> str:
        parameters = ", ".join(
            f"{_name(parameter.name)}::{_type(parameter.type)}" for parameter in self.signature.parameters
        )
        return f"function {_name(self.signature.name)}({parameters})::{_type(self.signature.result)} \n"

    def before_tests(self) -> Sequence[str]:
        return ("using Test", "", "@testset begin", "", f"candidate = {_name(self.signature.name)};")

    def after_tests(self) -> Sequence[str]:
        return ("end\n",)

    def assertion(self, call: str, expected: str) -> str:
        return f"\t@test({call} == {expected})"

    def applied(self, function: str, arguments: Sequence[str]) -> str:
        return super().applied(_name(function), arguments)

    def argument(self, value: Value, type: Type) -> str:
        # Dict() is a Dict{Any, Any}, which the signature refuses; as a result it equals every empty one.
        return f"{_type(type)}()" if value == {} and type.kind == "dict" else self.value(value, type)

    def literal(self, value: bool | int | float | str | None, type: Type) -> str:
        match value:
            case None:
                return "nothing"
            case bool():
                return str(value).lower()
            case str():
                return f'"{value.translate(_ESCAPES)}"'
            case _:
                return repr(value)

    def list_of(self, items: Sequence[str], type: Type) -> str:
        return f"[{', '.join(items)}]" if items or type.kind != "list" else f"{_type(type)}([])"

    def tuple_of(self, items: Sequence[str], type: Type) -> str:
        return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"

    def dict_of(self, pairs: Sequence[tuple[str, str]], type: Type) -> str:
        return f"Dict({', '.join(f'{key} => {value}' for key, value in pairs)})"


def _type(type: Type) -> str:
    """A type's name in Julia. Raises Untranslatable as MultiPL-E does."""
    if type.kind == "optional":
        return f"Union{{{_type(type.items[0])}, Nothing}}"
    if type.kind == "union" and NONE in type.items:
        raise Untranslatable("Julia's signatures have no union with None in it, but for that with one other type")
    if type.kind in _GENERIC:
        return f"{_GENERIC[type.kind]}{{{', '.join(map(_type, type.items))}}}"
    if type.kind not in _ATOMS:
        raise Untranslatable("Julia's signatures have no tuple of any length, and none of None alone")
    return _ATOMS[type.kind]


def _name(name: str) -> str:
    """A name as Julia takes it: its own keywords are written `var"name"`."""
    return f'var"{name}"' if name in _RESERVED else name
