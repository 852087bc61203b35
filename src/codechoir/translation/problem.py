"""A Python problem taken apart: what every target language is given.

Records only. Values are plain Python values (`types.Value`); they are settled to the types beside them before a target
sees them (`inference.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from codechoir.translation.types import Type, Value


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of the function."""

    name: str
    type: Type


@dataclass(frozen=True, slots=True)
class Signature:
    """The function asked for."""

    name: str
    parameters: tuple[Parameter, ...]
    result: Type


@dataclass(frozen=True, slots=True)
class Assertion:
    """The function applied to `arguments` gives `expected`."""

    arguments: tuple[Value, ...]
    expected: Value


@dataclass(frozen=True, slots=True)
class Example:
    """An example in the description: `function` is the name that it calls, `source` its text in Python."""

    function: str
    assertion: Assertion
    source: str


@dataclass(frozen=True, slots=True)
class PythonProblem:
    """One problem in Python. `description` is its prose, with the examples where they stand in it."""

    name: str  # HumanEval_0_has_close_elements
    signature: Signature
    description: tuple[str | Example, ...]
    assertions: tuple[Assertion, ...]
    left_out: tuple[str, ...] = ()  # why statements of the Python tests became no assertion, each once
