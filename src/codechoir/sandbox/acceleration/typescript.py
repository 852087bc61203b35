"""TypeScript: the type checker leaves out the standard declarations where a program cannot have made them wrong.

Most of a compilation goes into checking lib.*.d.ts anew. They are correct by themselves; a program brings errors into
them only by adding to something that they declare (an `interface Node` of its own, say). So they are left out for
programs that declare no name of theirs, and for no others. Found by trying every declared name with every kind of
declaration: the variables and type aliases that clash do so at the program's own declaration as well, except one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from codechoir.sandbox.acceleration.acceleration import compile_steps, with_compile_steps
from codechoir.sandbox.acceleration.assets import BuildError
from codechoir.sandbox.jobs import Job

_LIB_NAME = re.compile(
    r"^(?:declare )?(?:abstract )?(?:interface|class|var|let|const|function|namespace|module|type|enum) "
    r"([A-Za-z_$][\w$]*)",
    re.MULTILINE,
)
# A keyword that declares, and what follows: a name, or something else.
_DECLARES = re.compile(r"\b(?:interface|class|namespace|module|enum|function)\b\s*(\*?\s*)?([A-Za-z_$][\w$]*)?(\S?)")
_DECLARES_TYPE_LIKE_VARIABLE = re.compile(r"\b(?:var|let|const)\s+([A-Z][\w$]*)")
_NOT_PLAIN = re.compile(r"\\u|///|\b(?:import|export|global)\b")
_FLAGS = "--skipLibCheck --singleThreaded"
_CALL = '"$0" '
_ANONYMOUS = ("(", "{")  # after `function` and `class`


class SkippedLibCheck:
    """An `Acceleration` of TypeScript's native compiler, called by a shell script as its `$0`."""

    def __init__(self, command: Sequence[str]) -> None:
        """Reads the names that the compiler's standard declarations declare. Raises BuildError where there are none."""
        if _called(command) is None:
            raise BuildError(f"not the TypeScript compiler: {' '.join(command)}")
        self._names = lib_names(Path(command[-1]).resolve().parent)

    @property
    def visible(self) -> tuple[str, ...]:
        return ()

    def job(self, source: str, plain: Job) -> Job | None:
        steps = compile_steps(plain)
        if len(steps) != 1 or not is_apart(source, self._names):
            return None
        step = steps[0]
        script = _called(step.argv)
        if script is None:
            return None
        argv = (*step.argv[:2], f"{_CALL}{_FLAGS} {script}", *step.argv[3:])
        # One thread a worker, and little garbage collection in a process that lives a tenth of a second.
        environment = {**step.environment, "GOGC": "400"}
        return with_compile_steps(plain, (replace(step, argv=argv, environment=environment),))

    def close(self) -> None:
        pass


def lib_names(folder: Path) -> frozenset[str]:
    """All names that lib.*.d.ts in `folder` declare at their outermost level. Raises BuildError."""
    names: set[str] = set()
    for path in folder.glob("lib*.d.ts"):
        names.update(_LIB_NAME.findall(path.read_text(encoding="utf-8")))
    if not names:
        raise BuildError(f"no lib.*.d.ts in {folder}")
    return frozenset(names)


def is_apart(source: str, names: frozenset[str]) -> bool:
    """Whether the program certainly declares nothing that could merge with one of `names`.

    Comments and strings are read as code, which errs to the safe side.
    """
    if _NOT_PLAIN.search(source) or any(name in names for name in _DECLARES_TYPE_LIKE_VARIABLE.findall(source)):
        return False
    for _, name, other in _DECLARES.findall(source):
        if name in names or (not name and other not in _ANONYMOUS):
            return False
    return True


def _called(command: Sequence[str]) -> str | None:
    """What follows the compiler's name in `sh -c SCRIPT .../tsc`."""
    is_call = len(command) == 4 and command[1] == "-c" and Path(command[3]).name == "tsc"
    return command[2].removeprefix(_CALL) if is_call and command[2].startswith(_CALL) else None
