"""C++: the standard headers, parsed once into a precompiled header.

Exactly MultiPL-E's two-line prefix is precompiled, and used only for a source that begins with exactly these two lines:
any other set of headers would declare names that the program has not asked for, or miss some, and change what compiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from codechoir.sandbox.acceleration.acceleration import compile_steps, with_compile_steps
from codechoir.sandbox.acceleration.assets import asset, program_key, run_tool
from codechoir.sandbox.acceleration.linking import FAST_LINKER, has_fast_linker
from codechoir.sandbox.jobs import Job

PREFIX = "#include<assert.h>\n#include<bits/stdc++.h>\n"
_PREFIX_BYTES = PREFIX.encode()
_HEADER = "prefix.h"
_LANGUAGE_FLAGS = (
    "-std",
    "-O",
    "-f",
    "-m",
    "-D",
    "-U",
    "-w",
    "-W",
    "-g",
    "-pthread",
    "-pedantic",
)  # what a header keeps
_LINKER_FLAGS = ("-fuse-ld=", "-Wl,")


class PrecompiledHeader:
    """An `Acceleration` of g++ with the flags of `command`, a plain compile command."""

    def __init__(self, shelf: Path, command: Sequence[str]) -> None:
        """Precompiles the header where it is not kept already. Raises BuildError."""
        self._compiler, self._flags = command[0], header_flags(command)
        key = (*program_key(self._compiler, "--version"), *self._flags, PREFIX)
        self._folder = asset(shelf, "cpp", key, self._build)

    @property
    def visible(self) -> tuple[str, ...]:
        return (str(self._folder),)

    def job(self, source: str, plain: Job) -> Job | None:
        steps = compile_steps(plain)
        if not source.startswith(PREFIX) or len(steps) != 1:
            return None
        step = steps[0]
        if step.argv[0] != self._compiler or header_flags(step.argv) != self._flags:
            return None
        names = [name for name, content in plain.files.items() if content.startswith(_PREFIX_BYTES)]
        if len(names) != 1:
            return None
        # Empty lines in place of the two, so that messages and __LINE__ stay what they are.
        lines = b"\n" * PREFIX.count("\n") + plain.files[names[0]][len(_PREFIX_BYTES) :]
        linker = (FAST_LINKER,) if has_fast_linker(self._compiler) else ()
        argv = (step.argv[0], *linker, "-include", str(self._folder / _HEADER), *step.argv[1:])
        return replace(with_compile_steps(plain, (replace(step, argv=argv),)), files={**plain.files, names[0]: lines})

    def close(self) -> None:
        pass

    def _build(self, folder: Path, final: Path) -> None:
        del final
        (folder / _HEADER).write_text(PREFIX, encoding="utf-8")
        run_tool((self._compiler, *self._flags, "-x", "c++-header", "-o", f"{_HEADER}.gch", _HEADER), folder)


def header_flags(command: Sequence[str]) -> tuple[str, ...]:
    """The flags of a compile command that a precompiled header depends on: all but those for files and the linker."""
    return tuple(
        part for part in command[1:] if part.startswith(_LANGUAGE_FLAGS) and not part.startswith(_LINKER_FLAGS)
    )
