"""Swift: what MultiPL-E's problems look like in it.

A union of two is a Result, of more an enum `Value` that the prompt declares. A value that is not of the type asked for
is refused: Swift would not compile it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from codechoir.translation.errors import Untranslatable
from codechoir.translation.languages.literals import no_type, number, quoted
from codechoir.translation.target import Target, Terms
from codechoir.translation.types import NONE, Type, Value, join, type_of_value

_ATOMS = {"int": "Int", "float": "Double", "bool": "Bool", "str": "String", "any": "AnyHashable"}
_HOLDS = {"bool": ("bool",), "int": ("int", "float"), "float": ("float",), "str": ("str",), "list": ("list",)}
_HOLDS |= {"tuple": ("tuple", "many", "list"), "dict": ("dict",)}
_PAIRS_ARE_EQUAL = """
func ==(left: [(Int, Int)], right: [(Int, Int)]) -> Bool {
    if left.count != right.count {
        return false
    }
    for (l, r) in zip(left, right) {
        if l != r {
            return false
        }
    }
    return true
}
            """


class Swift(Target):
    """A function whose calls name their arguments; tuples are tuples, Any is AnyHashable."""

    language = "swift"
    code = "swift"
    stop_tokens = ("\n}",)
    terms = Terms(array="array", list="array", tuple="tuple", dictionary="dictionary", none="nil")
    comment = "/// "

    def preamble(self) -> str:
        types = [*(each.type for each in self.signature.parameters), self.signature.result]
        unions = [members for type in types for members in _unions(type)]
        enums = dict.fromkeys(members for members in unions if len(members) > 2)
        if len(enums) > 1:
            raise Untranslatable("only one union of three or more types can be declared")
        errors = dict.fromkeys(type_text(members[1]) for members in unions if len(members) == 2)
        return (
            "".join(map(_enum, enums))
            + "\n".join(f"\nextension {each}: Error {{}}\n        " for each in errors)
            + "\n"
        )

    def opening(self) -> str:
        parameters = ", ".join(f"{each.name}: {type_text(each.type)}" for each in self.signature.parameters)
        return f"func {self.signature.name}({parameters}) -> {type_text(self.signature.result)} {{\n"

    def before_tests(self) -> Sequence[str]:
        return ("}", "", _PAIRS_ARE_EQUAL)

    def assertion(self, call: str, expected: str) -> str:
        return f"assert({call} == {expected})"

    def applied(self, function: str, arguments: Sequence[str]) -> str:
        if len(arguments) != len(self.signature.parameters):
            raise Untranslatable("a call has not as many arguments as the function has parameters")
        names = (each.name for each in self.signature.parameters)
        return f"{self.signature.name}({', '.join(map(': '.join, zip(names, arguments, strict=True)))})"

    def value(self, value: Value, type: Type) -> str:
        match type:
            case Type("optional", (item,)):
                return "nil" if value is None else self.value(value, item)
            case Type("union") if value is None and NONE in type.items:
                return "nil"
            case Type("union"):
                return self._member(value, _members(type))
            case Type("tuple", (item,)) if isinstance(value, tuple):
                return f"({self.value(value[0], item)})"
            case _ if type.kind == "any" or type.kind in _HOLDS.get(type_of_value(value).kind, ()):
                return super().value(value, type)
            case _:
                raise Untranslatable(f"{value!r} is not of the type {type_text(type)}")

    def _member(self, value: Value, members: tuple[Type, ...]) -> str:
        own = type_of_value(value)
        holding = [each for each in members if join([each, own]) == each]
        if not holding:
            raise Untranslatable(f"{value!r} is of none of a union's types")
        chosen = min(holding, key=lambda each: each != own)
        text = self.value(value, chosen)
        if len(members) == 2:
            return f".{'success' if chosen == members[0] else 'failure'}({text})"
        return f".{_case(chosen)}({text})"

    def literal(self, value: bool | int | float | str | None, type: Type) -> str:
        match value:
            case None:
                raise Untranslatable("AnyHashable cannot be nil")
            case bool():
                return str(value).lower()
            case str():
                return quoted(value, control=r"\u{{{:x}}}")
            case _:
                return number(value)

    def list_of(self, items: Sequence[str], type: Type) -> str:
        if items:
            return f"[{', '.join(items)}]"
        return f"[] as [{type_text(type.items[0] if type.items else type)}]"

    def tuple_of(self, items: Sequence[str], type: Type) -> str:
        return self.list_of(items, type) if type.kind in ("list", "many") else f"({', '.join(items)})"

    def dict_of(self, pairs: Sequence[tuple[str, str]], type: Type) -> str:
        if pairs:
            return f"[{', '.join(f'{key} : {value}' for key, value in pairs)}]"
        key, item = type.items or (type, type)
        return f"[:] as [{type_text(key)} : {type_text(item)}]"


def type_text(type: Type) -> str:
    """A type as Swift writes it."""
    match type:
        case Type(kind) if kind in _ATOMS:
            return _ATOMS[kind]
        case Type("list" | "many", (item,)):
            return f"[{type_text(item)}]"
        case Type("tuple", (item,)):
            return type_text(item)
        case Type("tuple", items):
            return f"({', '.join(map(type_text, items))})"
        case Type("dict", (key, item)):
            return f"[{type_text(key)} : {type_text(item)}]"
        case Type("optional", (item,)):
            return f"{type_text(item)}?"
        case Type("union"):
            members = _members(type)
            text = f"Result<{', '.join(map(type_text, members))}>" if len(members) == 2 else "Value"
            return f"{text}{'?' * (NONE in type.items)}"
        case _:
            raise no_type("Swift", type)


def _members(union: Type) -> tuple[Type, ...]:
    return tuple(each for each in union.items if each != NONE)


def _unions(type: Type) -> Iterator[tuple[Type, ...]]:
    if type.kind == "union":
        yield _members(type)
    for each in type.items:
        yield from _unions(each)


def _enum(members: tuple[Type, ...]) -> str:
    cases = "\n".join(f"    case {_case(each)}({type_text(each)})" for each in members)
    return f"\nenum Value: Equatable, Hashable {{\n{cases}\n}}\n\n            "


def _case(member: Type) -> str:
    if member.kind not in _ATOMS or member.kind == "any":
        raise Untranslatable(f"an enum has no case for {type_text(member)}")
    return f"{type_text(member).lower()}Value"
