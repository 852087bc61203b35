"""R: what MultiPL-E's problems look like in it.

In go a problem's signature and values, out come R's texts. Knows nothing of types, as R's functions declare none:
whether a list is a vector is told by its values.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from codechoir.translation.errors import Untranslatable
from codechoir.translation.target import Target, Terms
from codechoir.translation.types import ANY, Type, Value

_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)
_RESERVED = frozenset(
    ("repeat", "function", "next", "TRUE", "FALSE", "NULL", "Inf", "NaN", "NA")
)  # no keyword of Python's
_ESCAPE = re.compile(r"\\(?:x(..)|.)")  # of Python's repr


class R(Target):
    """What is of one kind is a vector, all else a list; None is NULL, a dict is a named list."""

    language = "r"
    code: ClassVar[str] = "r"
    stop_tokens: ClassVar[tuple[str, ...]] = ("\n#", "\n```")
    terms = Terms(
        array="vector", list="list", tuple="list", dictionary="named list", none="NULL", true="TRUE", false="FALSE"
    )
    comment = "# "

    def opening(self) -> str:
        names = ", ".join(_name(parameter.name) for parameter in self.signature.parameters)
        return f"{_name(self.signature.name)} <- function({names}) {{"

    def before_tests(self) -> Sequence[str]:
        return ("test_humaneval <- function() {", f"    candidate <- {_name(self.signature.name)}")

    def after_tests(self) -> Sequence[str]:
        return ("}", "test_humaneval()")

    def assertion(self, call: str, expected: str) -> str:
        return f"    stopifnot(isTRUE(all.equal({call}, {expected})))"

    def applied(self, function: str, arguments: Sequence[str]) -> str:
        return super().applied(_name(function), arguments)

    def value(self, value: Value, type: Type) -> str:
        match value:
            case list() | tuple():
                kinds = {_kind(each) for each in value}
                together = "list" if "" in kinds or len(kinds) > 1 else "c"
                return f"{together}({', '.join(self.value(each, ANY) for each in value)})"
            case dict():
                return f"list({', '.join(f'{self._key(key)} = {self.value(v, ANY)}' for key, v in value.items())})"
            case _:
                return self.literal(value, type)

    def _key(self, key: Value) -> str:
        if key == "":
            raise Untranslatable("R has no empty names in a list")
        return self.literal(key if isinstance(key, str) else self.value(key, ANY), ANY)

    def literal(self, value: Value, type: Type) -> str:
        match value:
            case None:
                return "NULL"
            case bool():
                return str(value).upper()
            case str() if "\0" in value:
                raise Untranslatable("R has no strings with a NUL in them")
            case str():
                # \x is a byte in R, a character in Python.
                return _ESCAPE.sub(lambda found: rf"\u00{found[1]}" if found[1] else found[0], repr(value))
            case _:
                return repr(value)


def _kind(value: Value) -> str:
    """What a vector's elements must share; empty where the value cannot be in a vector."""
    match value:
        case bool():
            return "logical"
        case int() | float():
            return "numeric"
        case str():
            return "character"
        case _:
            return ""


def _name(name: str) -> str:
    """A name as R takes it: one that is no plain name there stands in backticks."""
    return name if _NAME.fullmatch(name) and name not in _RESERVED else f"`{name}`"
