"""THE table of accelerations: which language has which, and how it is opened. Knows nothing of how they work."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp

from codechoir.sandbox.acceleration.acceleration import Acceleration, compile_steps
from codechoir.sandbox.acceleration.assets import BuildError
from codechoir.sandbox.acceleration.go import DirectBuild
from codechoir.sandbox.acceleration.linking import DynamicLibrary
from codechoir.sandbox.acceleration.precompiled import PrecompiledHeader
from codechoir.sandbox.acceleration.service import Running
from codechoir.sandbox.acceleration.typescript import SkippedLibCheck
from codechoir.sandbox.acceleration.warm_jvm import WarmCompiler
from codechoir.sandbox.isolation import ENVIRONMENT, FOLDER, Inherited, Sandbox, memory_file
from codechoir.sandbox.jobs import Job, StepResult
from codechoir.sandbox.toolchains.finding import visible_paths
from codechoir.sandbox.toolchains.table import toolchain_of

# What is opened with: the walls, where assets are kept, the plain compile command.
_Opener = Callable[[Sandbox, Path, Sequence[str]], Acceleration]

# On services, which run nothing but a compiler: no privilege left, and an end to what they can take of the machine.
_CONFINED = ("setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--")
_SERVICE_MIB = 2048
_LIMITED = ("prlimit", f"--data={_SERVICE_MIB * 2**20}", f"--fsize={64 * 2**20}", "--nofile=256", "--core=0", "--")

_OPENERS: Mapping[str, _Opener] = {
    "cpp": lambda _, kept, command: PrecompiledHeader(kept, command),
    "go": lambda _, kept, command: DirectBuild(kept, command),
    "java": lambda sandbox, kept, command: WarmCompiler("java", kept, command, _Launcher(sandbox)),
    "rust": lambda _, kept, command: DynamicLibrary(kept, command),
    "scala": lambda sandbox, kept, command: WarmCompiler("scala", kept, command, _Launcher(sandbox)),
    "typescript": lambda _, _kept, command: SkippedLibCheck(command),
}


def accelerations(sandbox: Sandbox, cache: Path) -> dict[str, Acceleration]:
    """One worker's accelerations by language id. The first job opens one, and builds what it keeps in `cache`.

    The sandbox must be able to show that folder to its user (`toolchains.shared` knows such a place).
    """
    return {language: _OnDemand(sandbox, cache, opener) for language, opener in _OPENERS.items()}


class _OnDemand:
    """An acceleration that is opened by the first job, and stands aside where it cannot be had on this machine."""

    def __init__(self, sandbox: Sandbox, cache: Path, opener: _Opener) -> None:
        self._sandbox, self._cache, self._opener = sandbox, cache, opener
        self._opened: Acceleration | None = None
        self._failed = False

    @property
    def visible(self) -> tuple[str, ...]:
        return self._opened.visible if self._opened else ()

    def job(self, source: str, plain: Job) -> Job | StepResult | None:
        steps = compile_steps(plain)
        if self._failed or not steps:
            return None
        if self._opened is None:
            try:
                self._opened = self._opener(self._sandbox, self._cache / "toolchains", steps[0].argv)
            except (BuildError, OSError):
                self._failed = True
                return None
        return self._opened.job(source, plain)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None


class _Launcher:
    """Starts services in the sandbox, each in walls of its own."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def __call__(self, command: Sequence[str], visible: Sequence[str]) -> Running:
        if self._sandbox.kind == "bubblewrap":
            shown = (*visible, *visible_paths(toolchain_of("java")))
            system_calls = memory_file("filter", self._sandbox.system_calls)
            try:
                inherited = Inherited({}, system_calls=system_calls)
                enclosed = self._sandbox.enclosed((*_CONFINED, *_LIMITED, *command), shown, inherited)
                return Running(_started(enclosed, None, (system_calls,)), lambda: None)
            finally:
                os.close(system_calls)
        folder = mkdtemp(prefix="codechoir-compiler-")
        return Running(_started((*_LIMITED, *command), folder), lambda: shutil.rmtree(folder, ignore_errors=True))


def _started(command: Sequence[str], folder: str | None, inherited: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        list(command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        cwd=folder or "/",
        env={**ENVIRONMENT, "HOME": folder or FOLDER, "TMPDIR": folder or FOLDER},
        pass_fds=inherited,
        start_new_session=True,
    )
