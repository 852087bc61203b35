"""The type checker may leave out the standard declarations exactly where no program's name is among theirs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from codechoir.artifacts import cache_dir
from codechoir.sandbox.acceleration.assets import BuildError
from codechoir.sandbox.acceleration.typescript import SkippedLibCheck, is_apart, lib_names
from codechoir.sandbox.isolation import open_sandbox
from codechoir.sandbox.programs import Limits, Runner
from codechoir.sandbox.toolchains.finding import find_program, missing_parts
from codechoir.sandbox.toolchains.table import TOOLCHAINS

NAMES = frozenset({"Node", "print", "Iterator", "Intl", "name"})
LIMITS = Limits(cpu_seconds=60, wall_seconds=120.0)
# What tells apart a compilation that leaves the declarations out: the only errors are in them.
MERGED = (
    "interface Node { value: number; }\nconst node: Node = null;\n",
    "function print(text: string): number { return text.length; }\n",
    "var Iterator: number = 1;\n",
    "namespace Intl { export interface Collator { compare: number; } }\n",
    "interface Array<T> { concat: number; }\n",
)


@pytest.mark.parametrize(
    "source",
    [
        "interface Node { value: number }",
        "class  Node {}",
        "function* print() {}",
        "function/* between */print() {}",
        "namespace Intl.More {}",
        "declare global { }",
        "declare module 'x' {}",
        "var Iterator: number;",
        "export function f() {}",
        "import x = require('x');",
        "function \\u0070rint() {}",
        '/// <reference lib="dom" />',
    ],
)
def test_programs_that_may_merge_are_checked_whole(source: str) -> None:
    assert not is_apart(source, NAMES)


@pytest.mark.parametrize(
    "source",
    [
        "function f(x: number): number { return x; }",
        "const f = function (name: string) { return name; };",
        "let name = 1; for (const print of []) {}",
        "class Stack<T> { items: T[] = []; }\nconst g = class { };",
        "interface Pair { first: Node; }",
    ],
)
def test_others_are_not(source: str) -> None:
    assert is_apart(source, NAMES)


def test_a_folder_without_declarations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError):
        lib_names(tmp_path)
    (tmp_path / "lib.x.d.ts").write_text(
        "declare var a: number;\ninterface B {\n    inner: C;\n}\ndeclare function d(): void;\n"
    )
    assert lib_names(tmp_path) == {"a", "B", "d"}
    with pytest.raises(BuildError):
        SkippedLibCheck(("/usr/bin/tsc", "main.ts"))


@pytest.fixture(scope="module")
def runners() -> Iterator[tuple[Runner, Runner]]:
    if missing := missing_parts(TOOLCHAINS["typescript"]):
        pytest.skip(f"missing: {missing}")
    sandbox = open_sandbox("bubblewrap")
    with Runner(sandbox, cache_dir()) as fast, Runner(sandbox, cache_dir(), accelerate=False) as plain:
        yield fast, plain


def test_programs_that_break_a_standard_declaration_are_refused_as_before(runners: tuple[Runner, Runner]) -> None:
    for source in (*MERGED, "const x: number = 'text';\n", "let x = 1;\n"):
        found, expected = (runner.run("typescript", source, LIMITS) for runner in runners)
        assert found.status is expected.status, source


def test_the_programs_tried_are_among_those_checked_whole() -> None:
    compiler = find_program("tsc")
    if compiler is None:
        pytest.skip("missing: tsc")
    names = lib_names(Path(compiler).parent)
    assert len(names) > 1000
    assert not any(is_apart(source, names) for source in MERGED)
