"""Bash: what MultiPL-E's problems look like in it.

In go a problem's signature and values, out come Bash's texts. Everything is a string there, so a value becomes one
quoted text whose encoding is told to the model by a line on each parameter. Knows nothing of what a shell's own arrays
could hold.
"""

from __future__ import annotations

from collections.abc import Sequence

from codechoir.translation.errors import Untranslatable
from codechoir.translation.target import Target, Terms
from codechoir.translation.types import Type, Value

# MultiPL-E writes `\!` although the backslash stays in the text then; argument and result agree in it.
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"', "$": "\\$", "!": "\\!", "`": "\\`"})
_SPOKEN = {
    "int": "an integer",
    "float": "a floating point",
    "str": "a string",
    "tuple": "a space-separated list",
    "many": "a space-separated list",
    "dict": "a two column CSV in key,value order",
    "bool": "a $bool",  # so in MultiPL-E
    "any": "a $Any",
}
_PLAIN = ("int", "float", "str", "bool", "any")


class Shell(Target):
    """Lists are words, lists of lists are lines of words, dicts are lines of `key,value`; a line ends in `\\n`."""

    language = "shell"
    terms = Terms(array="array", list="list", tuple="list", dictionary="CSV", none="")
    comment = "# "

    def preamble(self) -> str:
        return "#!/bin/bash\n"

    def opening(self) -> str:
        encodings = [
            f"# ${place} is {_spoken(parameter.type)}\n" for place, parameter in enumerate(self.signature.parameters, 1)
        ]
        return "".join(["#\n" if encodings else "", *encodings, f"{self.signature.name}() {{\n"])

    def before_tests(self) -> Sequence[str]:
        return ("}", "", "candidate() {", f'    {self.signature.name} "$@"', "}", "", "set -e", "run_test() {")

    def after_tests(self) -> Sequence[str]:
        return ("}", "", "run_test")

    def assertion(self, call: str, expected: str) -> str:
        return f"    [[ {call} = {expected} ]]"

    def applied(self, function: str, arguments: Sequence[str]) -> str:
        return f"$({function} {' '.join(arguments)})"

    def value(self, value: Value, type: Type) -> str:
        return f'"{_encoded(value)}"'


def _spoken(type: Type) -> str:
    """How a parameter is encoded, in words."""
    if type.kind == "list":
        lines = "" if type.items[0].kind in _PLAIN else "newline-separated, "
        return f"a {lines}space-separated list"
    return _SPOKEN.get(type.kind, "an argument")


def _encoded(value: Value) -> str:
    """The text of a value between the quotes. Raises Untranslatable where the encoding could not be read back."""
    match value:
        case list() | tuple():
            return _words(value)
        case dict():
            return "\\n".join(f"{_word(key)},{_word(item)}" for key, item in value.items())
        case bool():
            return str(value).lower()
        case str():
            return value.translate(_ESCAPES)
        case _:
            return repr(value)


def _words(values: Sequence[Value]) -> str:
    nested = [each for each in values if isinstance(each, list | tuple)]
    if nested and len(nested) == len(values):
        if not any(_is_scalar(item) for each in nested for item in each):
            raise Untranslatable("a Bash text has no place for lists nested in more than two layers, or empty within")
        return "\\n".join(map(_words, nested))
    if values and all(isinstance(each, dict) for each in values):
        raise Untranslatable("a Bash text has no place for dicts in a list")
    return " ".join("" if each in ([], (), {}) else _word(each) for each in values)


def _word(value: Value) -> str:
    if not _is_scalar(value):
        raise Untranslatable("a Bash text has no place for a list or dict among scalars or in a dict")
    text = _encoded(value)
    if any(space in text for space in " \t\r"):
        raise Untranslatable("a Bash list has no elements with white space")
    return text


def _is_scalar(value: Value) -> bool:
    return not isinstance(value, list | tuple | dict)
