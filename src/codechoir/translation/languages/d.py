"""D: what MultiPL-E's problems look like in it.

A dict is nullable, and null where it is empty, since D knows no literal for an empty associative array.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from codechoir.translation.languages.literals import LINES_KEPT, no_type, number, quoted, words
from codechoir.translation.target import Target, Terms
from codechoir.translation.types import FLOAT, Type, Value

_ATOMS = {"int": "long", "float": "float", "bool": "bool", "str": "string"}
_RESULT = Type("float of a result")  # never equal to a double that it cannot hold
_DEDUCED = Type("float of a nullable or tuple")  # whose type is what its literal says
_LARGEST = 3.4e38  # of floats, rounded down
_KEYWORDS = words(
    "abstract alias align asm auto body bool byte case cast catch char const dchar debug default delegate "
    "delete deprecated do double enum export extern final float foreach function goto immutable inout int "
    "interface invariant lazy long macro mixin module new nothrow null out override package pragma private "
    "protected public pure real ref scope shared short static struct super switch synchronized template this "
    "throw typeid typeof ubyte uint ulong union unittest ushort version void wchar"
)


class D(Target):
    """Tests are a `unittest`; optional values are Nullable, tuples are std.typecons' own."""

    language = "d"
    code = "d"
    stop_tokens = ("\n\n", "\nvoid", "\nbool", "\nint")
    terms = Terms(array="array", list="array", tuple="tuple", dictionary="associative array", none="null")

    def preamble(self) -> str:
        return "import std.math;\nimport std.typecons;\n"

    def described(self, description: str) -> str:
        return f"/*\n{description.replace('*/', '* /')}\n*/\n"

    def opening(self) -> str:
        parameters = ", ".join(f"{type_text(each.type)} {_name(each.name)}" for each in self.signature.parameters)
        return f"{type_text(self.signature.result)} {self.signature.name}({parameters}) \n"

    def before_tests(self) -> Sequence[str]:
        return ("unittest", "{", f"    alias candidate = {self.signature.name};", "")

    def after_tests(self) -> Sequence[str]:
        return ("}", "void main(){}")

    def assertion(self, call: str, expected: str) -> str:
        if not expected.startswith("assert("):  # as no value does
            return f"    assert({call} == {expected});"
        return f"{{\n        auto result = {call};\n        {expected}\n}}\n"

    def argument(self, value: Value, type: Type) -> str:
        return self.value(value, _deduced(type) if "Tuple!(" in type_text(type) else type)

    def expected(self, value: Value) -> str:
        """The value; where it may be null, the checks of a `result` instead."""
        type = _marked(self.signature.result, _RESULT)
        if type.kind == "tuple" and isinstance(value, tuple) and any(map(_nullable, type.items)):
            members = zip(value, type.items, strict=True)
            return "\n        ".join(self._check(f"result[{n}]", *member) for n, member in enumerate(members))
        return self._check("result", value, type) if _nullable(type) else self.value(value, type)

    def _check(self, name: str, value: Value, type: Type) -> str:
        if value is None or value == {}:
            return f"assert({name}.isNull);"
        if type.kind == "optional":
            return f"assert(!{name}.isNull && {name}.get == {self.value(value, type.items[0])});"
        if type.kind == "dict":
            return f"assert(!{name}.isNull && {name}.get == {self.value(value, type).removesuffix('.nullable')});"
        return f"assert({name} == {self.value(value, type)});"

    def shown(self, value: Value) -> str:
        return self.value(value, self.signature.result)

    def value(self, value: Value, type: Type) -> str:
        text = super().value(value, _deduced(type) if _nullable(type) else type)
        return f"nullable({text})" if type.kind == "optional" and value is not None else text

    def literal(self, value: bool | int | float | str | None, type: Type) -> str:
        match value:
            case None:
                return f"{type_text(type)}.init"
            case bool():
                return str(value).lower()
            case str():
                return quoted(value, LINES_KEPT)
            case int() if type != _DEDUCED:
                return f"{number(value)}L"
            case _:
                suffix = type == _DEDUCED or (type == _RESULT and not _is_single(value))
                return f"{number(float(value))}{'f' * suffix}"

    def list_of(self, items: Sequence[str], type: Type) -> str:
        return f"[{', '.join(items)}]"

    def tuple_of(self, items: Sequence[str], type: Type) -> str:
        return f"tuple({', '.join(items)})"

    def dict_of(self, pairs: Sequence[tuple[str, str]], type: Type) -> str:
        if not pairs:
            return f"{type_text(type)}.init"
        return f"[{', '.join(f'{key}: {value}' for key, value in pairs)}].nullable"


def type_text(type: Type) -> str:
    """A type as D writes it."""
    match type:
        case Type(kind) if kind in _ATOMS:
            return _ATOMS[kind]
        case Type() if type in (_RESULT, _DEDUCED):
            return _ATOMS["float"]
        case Type("list", (item,)):
            return f"{type_text(item)}[]"
        case Type("tuple", items):
            return f"Tuple!({', '.join(map(type_text, items))})"
        case Type("dict", (key, item)):
            return f"Nullable!({type_text(item)}[{type_text(key)}])"
        case Type("optional", (item,)):
            return f"Nullable!({type_text(item)})"
        case _:
            raise no_type("D", type)


def _deduced(type: Type) -> Type:
    """`type` with its floats marked: the compiler deduces it from the literal, so that this must say what it is."""
    return _marked(type, _DEDUCED)


def _marked(type: Type, mark: Type) -> Type:
    return mark if type in (FLOAT, _RESULT) else Type(type.kind, tuple(_marked(each, mark) for each in type.items))


def _is_single(value: float) -> bool:
    return abs(value) < _LARGEST and struct.unpack("f", struct.pack("f", value))[0] == value


def _nullable(type: Type) -> bool:
    return type.kind in ("optional", "dict")


def _name(name: str) -> str:
    return f"{name}_" if name in _KEYWORDS else name
