"""Java: what MultiPL-E's problems look like in it."""

from __future__ import annotations

from collections.abc import Sequence

from codechoir.translation.languages.literals import no_type, number, quoted, renamed, words
from codechoir.translation.target import CANDIDATE, Target, Terms
from codechoir.translation.types import ANY, BOOL, FLOAT, INT, STR, Type, Value, dict_of, known, type_of_value

_IMPORTS = ("java.util", "java.lang.reflect", "org.javatuples", "java.security", "java.math", "java.io")
_PRIMITIVE = {INT: "long", FLOAT: "float", BOOL: "boolean"}
_BOXED = {INT: "Long", FLOAT: "Float", BOOL: "Boolean", STR: "String", ANY: "Object"}
_EMPTY = "Optional.empty()"
_RESERVED = words(
    "abstract boolean byte case catch char const default do double enum extends false final float goto implements "
    "instanceof int interface long native new null package private protected public short static strictfp super switch "
    "synchronized this throw throws transient true void volatile"
)


class Java(Target):
    """A method of a class, in camel case; tuples are javatuples' pairs, primitive values are compared with ==."""

    language = "java"
    terms = Terms(array="array list", list="array list", tuple="pair", dictionary="hash map", none="null")
    comment = "    // "

    def preamble(self) -> str:
        imports = "".join(f"import {package}.*;\n" for package in (*_IMPORTS, "java.util.stream"))
        return f"{imports}class Problem {{\n"

    def opening(self) -> str:
        parameters = (
            f"{self.type_name(each.type)} {renamed(each.name, _RESERVED)}" for each in self.signature.parameters
        )
        name = camel_case(self.signature.name)
        return f"    public static {self.type_name(self.signature.result)} {name}({', '.join(parameters)}) {{\n"

    def before_tests(self) -> Sequence[str]:
        return ("    }", "    public static void main(String[] args) {")

    def after_tests(self) -> Sequence[str]:
        return ("    }\n", "}\n")

    def assertion(self, call: str, expected: str) -> str:
        if self.signature.result in _PRIMITIVE:
            return f"    assert({call} == {expected});"
        return f"    assert({call}.equals({expected}));"

    def applied(self, function: str, arguments: Sequence[str]) -> str:
        name = self.signature.name if function == CANDIDATE else function
        return super().applied(camel_case(name), arguments)

    def type_name(self, type: Type, *, boxed: bool = False) -> str:
        """The type's name; `boxed` as a type parameter has it."""
        names = [self.type_name(item, boxed=True) for item in type.items]
        match type.kind:
            case "list" | "many":
                return f"ArrayList<{names[0]}>"
            case "tuple":
                return f"Pair<{', '.join(names)}>"
            case "dict":
                return f"HashMap<{names[0]},{names[1]}>"
            case "optional":
                return f"Optional<{names[0]}>"
            case "union" | "none":
                raise no_type("Java", type)
            case _:
                return _BOXED[type] if boxed or type not in _PRIMITIVE else _PRIMITIVE[type]

    def argument(self, value: Value, type: Type) -> str:
        text = self.value(value, type)
        if type in _PRIMITIVE and type_of_value(value) != type:
            return f"({self.type_name(type)}){text}"
        return text if "optional" in (type.kind, *(item.kind for item in type.items)) else f"({text})"

    def expected(self, value: Value) -> str:
        return self.argument(value, self.signature.result)

    def value(self, value: Value, type: Type) -> str:
        if type.kind == "optional" and value is not None:
            return f"Optional.of({self.value(value, type.items[0])})"
        return super().value(value, known(type_of_value(value)) if type == ANY else type)

    def literal(self, value: bool | int | float | str | None, type: Type) -> str:
        match value:
            case None:
                return _EMPTY
            case bool():
                return str(value).lower()
            case str():
                return quoted(value)
            case float():
                return f"{number(value)}f"
            case int():
                return f"{number(value)}l"

    def list_of(self, items: Sequence[str], type: Type) -> str:
        item = type.items[0]
        cast = "" if item == ANY else f"({self.type_name(item)})"
        return f"new {self.type_name(type)}(Arrays.asList({', '.join(cast + each for each in items)}))"

    def tuple_of(self, items: Sequence[str], type: Type) -> str:
        if type.kind == "many":
            return self.list_of(items, type)
        return f"Pair.with({', '.join(items)})"

    def dict_of(self, pairs: Sequence[tuple[str, str]], type: Type) -> str:
        texts = ", ".join(f"{key}, {value}" for key, value in pairs)
        filled = pairs or type == dict_of(INT, INT)  # an empty map is Map.of() only where nothing told its type
        return f"new {self.type_name(type)}({f'Map.of({texts})' if filled else ''})"


def camel_case(name: str) -> str:
    """A name as Java's methods have it."""
    first, *rest = name.split("_")
    return renamed(first + "".join(word.title() for word in rest), _RESERVED)
