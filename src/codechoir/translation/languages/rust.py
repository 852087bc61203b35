"""Rust: what MultiPL-E's problems look like in it."""

from __future__ import annotations

from collections.abc import Sequence

from codechoir.translation.languages.literals import LINES_KEPT, no_type, number, quoted, words
from codechoir.translation.target import Target, Terms
from codechoir.translation.types import Type, Value

_ATOMS = {"int": "isize", "float": "f64", "bool": "bool", "str": "String"}
_KEYWORDS = words(
    "const dyn enum extern fn impl let loop match mod move mut pub ref static struct trait type unsafe use "
    "where abstract become box do final macro override priv typeof unsized virtual"
)
_CONTROL = r"\u{{{:x}}}"


class Rust(Target):
    """Owned values throughout: String, Vec, HashMap, Option; tuples are tuples."""

    language = "rust"
    terms = Terms(array="vector", list="vector", tuple="tuple", dictionary="HashMap", none="None")
    comment = "/// "

    def preamble(self) -> str:
        types = [self.signature.result, *(each.type for each in self.signature.parameters)]
        return "use std::collections::HashMap;\n\n" if any("HashMap" in type_text(type) for type in types) else ""

    def opening(self) -> str:
        parameters = ", ".join(f"{_name(each.name)}: {type_text(each.type)}" for each in self.signature.parameters)
        return f"fn {self.signature.name}({parameters}) -> {type_text(self.signature.result)} {{\n"

    def before_tests(self) -> Sequence[str]:
        return ("}", "", "fn main() {", f"    let candidate = {self.signature.name};")

    def after_tests(self) -> Sequence[str]:
        return ("}\n",)

    def assertion(self, call: str, expected: str) -> str:
        return f"    assert_eq!({call}, {expected});"

    def argument(self, value: Value, type: Type) -> str:
        return _with_type(self.value(value, type), type)

    def expected(self, value: Value) -> str:
        return _with_type(super().expected(value), self.signature.result)

    def value(self, value: Value, type: Type) -> str:
        text = super().value(value, type)
        return f"Some({text})" if type.kind == "optional" and value is not None else text

    def literal(self, value: bool | int | float | str | None, type: Type) -> str:
        match value:
            case None:
                return "None"
            case bool():
                return str(value).lower()
            case str():
                return f"String::from({quoted(value, LINES_KEPT, _CONTROL)})"
            case int() if type.kind == "float":
                return f"{number(value)}.0"
            case _:
                return number(value)

    def list_of(self, items: Sequence[str], type: Type) -> str:
        return f"vec![{', '.join(items)}]"

    def tuple_of(self, items: Sequence[str], type: Type) -> str:
        return f"({', '.join(items)}{',' * (len(items) == 1)})"

    def dict_of(self, pairs: Sequence[tuple[str, str]], type: Type) -> str:
        return f"HashMap::from([{', '.join(f'({key}, {value})' for key, value in pairs)}])"


def type_text(type: Type) -> str:
    """A type as Rust writes it."""
    match type:
        case Type(kind) if kind in _ATOMS:
            return _ATOMS[kind]
        case Type("list", (item,)):
            return f"Vec<{type_text(item)}>"
        case Type("tuple", items):
            return f"({', '.join(map(type_text, items))}{',' * (len(items) == 1)})"
        case Type("dict", (key, item)):
            return f"HashMap<{type_text(key)}, {type_text(item)}>"
        case Type("optional", (item,)):
            return f"Option<{type_text(item)}>"
        case _:
            raise no_type("Rust", type)


def _with_type(text: str, type: Type) -> str:
    """An empty vector alone says nothing of its elements, so its type goes with it."""
    return f"Vec::<{type_text(type.items[0])}>::new()" if text == "vec![]" and type.kind == "list" else text


def _name(name: str) -> str:
    return f"r#{name}" if name in _KEYWORDS else name
