"""Lua: what MultiPL-E's problems look like in it.

Owns the language's data and literals; `target.py` owns the order of prompt and tests. Knows nothing of Python's syntax.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from codechoir.translation.errors import Untranslatable
from codechoir.translation.languages.literals import number, renamed, words
from codechoir.translation.target import Target, Terms
from codechoir.translation.types import Type

_RESERVED = words("do else elseif end false function goto local nil repeat then true until")
_SPECIAL = re.compile(r"[\\'\"\x00-\x1f\x7f\ud800-\udfff]")
_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t", "\\": r"\\"}


class Lua(Target):
    """Lists, tuples and dicts are all tables. Strings are quoted as Python quotes them."""

    language = "lua"
    terms = Terms(array="table", list="table", tuple="table", dictionary="table", none="nil")
    comment = "-- "

    def opening(self) -> str:
        parameters = ", ".join(renamed(each.name, _RESERVED) for each in self.signature.parameters)
        return f"local function {renamed(self.signature.name, _RESERVED)}({parameters})\n"

    def before_tests(self) -> Sequence[str]:
        return (
            "lu = require('luaunit')",
            "",
            "function test_humaneval()",
            f"local candidate = {renamed(self.signature.name, _RESERVED)}",
        )

    def after_tests(self) -> Sequence[str]:
        return ("end", "", "os.exit(lu.LuaUnit.run())")

    def applied(self, function: str, arguments: Sequence[str]) -> str:
        return super().applied(renamed(function, _RESERVED), arguments)

    def assertion(self, call: str, expected: str) -> str:
        return f"    lu.assertEquals({call}, {expected})"

    def literal(self, value: bool | int | float | str | None, type: Type) -> str:
        match value:
            case None:
                return "None"  # as MultiPL-E has it: a name that nothing defines, and so nil
            case bool():
                return str(value).lower()
            case str():
                return _string(value)
            case _:
                return number(value)

    def list_of(self, items: Sequence[str], type: Type) -> str:
        return f"{{{', '.join(items)}}}"

    def dict_of(self, pairs: Sequence[tuple[str, str]], type: Type) -> str:
        if any(key == "None" or key.startswith("{") for key, _ in pairs):
            raise Untranslatable("a table's keys are neither nil nor told apart by what other tables hold")
        return self.list_of([f"[{key}] = {value}" for key, value in pairs], type)


def _string(value: str) -> str:
    quote = '"' if "'" in value and '"' not in value else "'"

    def escaped(match: re.Match[str]) -> str:
        character = match[0]
        if character > "\x7f":
            raise Untranslatable("a text holds half of a surrogate pair")
        if character in "'\"":
            return f"\\{character}" if character == quote else character
        return _ESCAPES.get(character) or f"\\x{ord(character):02x}"

    return f"{quote}{_SPECIAL.sub(escaped, value)}{quote}"
