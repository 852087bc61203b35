"""C++: what MultiPL-E's problems look like in it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from codechoir.translation.languages.literals import no_type, number, quoted, renamed, words
from codechoir.translation.target import Target, Terms
from codechoir.translation.types import ANY, BOOL, FLOAT, INT, NONE, STR, Type, Value, known, type_of_value

_NAMES = {"operator": "op", "strlen": "string_length"}  # names that MultiPL-E knew C++ to have other uses for
_ATOMS = {INT: "long", FLOAT: "float", BOOL: "bool", STR: "std::string", NONE: "std::nullopt", ANY: "std::any"}
_RESERVED = words(
    "alignas alignof asm auto bool case catch char const constexpr decltype default delete do double enum explicit "
    "export extern false float friend goto inline int long mutable namespace new noexcept nullptr private protected "
    "public register short signed sizeof static struct switch template this throw true typedef typeid typename union "
    "unsigned using virtual void volatile xor"
)


class Cpp(Target):
    """Every value names its type; tuples of any length are vectors, unions are declared before the function."""

    language = "cpp"
    terms = Terms(array="vector", list="vector", tuple="tuple", dictionary="map", none="None")

    def preamble(self) -> str:
        types = [*(parameter.type for parameter in self.signature.parameters), self.signature.result]
        unions = dict.fromkeys(each for each in types if each.kind == "union")
        return "#include<assert.h>\n#include<bits/stdc++.h>\n" + "".join(map(self._declared, unions))

    def opening(self) -> str:
        if NONE in (self.signature.result, *(each.type for each in self.signature.parameters)):
            raise no_type("C++", NONE)
        parameters = (f"{self.type_name(each.type)} {named(each.name)}" for each in self.signature.parameters)
        return f"{self.type_name(self.signature.result)} {named(self.signature.name)}({', '.join(parameters)}) {{\n"

    def before_tests(self) -> Sequence[str]:
        return ("}", "int main() {", f"    auto candidate = {named(self.signature.name)};")

    def after_tests(self) -> Sequence[str]:
        return ("}\n",)

    def assertion(self, call: str, expected: str) -> str:
        return f"    assert({call} == {expected});"

    def applied(self, function: str, arguments: Sequence[str]) -> str:
        return super().applied(named(function), arguments)

    def type_name(self, type: Type) -> str:
        """The type's name."""
        names = [self.type_name(item) for item in type.items]
        match type.kind:
            case "list" | "many":
                return f"std::vector<{names[0]}>"
            case "tuple":
                return f"std::tuple<{', '.join(names)}>"
            case "dict":
                return f"std::map<{names[0]},{names[1]}>"
            case "optional":
                return f"std::optional<{names[0]}>"
            case "union":
                return re.sub("::|[<>]", "_", f"Union_{'_'.join(names)}")
            case _:
                return _ATOMS[type]

    def argument(self, value: Value, type: Type) -> str:
        text = self.value(value, type)
        if type.kind == "union" or "optional" in (type.kind, *(item.kind for item in type.items)):
            return text
        own = known(type_of_value(value))
        return f"({text})" if own not in _ATOMS or own == type else f"({self.type_name(type)}({text}))"

    def expected(self, value: Value) -> str:
        return self.argument(value, self.signature.result)

    def value(self, value: Value, type: Type) -> str:
        if type.kind in ("any", "union"):
            type = known(type_of_value(value))
        return super().value(value, type)

    def literal(self, value: bool | int | float | str | None, type: Type) -> str:
        match value:
            case None:
                return "std::nullopt"
            case bool():
                return str(value).lower()
            case str():
                return quoted(value)
            case float():
                return f"{number(value)}f"
            case int():
                return number(value)

    def list_of(self, items: Sequence[str], type: Type) -> str:
        name, item = self.type_name(type), type.items[0]
        cast = "" if item == ANY else f"({self.type_name(item)})"
        return f"{name}({{{', '.join(cast + each for each in items)}}})" if items else f"{name}()"

    def tuple_of(self, items: Sequence[str], type: Type) -> str:
        if type.kind == "many":
            return self.list_of(items, type)
        if _ATOMS[NONE] in items:
            pairs = zip(items, type.items, strict=True)
            items = [f"{self.type_name(item)}({each})" for each, item in pairs]
        return f"std::make_tuple({', '.join(items)})"

    def dict_of(self, pairs: Sequence[tuple[str, str]], type: Type) -> str:
        texts = ", ".join(f"{{{key}, {value}}}" for key, value in pairs)
        return f"{self.type_name(type)}({{{texts}}})" if pairs else f"{self.type_name(type)}()"

    def _declared(self, union: Type) -> str:
        """A union that is made of and compared with each of its members."""
        name = self.type_name(union)
        members = [f"{self.type_name(item)}{'_t' if item == NONE else ''}" for item in union.items]
        fields = "\n".join(f"    {member} f{place};" for place, member in enumerate(members))
        makers = "".join(f"    {name}({each} _f{at}) : f{at}(_f{at}) {{}}\n" for at, each in enumerate(members))
        compared = "".join(
            f"    bool operator==({member} f) {{\n        return f{place} == f ;\n    }}"
            for place, member in enumerate(members)
        )
        return f"union {name}{{\n{fields}{makers}    ~{name}() {{}}\n{compared}\n}};\n"


def named(name: str) -> str:
    """A Python name as a name in C++."""
    return _NAMES.get(name, renamed(name, _RESERVED))
