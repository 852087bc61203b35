"""Racket: what MultiPL-E's problems look like in it.

In go a problem's signature and values, out come Racket's texts. Knows nothing of types, as Racket's functions declare
none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from codechoir.translation.target import Target, Terms
from codechoir.translation.types import Type


class Racket(Target):
    """Tuples are lists, dicts are hashes; None is #f."""

    language = "racket"
    code: ClassVar[str] = "rkt"
    stop_tokens: ClassVar[tuple[str, ...]] = ("\n(define ", "\n#|", "\n;", "\n(")
    terms = Terms(array="list", list="list", tuple="list", dictionary="hash", none="#f", true="#t", false="#f")
    comment = ";; "

    def preamble(self) -> str:
        return "#lang racket\n\n"

    def opening(self) -> str:
        names = " ".join(parameter.name for parameter in self.signature.parameters)
        return f"(define ({self.signature.name} {names})\n"

    def before_tests(self) -> Sequence[str]:
        return ("(require rackunit)", "", "(define (test-humaneval) \n", f"  (let (( candidate {self.signature.name}))")

    def after_tests(self) -> Sequence[str]:
        return ("))", "", "(test-humaneval)")

    def assertion(self, call: str, expected: str) -> str:
        return f"    (check-within {call} {expected} 0.001)"

    def applied(self, function: str, arguments: Sequence[str]) -> str:
        return f"({function} {' '.join(arguments)})"

    def literal(self, value: bool | int | float | str | None, type: Type) -> str:
        match value:
            case None | False:
                return "#f"
            case True:
                return "#t"
            case str():
                quoted = value.replace("\\", "\\\\").replace('"', '\\"')
                return f'"{quoted}"'
            case _:
                return repr(value)

    def list_of(self, items: Sequence[str], type: Type) -> str:
        return f"(list {' '.join(items)})"

    def dict_of(self, pairs: Sequence[tuple[str, str]], type: Type) -> str:
        if any(text.startswith("(") for pair in pairs for text in pair):  # what must be evaluated has no place in #hash
            return f"(hash {' '.join(text for pair in pairs for text in pair)})"
        return f"#hash({' '.join(f'({key} .  {value})' for key, value in pairs)})"
