"""PHP: what MultiPL-E's problems look like in it.

Owns the language's data and literals; `target.py` owns the order of prompt and tests. Knows nothing of Python's syntax.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from codechoir.translation.errors import Untranslatable
from codechoir.translation.languages.literals import number, quoted, words
from codechoir.translation.target import Target, Terms
from codechoir.translation.types import Type

_RESERVED = words(  # of functions; Python's too: PHP does not tell capitals apart
    "abstract and array as break callable case catch class clone const continue declare default die do echo else "
    "elseif empty enddeclare endfor endforeach endif endswitch endwhile eval exit extends final finally fn for foreach "
    "function global goto if implements include include_once instanceof insteadof interface isset list match namespace "
    "new or print private protected public require require_once return static switch throw trait try unset use var "
    "while xor yield"
)
# A dollar sign is escaped only where PHP would read a variable, which MultiPL-E lets it do.
_VARIABLE = re.compile(r"\$(?=[A-Za-z_{]|[^\x00-\x7f])|(?<=\{)\$")
_KEY = re.compile(r'"|-?\d+$')  # any other key would be cast to one of these


class Php(Target):
    """Lists, tuples and dicts are all arrays. The tests compare with ===: types and a dict's order count."""

    language = "php"
    terms = Terms(array="array", list="array", tuple="array", dictionary="array", none="null")

    def preamble(self) -> str:
        return "<?php\n"

    def described(self, description: str) -> str:
        # The closing tag ends PHP in a line comment too.
        return super().described(description.replace("?>", "? >"))

    def opening(self) -> str:
        parameters = ", ".join(_variable(each.name) for each in self.signature.parameters)
        return f"function {_named(self.signature.name)}({parameters}) {{\n"

    def before_tests(self) -> Sequence[str]:
        return (
            "function candidate(...$args) {",
            f"    return {_named(self.signature.name)}(...$args);",
            "}",
            "",
            "function test(): void {",
        )

    def after_tests(self) -> Sequence[str]:
        return ("}", "", "test();")

    def applied(self, function: str, arguments: Sequence[str]) -> str:
        return super().applied(_named(function), arguments)

    def assertion(self, call: str, expected: str) -> str:
        return f'    if ({call} !== {expected}) {{ throw new Exception("Test failed!"); }}'

    def literal(self, value: bool | int | float | str | None, type: Type) -> str:
        match value:
            case None:
                return "null"
            case bool():
                return str(value).lower()
            case str():
                return _VARIABLE.sub(r"\\$", quoted(value, control=r"\u{{{:x}}}"))
            case _:
                return number(value)

    def list_of(self, items: Sequence[str], type: Type) -> str:
        return f"array({', '.join(items)})"

    def dict_of(self, pairs: Sequence[tuple[str, str]], type: Type) -> str:
        if not all(_KEY.match(key) for key, _ in pairs):
            raise Untranslatable("an array's keys are strings or integers")
        return self.list_of([f"{key} => {value}" for key, value in pairs], type)


def _named(name: str) -> str:
    return f"{name}_" if name.lower() in _RESERVED else name


def _variable(name: str) -> str:
    return "$this_" if name == "this" else f"${name}"
