"""Folders built once and used by many: precompiled headers, class files, export data, keyed by all that shaped them.

In goes a cache folder, a name, a key (compiler version, flags) and a builder; out comes a finished, checked folder. A
build happens under a lock, in a folder of its own that is renamed when it is whole, so processes that want the same
asset at once get one and the same, and a build killed at any moment leaves nothing that is taken for finished. A folder
whose files are not those that were built is built again. Knows nothing of compilers.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from codechoir.sandbox.isolation import ENVIRONMENT

_LISTING = "asset.json"  # written last; path -> [bytes, digest] of every file
_BUILD_SECONDS = 300


Builder = Callable[[Path, Path], None]  # fills the first folder, whose content will lie in the second


class BuildError(Exception):
    """The asset cannot be built here, and why: programs are then compiled without it."""


def asset(shelf: Path, name: str, key: Sequence[str], build: Builder) -> Path:
    """The folder `shelf/NAME-DIGEST`, built where it is missing or damaged.

    Raises BuildError where the builder fails, and OSError where the cache cannot be written.
    """
    digest = hashlib.sha256(json.dumps(list(key)).encode()).hexdigest()[:16]
    shelf.mkdir(parents=True, exist_ok=True)
    folder = shelf.resolve() / f"{name}-{digest}"
    with _locked(folder.with_name(f"{folder.name}.lock")):
        if _is_whole(folder):
            return folder
        new = Path(mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            build(new, folder)
            _seal(new)
            shutil.rmtree(folder, ignore_errors=True)
            new.rename(folder)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
    return folder


def run_tool(command: Sequence[str], folder: Path, environment: dict[str, str] | None = None) -> str:
    """The standard output of a compiler of the system that runs on input of ours. Raises BuildError."""
    try:
        done = subprocess.run(
            list(command),
            cwd=folder,
            env={**ENVIRONMENT, "HOME": str(folder), "TMPDIR": str(folder), **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_BUILD_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(str(error)) from error
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


def program_key(program: str, *version: str) -> tuple[str, ...]:
    """What tells one build of a program from another: its real path, size and time, and what `version` makes it print.

    The time counts because precompiled headers fit one build of a compiler only, whatever its version says.
    """
    real = Path(program).resolve()
    try:
        found = real.stat()
    except OSError as error:
        raise BuildError(str(error)) from error
    printed = run_tool((program, *version), Path("/")) if version else ""
    return (str(real), str(found.st_size), str(found.st_mtime_ns), printed)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield  # closing the file releases it


def _seal(folder: Path) -> None:
    """Lists the files, and lets every user read them: a sandbox started by root reads as nobody."""
    listing = {path.relative_to(folder).as_posix(): _fingerprint(path) for path in _files(folder)}
    (folder / _LISTING).write_text(json.dumps(listing), encoding="utf-8")
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or (os.access(path, os.X_OK) and path.stat().st_mode & 0o100) else 0o644)


def _is_whole(folder: Path) -> bool:
    try:
        listing = json.loads((folder / _LISTING).read_text(encoding="utf-8"))
        return bool(listing == {path.relative_to(folder).as_posix(): _fingerprint(path) for path in _files(folder)})
    except (OSError, ValueError):
        return False


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != _LISTING:
            yield path


def _fingerprint(path: Path) -> list[int | str]:
    digest = hashlib.blake2b(digest_size=16)
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            size += len(chunk)
    return [size, digest.hexdigest()]
