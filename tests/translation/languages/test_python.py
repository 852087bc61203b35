"""Python: texts worked out by hand, and run by Python itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from codechoir.translation.languages.python import Python
from codechoir.translation.problem import Assertion, Example, Parameter, PythonProblem, Signature
from codechoir.translation.types import ANY, FLOAT, INT, NONE, STR, Type, dict_of, list_of, optional_of, union_of

SIGNATURE = Signature(
    "restock",
    (Parameter("stock", dict_of(STR, INT)), Parameter("wanted", list_of(ANY)), Parameter("rest", union_of(INT, NONE))),
    optional_of(Type("many", (FLOAT,))),
)
EXAMPLE = Assertion(({"\\n": 1}, ["\\n"], None), (1.0,))
PROBLEM = PythonProblem(
    "Own_6_restock",
    SIGNATURE,
    (
        "What a dictionary has, as a tuple,\n    or None.\n",
        Example("restock", EXAMPLE, "restock({'\\\\n': 1}, ['\\\\n'], None)"),
    ),
    (EXAMPLE, Assertion(({}, [], 2), None)),
)
PROMPT = r'''from typing import Dict, List, Any, Union, Optional, Tuple

def restock(stock: Dict[str, int], wanted: List[Any], rest: Union[int, None]) -> Optional[Tuple[float, ...]]:
    """What a dictionary has, as a tuple,
    or None.
    >>> restock({ '\\\\n': 1 }, ['\\\\n'], None)
    (1.0,)
"""
'''
TESTS = """\
def check(candidate):
    assert candidate({ '\\\\n': 1 }, ['\\\\n'], None) == (1.0,)
    assert candidate({  }, [], 2) == None

def test_check():
    check(restock)

test_check()
"""
SOLUTION = "    return tuple(float(stock[each]) for each in wanted) or rest and None\n"


def test_the_prompt() -> None:
    assert Python(SIGNATURE).prompt(PROBLEM) == PROMPT


def test_the_tests() -> None:
    assert Python(SIGNATURE).tests(PROBLEM.assertions) == TESTS


def test_a_right_solution_passes_and_a_wrong_one_fails(tmp_path: Path) -> None:
    codes = []
    for solution in (SOLUTION, SOLUTION.replace("rest and None", "rest")):
        path = tmp_path / "program.py"
        path.write_text(f"{PROMPT}{solution}\n{TESTS}")
        codes.append(subprocess.run([sys.executable, path], capture_output=True, check=False).returncode)
    assert codes == [0, 1]


def test_a_signature_of_plain_types_imports_nothing() -> None:
    python = Python(Signature("f", (Parameter("x", INT),), STR))
    assert python.preamble() + python.opening() == "def f(x: int) -> str:\n"
