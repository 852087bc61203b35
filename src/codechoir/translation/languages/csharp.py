"""C#: what MultiPL-E's problems look like in it."""

from __future__ import annotations

from collections.abc import Sequence

from codechoir.translation.languages.literals import no_type, number, quoted, words
from codechoir.translation.target import CANDIDATE, Target, Terms
from codechoir.translation.types import ANY, Type, Value, known, type_of_value

_ATOMS = {"int": "long", "float": "float", "bool": "bool", "str": "string", "any": "object"}
_PRIMITIVE = ("int", "float", "bool")
_RENAMED = {"operator": "op", "strlen": "string_length", "string": "str", "base": "numBase", "decimal": "decimalNum"}
_KEYWORDS = words(
    "abstract bool byte case catch char checked const default delegate do double enum event explicit extern "
    "false fixed float foreach goto implicit int interface internal lock long namespace new null object out "
    "override params private protected public readonly ref sbyte sealed short sizeof stackalloc static struct "
    "switch this throw true typeof uint ulong unchecked unsafe ushort using virtual void volatile"
)
_IMPORTS = (
    *("System", "System.Numerics", "System.Diagnostics", "System.Collections.Generic", "System.Linq", "System.Text"),
    "System.Security.Cryptography",
)


class CSharp(Target):
    """A static method of a class; numbers and truths may be Nullable, every other type holds null anyway."""

    language = "csharp"
    terms = Terms(array="list", list="list", tuple="tuple", dictionary="dictionary", none="null")
    comment = "    // "

    def preamble(self) -> str:
        return "".join(f"using {each};\n" for each in _IMPORTS) + "class Problem {\n"

    def opening(self) -> str:
        parameters = ", ".join(f"{type_text(each.type)} {_name(each.name)}" for each in self.signature.parameters)
        result = type_text(self.signature.result)
        return f"    public static {result} {_title(self.signature.name)}({parameters}) {{\n"

    def before_tests(self) -> Sequence[str]:
        return ("    }", "    public static void Main(string[] args) {")

    def after_tests(self) -> Sequence[str]:
        return ("    }\n", "}\n")

    def assertion(self, call: str, expected: str) -> str:
        if self.signature.result.kind in _PRIMITIVE:
            return f"    Debug.Assert({call} == {expected});"
        return f"    Debug.Assert({call}.Equals({expected}));"

    def applied(self, function: str, arguments: Sequence[str]) -> str:
        return f"{_title(self.signature.name if function == CANDIDATE else function)}({', '.join(arguments)})"

    def argument(self, value: Value, type: Type) -> str:
        text = self.value(value, type)
        if type.kind in _PRIMITIVE and type_of_value(value) != type:
            return f"({type_text(type)}){text}"
        bare = value is None or type.kind == "any" or "Nullable<" in type_text(type)
        return text if bare else f"({text})"

    def expected(self, value: Value) -> str:
        return self.argument(value, self.signature.result)

    def value(self, value: Value, type: Type) -> str:
        if type.kind == "any" and isinstance(value, list | tuple | dict):
            type = known(type_of_value(value))
        return super().value(value, type)

    def literal(self, value: bool | int | float | str | None, type: Type) -> str:
        match value:
            case None:
                return "null"
            case bool():
                return str(value).lower()
            case str():
                return quoted(value)
            case int():
                return f"{number(value)}L"
            case float():
                return f"{number(value)}f"

    def list_of(self, items: Sequence[str], type: Type) -> str:
        item = type.items[0]
        array = f"new {type_text(item)}[]{{{', '.join(_cast(each, item) for each in items)}}}" if items else ""
        return f"new {type_text(type)}({array})"

    def tuple_of(self, items: Sequence[str], type: Type) -> str:
        if type.kind == "many":
            return self.list_of(items, type)
        typed = [
            _cast(text, item) if item.kind == "optional" else text for text, item in zip(items, type.items, strict=True)
        ]
        return f"Tuple.Create({', '.join(typed)})"

    def dict_of(self, pairs: Sequence[tuple[str, str]], type: Type) -> str:
        entries = f"{{{', '.join(f'{{{key}, {value}}}' for key, value in pairs)}}}" if pairs else ""
        return f"new {type_text(type)}(){entries}"


def type_text(type: Type) -> str:
    """A type as C# writes it."""
    match type:
        case Type(kind) if kind in _ATOMS:
            return _ATOMS[kind]
        case Type("list" | "many", (item,)):
            return f"List<{type_text(item)}>"
        case Type("tuple", items):
            return f"Tuple<{', '.join(map(type_text, items))}>"
        case Type("dict", (key, item)):
            return f"Dictionary<{type_text(key)},{type_text(item)}>"
        case Type("optional", (item,)):
            return f"Nullable<{type_text(item)}>" if item.kind in _PRIMITIVE else type_text(item)
        case _:
            raise no_type("C#", type)


def _cast(text: str, type: Type) -> str:
    """`text` as one of `type`; a type in brackets before a minus would be read as a subtraction unless a keyword."""
    if type == ANY:
        return text
    return f"({type_text(type)}){text if type.kind in _ATOMS or not text.startswith('-') else f'({text})'}"


def _title(name: str) -> str:
    return "".join(part.title() for part in name.split("_"))


def _name(name: str) -> str:
    return _RENAMED.get(name) or (f"@{name}" if name in _KEYWORDS else name)
