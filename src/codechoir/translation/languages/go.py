"""Go: what MultiPL-E's problems look like in it.

Results are compared by what `%v` prints of them, so a tuple may be a slice of `interface{}`.
"""

from __future__ import annotations

from collections.abc import Sequence

from codechoir.translation.languages.literals import no_type, number, quoted, words
from codechoir.translation.target import Target, Terms
from codechoir.translation.types import ANY, UNKNOWN, Type, Value, type_of_value

_ATOMS = {"int": "int", "float": "float64", "bool": "bool", "str": "string", "any": "interface{}"}
_RENAMED = words(  # predeclared types that a parameter must not hide, and keywords
    "string int float bool case chan const default defer fallthrough func go goto interface map package range "
    "select struct switch type var"
)


class Go(Target):
    """One file of a package of tests; tuples are slices of anything, dicts are maps, nothing is optional."""

    language = "go"
    terms = Terms(array="list", list="list", tuple="list", dictionary="map", none="nil")

    def preamble(self) -> str:
        return f'package {self.signature.name}_test\n\nimport (\n    "testing"\n    "fmt"\n)\n\n'

    def opening(self) -> str:
        parameters = ", ".join(f"{_name(each.name)} {type_text(each.type)}" for each in self.signature.parameters)
        return f"func {self.signature.name}({parameters}) {type_text(self.signature.result)} {{\n"

    def before_tests(self) -> Sequence[str]:
        return (
            f"func Test{self.signature.name.title()}(t *testing.T) {{",
            f"  candidate := {self.signature.name}",
            "\ttype test struct {",
            "\t\tactual   interface{}",
            "\t\texpected interface{}",
            "\t}",
            "   tests := []test{",
        )

    def after_tests(self) -> Sequence[str]:
        return (
            "   }\n",
            "\tfor i, tc := range tests {",
            '\t\tt.Run(fmt.Sprintf("test num % d", i), func(t *testing.T) {',
            '\t\t\tif fmt.Sprintf("%v", tc.actual) != fmt.Sprintf("%v", tc.expected) {',
            "\t\t\t\tt.Errorf(\"expected '%s', got '%s'\", tc.expected, tc.actual)",
            "\t\t\t}",
            "\t\t})",
            "\t}",
            "}\n",
        )

    def assertion(self, call: str, expected: str) -> str:
        return f"     {{ actual: {call}, expected: {expected} }},"

    def value(self, value: Value, type: Type) -> str:
        if type.kind == "any" and isinstance(value, list | dict):
            type = _known(type_of_value(value))
        return super().value(value, type)

    def literal(self, value: bool | int | float | str | None, type: Type) -> str:
        match value:
            case None:
                return "nil"
            case bool():
                return str(value).lower()
            case str():
                return quoted(value)
            case _:
                return number(value)

    def list_of(self, items: Sequence[str], type: Type) -> str:
        return f"{type_text(type)}{{{', '.join(items)}}}"

    def tuple_of(self, items: Sequence[str], type: Type) -> str:
        return f"[]interface{{}}{{{', '.join(items)}}}"

    def dict_of(self, pairs: Sequence[tuple[str, str]], type: Type) -> str:
        return f"{type_text(type)}{{{', '.join(f'{key}: {value}' for key, value in pairs)}}}"


def type_text(type: Type) -> str:
    """A type as Go writes it."""
    match type:
        case Type(kind) if kind in _ATOMS:
            return _ATOMS[kind]
        case Type("list", (item,)):
            return f"[]{type_text(item)}"
        case Type("tuple" | "many"):
            return "[]interface{}"
        case Type("dict", (key, item)):
            return f"map[{type_text(key)}]{type_text(item)}"
        case _:
            raise no_type("Go", type)


def _known(type: Type) -> Type:
    """`type` with what nothing is known of taken for anything."""
    return ANY if type == UNKNOWN else Type(type.kind, tuple(map(_known, type.items)))


def _name(name: str) -> str:
    return f"my{name.title()}" if name in _RENAMED else name
