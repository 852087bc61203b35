"""The house rules that no linter knows: described config fields, module docstrings, files and functions of a size."""

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

import codechoir
from codechoir.config import Config
from codechoir.records import Record

SRC = Path(__file__).parent.parent / "src" / "codechoir"
# The aim is 400 and 60; these leave room for the one that would be worse if it were cut.
MAX_FILE_LINES = 450
MAX_FUNCTION_LINES = 75
MAX_PARAMETERS = 6


def breaches(root: Path) -> list[str]:
    """What breaks the rules in the sources below `root`, one line each."""
    found = []
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        if not ast.get_docstring(tree) and not (path.name == "__init__.py" and not tree.body):
            found.append(f"{name}: no module docstring")
        if (num_lines := len(text.splitlines())) > MAX_FILE_LINES:
            found.append(f"{name}: {num_lines} lines")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found += [f"{name}:{node.lineno}: {node.name}: {breach}" for breach in function_breaches(node)]
    return found


def function_breaches(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    assert node.end_lineno is not None
    if (num_lines := node.end_lineno - node.lineno + 1) > MAX_FUNCTION_LINES:
        yield f"{num_lines} lines"
    given = [arg.arg for arg in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]]
    is_command = any("click." in ast.unparse(decorator) for decorator in node.decorator_list)  # a parameter an option
    if len([name for name in given if name not in ("self", "cls")]) > MAX_PARAMETERS and not is_command:
        yield f"{len(given)} parameters: make them a record"


def undescribed(kinds: list[type[Config]]) -> list[str]:
    """The config fields that do not say what they are."""
    return [
        f"{kind.__module__}.{kind.__qualname__}.{name}"
        for kind in kinds
        for name, field in kind.model_fields.items()
        if not field.description
    ]


def subclasses(kind: type[Config]) -> Iterator[type[Config]]:
    for below in kind.__subclasses__():
        yield below
        yield from subclasses(below)


def our_configs() -> list[type[Config]]:
    """Every config class of the package, which is imported whole for it."""
    for module in pkgutil.walk_packages(codechoir.__path__, "codechoir."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return [kind for kind in subclasses(Config) if kind.__module__.startswith("codechoir.")]


def test_the_house_rules_hold() -> None:
    assert breaches(SRC) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the libraries, as they are imported
def test_every_config_field_says_what_it_is() -> None:
    kinds = our_configs()
    assert "codechoir.packages.Package" in {f"{kind.__module__}.{kind.__qualname__}" for kind in kinds}
    assert undescribed(kinds) == []


def test_every_record_and_config_says_what_it_is() -> None:
    records = [kind for kind in Record.__subclasses__() if kind.__module__.startswith("codechoir.")]
    for kind in [*records, *our_configs()]:
        assert kind.__doc__, kind


def test_a_field_without_a_description_is_found() -> None:
    class Base(Config):
        good: int = Field(0, description="how many")

    class Below(Base):
        kind: Literal["a"] = "a"

    assert Below in subclasses(Config)
    assert [name.rpartition(".")[2] for name in undescribed([Base, Below])] == ["kind"]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.py", '"""Owns nothing."""', []),
        ("__init__.py", "", []),
        ("a.py", "", ["a.py: no module docstring"]),
        ("__init__.py", "x = 1", ["__init__.py: no module docstring"]),
        ("a.py", '"""Long."""\n' + "x = 1\n" * 450, ["a.py: 451 lines"]),
        ("a.py", '"""Long."""\ndef f():\n' + " x = 1\n" * 75, ["a.py:2: f: 76 lines"]),
        ("a.py", '"""Just right."""\ndef f():\n' + " x = 1\n" * 74, []),
        ("a.py", '"""Full."""\nclass A:\n def f(self, a, b, c, d, *, e, f): ...', []),
        ("a.py", '"""Command."""\n@click.command()\ndef f(a, b, c, d, e, f, g): ...', []),
        ("a.py", '"""Wide."""\ndef f(a, b, c, d, *, e, f, g): ...', ["a.py:2: f: 7 parameters: make them a record"]),
    ],
)
def test_each_breach_is_found(tmp_path: Path, name: str, text: str, expected: list[str]) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert breaches(tmp_path) == expected
