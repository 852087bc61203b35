"""What several C-like languages share: texts between double quotes, numbers of 64 bits, keywords, and refusals.

In goes a Python value, out comes its text in the target language. Knows nothing of problems.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from codechoir.translation.errors import Untranslatable
from codechoir.translation.types import Type

_SAID = {"any": "values of any type", "many": "tuples of any length", "none": "None alone"}
LINES_KEPT = {"\\": r"\\", '"': r"\"", "\r": r"\r", "\t": r"\t", "\n": "\n"}  # a literal may go on on the next line
ESCAPES = {**LINES_KEPT, "\n": r"\n"}


def words(text: str) -> frozenset[str]:
    """The words of a text: a language's keywords that are not Python's too, and so may be the names of parameters."""
    return frozenset(text.split())


def renamed(name: str, reserved: frozenset[str]) -> str:
    """A Python name, or where the language has another use for it the name with an underscore."""
    return f"{name}_" if name in reserved else name


def quoted(text: str, escapes: Mapping[str, str] = ESCAPES, control: str = r"\u{:04x}") -> str:
    """`text` between double quotes: characters as `escapes` has them, others that do not print in the form `control`.

    Raises Untranslatable for half of a surrogate pair, which no file of text can hold.
    """
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise Untranslatable("a text holds half of a surrogate pair")
    return '"' + "".join(escapes.get(c) or (c if _prints(c) else control.format(ord(c))) for c in text) + '"'


def _prints(character: str) -> bool:
    return character.isprintable() or ord(character) > 0xFFFF


def number(value: int | float) -> str:
    """A number as Python writes it. Raises Untranslatable for one that is no finite number of 64 bits."""
    if isinstance(value, float) and not math.isfinite(value):
        raise Untranslatable(f"{value} has no literal")
    if isinstance(value, int) and not -(2**63) < value < 2**63:
        raise Untranslatable(f"{value} does not fit into 64 bits")
    return repr(value)


def no_type(language: str, type: Type) -> Untranslatable:
    """What to raise for a type that the language, or MultiPL-E's form of it, cannot write."""
    return Untranslatable(f"{language} has no type for {_SAID.get(type.kind, f'{type.kind}s')}")
