"""Rust programs that are linked to the library behave as those that hold it."""

from pathlib import Path

import pytest

from codechoir.artifacts import cache_dir
from codechoir.records import Status
from codechoir.sandbox.acceleration.assets import BuildError
from codechoir.sandbox.acceleration.linking import DynamicLibrary, has_fast_linker
from codechoir.sandbox.isolation import open_sandbox
from codechoir.sandbox.programs import Limits, Runner
from codechoir.sandbox.toolchains.finding import missing_parts
from codechoir.sandbox.toolchains.table import TOOLCHAINS

LIMITS = Limits(cpu_seconds=60, wall_seconds=120.0)
OVERFLOW = 'fn main() {\n    let x = std::env::args().count() as u8;\n    println!("{}", (254 + x) + x);\n}\n'
CAUGHT = 'fn main() {\n    assert!(std::panic::catch_unwind(|| { panic!("x") }).is_err());\n}\n'


def test_checks_and_unwinding_stay() -> None:
    if missing := missing_parts(TOOLCHAINS["rust"]):
        pytest.skip(f"missing: {missing}")
    sandbox = open_sandbox("bubblewrap")
    for accelerate in (True, False):
        with Runner(sandbox, cache_dir(), accelerate) as runner:
            outcome = runner.run("rust", OVERFLOW, LIMITS)
            assert outcome.status is Status.RUNTIME_ERROR
            assert "attempt to add with overflow" in outcome.output
            assert runner.run("rust", CAUGHT, LIMITS).status is Status.PASSED


def test_a_compiler_that_does_not_know_the_flags_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError):
        DynamicLibrary(tmp_path, ("/bin/false", "-o", "main", "main.rs"))
    assert not has_fast_linker(str(tmp_path / "rustc"))
    (tmp_path / "ld.gold").write_text("")
    assert has_fast_linker(str(tmp_path / "rustc"))
