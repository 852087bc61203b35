"""Python itself: problems in MultiPL-E's form of it.

In go a problem's signature and values, out come a documented function and tests of bare assertions. Knows nothing of
the text the problem was read from.
"""

from __future__ import annotations

from collections.abc import Sequence

from codechoir.translation.problem import PythonProblem
from codechoir.translation.target import Target, Terms
from codechoir.translation.types import Type, Value

_ATOMS = {"any": "Any", "none": "None"}
_GENERIC = {"list": "List", "tuple": "Tuple", "many": "Tuple", "dict": "Dict", "optional": "Optional", "union": "Union"}


class Python(Target):
    """Values and words stay as they are; types are those that were inferred."""

    language = "python"
    terms = Terms(array="", list="", tuple="", dictionary="", none="", true="", false="")

    def preamble(self) -> str:
        types = [parameter.type for parameter in self.signature.parameters] + [self.signature.result]
        names = dict.fromkeys(name for type in types for name in _imports(type))
        return f"from typing import {', '.join(names)}\n\n" if names else ""

    def prompt(self, problem: PythonProblem) -> str:
        return f"{self.preamble()}{self.opening()}{self.described(self._text(problem))}"

    def described(self, description: str) -> str:
        text = description.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
        return f'    """{text}"""\n'

    def opening(self) -> str:
        parameters = ", ".join(f"{parameter.name}: {_type(parameter.type)}" for parameter in self.signature.parameters)
        return f"def {self.signature.name}({parameters}) -> {_type(self.signature.result)}:\n"

    def before_tests(self) -> Sequence[str]:
        return ("def check(candidate):",)

    def after_tests(self) -> Sequence[str]:
        return ("", "def test_check():", f"    check({self.signature.name})", "", "test_check()", "")

    def assertion(self, call: str, expected: str) -> str:
        return f"    assert {call} == {expected}"

    def value(self, value: Value, type: Type) -> str:
        if isinstance(value, dict):
            return f"{{ {', '.join(f'{key!r}: {each!r}' for key, each in value.items())} }}"
        return repr(value)


def _imports(type: Type) -> list[str]:
    """The names that a type needs from `typing`, outermost first."""
    own = ["Any"] if type.kind == "any" else [_GENERIC[type.kind]] if type.kind in _GENERIC else []
    return own + [name for item in type.items for name in _imports(item)]


def _type(type: Type) -> str:
    items = [_type(item) for item in type.items] + ["..."] * (type.kind == "many")
    name = _GENERIC.get(type.kind) or _ATOMS.get(type.kind, type.kind)
    return f"{name}[{', '.join(items)}]" if items else name
