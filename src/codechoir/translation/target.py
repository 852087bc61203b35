"""The base of every target language: how one Python problem becomes prompt and tests there.

A language is a subclass with a few data fields and small methods (docs/translate.md). One instance serves one problem,
so `self.signature` is at hand everywhere. In goes a `PythonProblem`; out come the texts of a `records.Problem`.
Knows nothing of Python's syntax (`reading.py` does) and nothing of files.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import ClassVar

from codechoir.languages import language
from codechoir.translation.errors import Untranslatable
from codechoir.translation.problem import Assertion, Example, PythonProblem, Signature
from codechoir.translation.types import ANY, Type, Value

CANDIDATE = "candidate"  # the function's name in the tests


@dataclass(frozen=True, slots=True)
class Terms:
    """What the language calls Python's things; an empty text leaves the Python word in place."""

    array: str
    list: str
    tuple: str
    dictionary: str
    none: str
    true: str = "true"
    false: str = "false"

    def reword(self, prose: str) -> str:
        """`prose` in the language's own words, with the article that suits them.

        Just as MultiPL-E does it, so that prompts equal its own: term by term over what the terms before have become,
        and once more over a term whose article was changed. Java's "a list" comes out as "an array array list".
        """
        for python, own in zip(_PYTHON, astuple(self), strict=True):
            if not own or own == python:
                continue
            vowel = own[0].lower() in _VOWELS
            if f"an {python}" in prose and not vowel:
                prose = prose.replace(f"an {python}", f"a {own}")
            elif f"a {python}" in prose and vowel:
                prose = prose.replace(f"a {python}", f"an {own}")
            prose = prose.replace(python, own)
        return prose


_PYTHON = ("array", "list", "tuple", "dictionary", "None", "True", "False")
_VOWELS = "aeiou"


class Target(ABC):
    """One problem on its way into one language. A subclass gives the methods marked *required*."""

    language: ClassVar[str]  # Language.id; languages.py has MultiPL-E's code and stop tokens
    terms: ClassVar[Terms]
    comment: ClassVar[str] = "// "  # begins every line of the description after the first
    comment_first: ClassVar[str] = ""  # begins its first line; empty: as `comment`

    def __init__(self, signature: Signature) -> None:
        self.signature = signature

    # The prompt: preamble, description, opening.

    def preamble(self) -> str:
        """What stands before the description, with its end of line."""
        return ""

    @abstractmethod
    def opening(self) -> str:
        """The function's first line, with its end of line; what a model writes comes right after it."""

    def prompt(self, problem: PythonProblem) -> str:
        """The whole prompt."""
        return f"{self.preamble()}{self.described(self._text(problem))}{self.opening()}"

    def described(self, description: str) -> str:
        """The description as a comment, with its end of line."""
        first = self.comment_first or self.comment
        return first + re.sub(r"\n\s*", lambda _: "\n" + self.comment, description.strip()) + "\n"

    def _text(self, problem: PythonProblem) -> str:
        pieces = []
        for piece in problem.description:
            if isinstance(piece, Example):
                call = self.call(piece.function, piece.assertion.arguments)
                pieces.append(f"    >>> {call}\n    {self.shown(piece.assertion.expected)}\n")
            else:
                pieces.append(self._reworded(piece))
        return "".join(pieces)

    def _reworded(self, prose: str) -> str:
        """`prose` in the language's words; the function's own name stays whole (`sort_list`)."""
        pieces = re.split(rf"(\b{re.escape(self.signature.name)}\b)", prose)
        pieces[::2] = map(self._prose, pieces[::2])
        return "".join(pieces)

    def _prose(self, prose: str) -> str:
        return re.sub(r"\b[Pp]ython\b", lambda _: language(self.language).stack_name, self.terms.reword(prose))

    # The tests: before, one line for each assertion, after.

    @abstractmethod
    def before_tests(self) -> Sequence[str]:
        """The lines between the function and the assertions."""

    def after_tests(self) -> Sequence[str]:
        """The lines after the assertions."""
        return ()

    @abstractmethod
    def assertion(self, call: str, expected: str) -> str:
        """The line that holds `call` against `expected`."""

    def tests(self, assertions: Sequence[Assertion]) -> str:
        """All tests. Raises Untranslatable where one has a value that cannot be said."""
        calls = ((self.call(CANDIDATE, each.arguments), self.expected(each.expected)) for each in assertions)
        lines = [self.assertion(call, expected) for call, expected in calls]
        return "\n".join([*self.before_tests(), *lines, *self.after_tests()])

    # Values.

    def call(self, function: str, arguments: Sequence[Value]) -> str:
        """A call of the function: `function` is CANDIDATE in the tests, its own name in the description."""
        parameters = self.signature.parameters
        if len(arguments) > len(parameters):
            raise Untranslatable("a call has more arguments than the function has parameters")
        texts = [self.argument(value, parameter.type) for value, parameter in zip(arguments, parameters, strict=False)]
        return self.applied(function, texts)

    def applied(self, function: str, arguments: Sequence[str]) -> str:
        """The text of a call, of the arguments' texts."""
        return f"{function}({', '.join(arguments)})"

    def argument(self, value: Value, type: Type) -> str:
        """A value as an argument of a parameter of this type."""
        return self.value(value, type)

    def expected(self, value: Value) -> str:
        """A value as what the function is to give."""
        return self.value(value, self.signature.result)

    def shown(self, value: Value) -> str:
        """A value as what an example in the description says that the function gives."""
        return self.expected(value)

    def value(self, value: Value, type: Type) -> str:
        """A value where one of `type` is expected; `type` is ANY where nothing better is known."""
        if type.kind == "optional" and value is not None:
            type = type.items[0]
        match value:
            case list():
                item = type.items[0] if type.kind in ("list", "many") else ANY
                return self.list_of([self.value(each, item) for each in value], type)
            case tuple():
                items = type.items if type.kind == "tuple" and len(type.items) == len(value) else None
                item = type.items[0] if type.kind == "many" else ANY
                texts = [self.value(each, items[place] if items else item) for place, each in enumerate(value)]
                return self.tuple_of(texts, type)
            case dict():
                key, item = type.items if type.kind == "dict" else (ANY, ANY)
                return self.dict_of([(self.value(k, key), self.value(v, item)) for k, v in value.items()], type)
            case _:
                return self.literal(value, type)

    def literal(self, value: bool | int | float | str | None, type: Type) -> str:
        """A value without parts. Raises Untranslatable for one that the language cannot say.

        Needed where `value` is not the language's own.
        """
        raise NotImplementedError

    def list_of(self, items: Sequence[str], type: Type) -> str:
        """A list, of its items' texts.

        Needed where `value` is not the language's own.
        """
        raise NotImplementedError

    def tuple_of(self, items: Sequence[str], type: Type) -> str:
        """A tuple, of its items' texts; a list unless the language has tuples."""
        return self.list_of(items, type)

    def dict_of(self, pairs: Sequence[tuple[str, str]], type: Type) -> str:
        """A dict, of its keys' and values' texts.

        Needed where `value` is not the language's own.
        """
        raise NotImplementedError
