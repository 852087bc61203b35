"""Ruby: what MultiPL-E's problems look like in it.

Owns the language's data and literals; `target.py` owns the order of prompt and tests. Knows nothing of Python's syntax.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from codechoir.translation.languages.literals import LINES_KEPT, number, quoted, renamed, words
from codechoir.translation.target import Target, Terms
from codechoir.translation.types import Type

_RESERVED = words(  # Python's too: parameters lose their capitals
    "alias and begin break case class def do else elsif end ensure false for if in module next nil not or redo "
    "rescue retry return self super then true undef unless until when while yield"
)
# A # is escaped only where Ruby would read a variable or an expression after it, which MultiPL-E lets it do.
_INTERPOLATED = re.compile(r"#(?=[{$@])")


class Ruby(Target):
    """Tuples are arrays, dicts are hashes. A function is a Method object, called by `.call` in the examples too."""

    language = "ruby"
    terms = Terms(array="array", list="array", tuple="array", dictionary="hash", none="nil")
    comment = "# "

    def opening(self) -> str:
        # A parameter that begins with a capital letter would be a constant.
        parameters = ", ".join(renamed(each.name.lower(), _RESERVED) for each in self.signature.parameters)
        return f"def {renamed(self.signature.name, _RESERVED)}({parameters})\n"

    def before_tests(self) -> Sequence[str]:
        return (
            "require 'test/unit'",
            "class TestHumanEval < Test::Unit::TestCase",
            f"  def test_{self.signature.name}",
            f"    candidate = method(:{renamed(self.signature.name, _RESERVED)})",
        )

    def after_tests(self) -> Sequence[str]:
        return ("  end", "end", "")

    def applied(self, function: str, arguments: Sequence[str]) -> str:
        return f"{renamed(function, _RESERVED)}.call({', '.join(arguments)})"

    def assertion(self, call: str, expected: str) -> str:
        return f"    assert_equal({expected}, {call})"

    def literal(self, value: bool | int | float | str | None, type: Type) -> str:
        match value:
            case None:
                return "nil"
            case bool():
                return str(value).lower()
            case str():
                return _INTERPOLATED.sub(r"\\#", quoted(value, LINES_KEPT, control=r"\u{{{:x}}}"))
            case _:
                return number(value)

    def list_of(self, items: Sequence[str], type: Type) -> str:
        return f"[{', '.join(items)}]"

    def dict_of(self, pairs: Sequence[tuple[str, str]], type: Type) -> str:
        return "{" + ", ".join(f"{key} => {value}" for key, value in pairs) + "}"
