"""Scala: what MultiPL-E's problems look like in it."""

from __future__ import annotations

from collections.abc import Sequence

from codechoir.translation.errors import Untranslatable
from codechoir.translation.languages.literals import no_type, number, quoted, words
from codechoir.translation.target import CANDIDATE, Target, Terms
from codechoir.translation.types import Type, Value, join, known, type_of_value

_ATOMS = {"int": "Long", "float": "Float", "bool": "Boolean", "str": "String", "any": "Any"}
_PRIMITIVE = ("int", "float", "bool")
_CONVERSIONS = {"int": ".toLong", "float": ".toFloat"}
_RENAMED = {"operator": "op", "strlen": "string_length"}
_KEYWORDS = words(
    "abstract case catch do extends false final forSome implicit lazy match new null object override package "
    "private protected sealed super this throw trait true type val var"
)


class Scala(Target):
    """A method of an object; a union of two is an Either."""

    language = "scala"
    terms = Terms(array="list", list="list", tuple="tuple", dictionary="map", none="None")
    comment = "    // "

    def preamble(self) -> str:
        return "import scala.math._\nimport scala.collection.mutable._\nobject Problem {\n"

    def opening(self) -> str:
        parameters = ", ".join(f"{_name(each.name)} : {type_text(each.type)}" for each in self.signature.parameters)
        return f"    def {_camel(self.signature.name)}({parameters}) : {type_text(self.signature.result)} = {{\n"

    def before_tests(self) -> Sequence[str]:
        return ("    }", "    def main(args: Array[String]) = {")

    def after_tests(self) -> Sequence[str]:
        return ("    }\n", "}\n")

    def assertion(self, call: str, expected: str) -> str:
        if self.signature.result.kind in _PRIMITIVE:
            return f"    assert({call} == {expected});"
        return f"    assert({call}.equals({expected}));"

    def applied(self, function: str, arguments: Sequence[str]) -> str:
        return f"{_camel(self.signature.name if function == CANDIDATE else function)}({', '.join(arguments)})"

    def argument(self, value: Value, type: Type) -> str:
        text = self.value(value, type)
        widened = type.kind in _PRIMITIVE and type_of_value(value) != type
        bare = widened or type.kind in ("any", "optional", "union") or "Option[" in type_text(type)
        return text if bare else f"({text})"

    def expected(self, value: Value) -> str:
        return self.argument(value, self.signature.result)

    def value(self, value: Value, type: Type) -> str:
        match type:
            case Type("any") if isinstance(value, list | tuple | dict):
                return super().value(value, known(type_of_value(value)))
            case Type("optional") if value is not None:
                return f"Some({super().value(value, type)})"
            case Type("union", (left, right)):
                side = "Left" if join([left, type_of_value(value)]) == left else "Right"
                return f"{side}({super().value(value, left if side == 'Left' else right)})"
            case _:
                return super().value(value, type)

    def literal(self, value: bool | int | float | str | None, type: Type) -> str:
        match value:
            case None:
                return "None"
            case bool():
                return str(value).lower()
            case str():
                return quoted(value)
            case int():
                return f"{number(value)}l"
            case float():
                return f"{number(value)}f"

    def list_of(self, items: Sequence[str], type: Type) -> str:
        conversion = _CONVERSIONS.get(type.items[0].kind, "")
        return f"{type_text(type)}({', '.join(each + conversion for each in items)})"

    def tuple_of(self, items: Sequence[str], type: Type) -> str:
        return self.list_of(items, type) if type.kind == "many" else f"({', '.join(items)})"

    def dict_of(self, pairs: Sequence[tuple[str, str]], type: Type) -> str:
        return f"{type_text(type)}({', '.join(f'{key} -> {value}' for key, value in pairs)})"


def type_text(type: Type) -> str:
    """A type as Scala writes it."""
    match type:
        case Type(kind) if kind in _ATOMS:
            return _ATOMS[kind]
        case Type("list" | "many", (item,)):
            return f"List[{type_text(item)}]"
        case Type("tuple", items):
            return f"Tuple{len(items)}[{', '.join(map(type_text, items))}]"
        case Type("dict", (key, item)):
            return f"Map[{type_text(key)},{type_text(item)}]"
        case Type("optional", (item,)):
            return f"Option[{type_text(item)}]"
        case Type("union", (left, right)):
            return f"Either[{type_text(left)}, {type_text(right)}]"
        case Type("union"):
            raise Untranslatable("Scala has no type for unions of more than two")
        case _:
            raise no_type("Scala", type)


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(part.title() for part in others)


def _name(name: str) -> str:
    return _RENAMED.get(name) or (f"`{name}`" if name in _KEYWORDS else name)
