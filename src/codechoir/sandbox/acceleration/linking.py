"""Rust: the standard library is linked to, not linked in, by the faster linker, from one unit of code.

The program is the same but for where the library's code lies; optimisation and checks stay those of the plain command.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from codechoir.sandbox.acceleration.acceleration import compile_steps, with_compile_steps
from codechoir.sandbox.acceleration.assets import asset, program_key, run_tool
from codechoir.sandbox.jobs import Job

FAST_LINKER = "-fuse-ld=gold"
_FLAGS = ("-C", "prefer-dynamic", "-C", "codegen-units=1", "-C", f"link-arg={FAST_LINKER}")
_PROBE = 'fn main() {\n    let kept: Vec<String> = std::env::args().collect();\n    println!("{}", kept.len());\n}\n'


class DynamicLibrary:
    """An `Acceleration` of rustc."""

    def __init__(self, shelf: Path, command: Sequence[str]) -> None:
        """Tries the flags on a program of ours. Raises BuildError where it does not compile, link or start."""
        self._compiler = command[0]
        asset(shelf, "rust", (*program_key(self._compiler, "--version"), *_FLAGS, _PROBE), self._try)

    @property
    def visible(self) -> tuple[str, ...]:
        return ()

    def job(self, source: str, plain: Job) -> Job | None:
        del source
        steps = compile_steps(plain)
        if len(steps) != 1 or steps[0].argv[0] != self._compiler:
            return None
        step = replace(steps[0], argv=(self._compiler, *_FLAGS, *steps[0].argv[1:]))
        return with_compile_steps(plain, (step,))

    def close(self) -> None:
        pass

    def _try(self, folder: Path, final: Path) -> None:
        del final
        (folder / "probe.rs").write_text(_PROBE, encoding="utf-8")
        run_tool((self._compiler, *_FLAGS, "-o", "probe", "probe.rs"), folder)
        run_tool(("./probe",), folder)


def has_fast_linker(compiler: str) -> bool:
    """Whether the linker that `FAST_LINKER` names is beside the compiler."""
    return Path(compiler).with_name("ld.gold").is_file()
