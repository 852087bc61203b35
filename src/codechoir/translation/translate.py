"""Python problems into other languages, all at once.

In go rows of a file of Python problems and the languages asked for; out come the problems, and for each that could not
be expressed in a language the reason. Knows nothing of files and of who asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codechoir.languages import language
from codechoir.records import Problem
from codechoir.translation.errors import Untranslatable
from codechoir.translation.problem import PythonProblem
from codechoir.translation.reading import read_problem, row_of
from codechoir.translation.table import target_of
from codechoir.translation.target import Target


@dataclass(frozen=True, slots=True)
class Translated:
    """Problems in the order of the languages asked for and then of the rows, and what could not be expressed."""

    problems: tuple[Problem, ...]
    untranslatable: Mapping[str, Mapping[str, str]]  # language id -> problem's name -> why it is not among them
    left_out: Mapping[str, tuple[str, ...]]  # problem's name -> why statements of its Python tests are in no language


def translate_all(rows: Iterable[Any], languages: Sequence[str]) -> Translated:
    """Every row into every language (ids or MultiPL-E's codes).

    Raises InputError for a row that is no problem, and ConfigError for a language that is no target.
    """
    targets = list(dict.fromkeys(target_of(name) for name in languages))
    checked = [row_of(row, f"problem {number}") for number, row in enumerate(rows, 1)]
    unreadable: dict[str, str] = {}
    problems: list[PythonProblem] = []
    for row in checked:
        try:
            problems.append(read_problem(row))
        except Untranslatable as error:
            unreadable[row.name] = error.reason
    found: list[Problem] = []
    untranslatable = {target.language: dict(unreadable) for target in targets}
    for target in targets:
        for problem in problems:
            try:
                found.append(translate(problem, target))
            except Untranslatable as error:
                untranslatable[target.language][problem.name] = error.reason
    left_out = {problem.name: problem.left_out for problem in problems if problem.left_out}
    return Translated(tuple(found), untranslatable, left_out)


def translate(problem: PythonProblem, target: type[Target]) -> Problem:
    """One problem into one language. Raises Untranslatable."""
    translator = target(problem.signature)
    return Problem(
        name=problem.name,
        language=target.language,
        prompt=translator.prompt(problem),
        tests=translator.tests(problem.assertions),
        stop_tokens=language(target.language).stop_tokens,
    )
