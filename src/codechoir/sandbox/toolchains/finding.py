"""Where a toolchain's parts are on this machine, which of them are missing, and what version they are.

In goes a `Toolchain`; out come paths and version texts. Looks in the system's folders alone, since a sandbox shows no
others; the exceptions are the Python that runs us and the TypeScript compiler, whose folders are shown besides.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from codechoir.sandbox.isolation import ENVIRONMENT, SEARCH_PATH
from codechoir.sandbox.toolchains.toolchain import Toolchain
from codechoir.sandbox.toolchains.typescript import find_typescript

_VERSION_SECONDS = 60


def missing_parts(toolchain: Toolchain) -> list[str]:
    """The programs and files that this machine lacks for the toolchain."""
    programs = [name for name in toolchain.programs if find_program(name) is None]
    return programs + [name for name in toolchain.files if not Path(name).exists()]


def find_program(name: str) -> str | None:
    """A program's path, from where a sandbox can see it."""
    if name == "tsc":
        folder = find_typescript()
        return str(folder / "lib" / "tsc") if folder else None
    found = _on_search_path(name)
    if found is None and name == "python3":
        own = Path(sys.base_prefix) / "bin" / "python3"
        found = str(own) if own.exists() else None
    return found


@cache
def _on_search_path(name: str) -> str | None:
    return shutil.which(name, path=SEARCH_PATH)


def command(toolchain: Toolchain, words: tuple[str, ...], memory_mib: int) -> tuple[str, ...]:
    """A command of the toolchain's as this machine has it."""
    known = {name: find_program(name) for name in {words[0], *toolchain.programs}}
    return tuple(known.get(word) or word.replace("{memory}", str(memory_mib)) for word in words)


def visible_paths(toolchain: Toolchain) -> tuple[str, ...]:
    """What a sandbox must show beside the system's folders for the toolchain's programs to work."""
    paths = [path for pattern in toolchain.visible for path in _matching(pattern)]
    if "python3" in toolchain.programs and _on_search_path("python3") is None:
        paths.append(sys.base_prefix)
    folder = find_typescript() if "tsc" in toolchain.programs else None
    if folder is not None and not folder.is_relative_to("/usr"):
        paths.append(str(folder))
    return tuple(paths)


def _matching(pattern: str) -> list[str]:
    return sorted(str(path) for path in Path("/").glob(pattern.removeprefix("/")))


def toolchain_version(toolchain: Toolchain) -> str:
    """What the toolchain says of itself, such as `g++ (Debian 12.2.0-14) 12.2.0`; empty where it cannot."""
    words = command(toolchain, toolchain.version, 0)
    return _version(toolchain.version[0], words) if Path(words[0]).is_absolute() else ""


@cache
def _version(name: str, words: tuple[str, ...]) -> str:
    environment = {**ENVIRONMENT, "HOME": "/nonexistent"}
    try:
        done = subprocess.run(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_VERSION_SECONDS,
            env=environment,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = [line.strip().rstrip(":") for line in done.stdout.splitlines() if re.search(r"\d+\.\d+", line)]
    if done.returncode != 0 or not lines:
        return ""
    return lines[0] if re.match(r"[A-Za-z+]{2}", lines[0]) else f"{name} {lines[0]}"
