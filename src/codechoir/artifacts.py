"""A stage's folder on disk: what it was made from, whether it is finished, and what a later run may take up again.

The manifest is written last, so a folder without one is unfinished whatever it holds. Its digest covers the stage's
name, config, inputs' digests and version number, and nothing else. An unfinished folder remembers its digest in
`unfinished.json`: a run with the same digest finds what was done, any other run finds an empty folder. A folder that
holds anything else than what this stage wrote is refused, never emptied. What the files mean is each stage's business.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codechoir import __version__
from codechoir.config import digest_of
from codechoir.errors import DiskFullError, InputError

MANIFEST = "manifest.json"
UNFINISHED = "unfinished.json"
_PARTIAL_SUFFIX = ".partial"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF)  # EBADF: a folder over NFS
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a finished stage's folder says of itself."""

    stage: str
    version: int
    digest: str
    config: Mapping[str, Any]
    inputs: Mapping[str, str]  # name -> digest
    outputs: Mapping[str, int]  # path relative to the folder -> bytes
    facts: Mapping[str, Any]  # counts and measurements, for the report
    seconds: float
    codechoir: str = __version__


@dataclass(slots=True)
class StageFolder:
    """One stage's folder, from `begin` to `finish`."""

    path: Path
    stage: str
    version: int
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    _seconds_before: float = field(default=0.0, init=False)
    _started: float = field(default=0.0, init=False)

    @property
    def digest(self) -> str:
        """The digest that tells this stage's result from any other's."""
        return digest_of({"stage": self.stage, "version": self.version, "config": self.config, "inputs": self.inputs})

    def finished(self) -> Manifest | None:
        """The manifest, if this very stage was finished here and all its files are still whole in size."""
        if not (self.path / MANIFEST).exists():
            return None
        manifest = read_manifest(self.path)
        return manifest if manifest.digest == self.digest and not damaged_outputs(self.path, manifest) else None

    def begin(self) -> None:
        """Makes the folder ready: keeps what an interrupted run with the same digest left, removes all else.

        Raises InputError where the path is a file, or a folder that this stage has not written.
        """
        marker = self._marker()
        # A folder with a manifest was finished; that this run is needed means that it is stale or damaged.
        if marker.get("digest") == self.digest and not (self.path / MANIFEST).exists():
            self._seconds_before = float(marker.get("seconds", 0.0))
            for partial in self.path.rglob(f".*{_PARTIAL_SUFFIX}"):
                partial.unlink()
        else:
            self._clear()
        self._started = time.monotonic()
        self.save_time()

    def _marker(self) -> Mapping[str, Any]:
        """What `unfinished.json` says; nothing where there is none, or a file of that name is not ours."""
        try:
            marker = json.loads((self.path / UNFINISHED).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return marker if isinstance(marker, dict) else {}

    def _clear(self) -> None:
        """Empties the folder in an order that a kill cannot turn into a folder of unknown origin."""
        self._refuse_foreign()
        self.path.mkdir(parents=True, exist_ok=True)
        self._write_marker(digest="")  # from here on the folder is ours to empty, whenever that is ended
        (self.path / MANIFEST).unlink(missing_ok=True)  # before the files that it vouches for
        for entry in self.path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != UNFINISHED:
                entry.unlink()

    def _refuse_foreign(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise InputError("the output folder is a file", seen=self.path, next_step="give a new or empty folder")
        held = [entry for entry in self.path.glob("*") if not _is_partial(entry)]
        if not held:
            return
        owner = self._marker().get("stage")
        if owner is None and (self.path / MANIFEST).exists():
            owner = read_manifest(self.path).stage
        if owner != self.stage:
            raise InputError(
                "the output folder holds other files",
                seen=f"{self.path}: " + (f"made by the stage {owner!r}" if owner else held[0].name),
                allowed=f"a new or empty folder, or one that the stage {self.stage!r} made",
                next_step="give another folder, or remove this one yourself",
            )

    def save_time(self) -> None:
        """Notes the time spent so far, so that a resumed stage reports all of it."""
        self._write_marker(self.digest)

    def _write_marker(self, digest: str) -> None:
        seconds = self._seconds() if digest else 0.0
        write_json(self.path / UNFINISHED, {"stage": self.stage, "digest": digest, "seconds": seconds})

    def finish(self, facts: Mapping[str, Any], beside: Collection[str] = ()) -> Manifest:
        """Writes the manifest over every file now in the folder. After this the stage is finished.

        Files in the folders `beside` are no part of the result: they may go.
        """
        assert self._started, "finish comes after begin"
        outputs = {
            path.relative_to(self.path).as_posix(): path.stat().st_size
            for path in sorted(self.path.rglob("*"))
            if path.is_file()
            and path != self.path / UNFINISHED
            and path.relative_to(self.path).parts[0] not in beside
            and not _is_partial(path)
        }
        manifest = Manifest(
            self.stage,
            self.version,
            self.digest,
            self.config,
            self.inputs,
            outputs,
            facts,
            round(self._seconds(), 1),
        )
        write_json(self.path / MANIFEST, {name: getattr(manifest, name) for name in Manifest.__slots__})
        (self.path / UNFINISHED).unlink(missing_ok=True)
        return manifest

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started


def read_manifest(folder: Path) -> Manifest:
    """A finished stage's manifest. Raises InputError where there is none or it is damaged."""
    path = folder / MANIFEST
    try:
        manifest = Manifest(**json.loads(path.read_text(encoding="utf-8")))
        for part in (manifest.config, manifest.inputs, manifest.outputs, manifest.facts):
            if not isinstance(part, dict):
                raise TypeError(f"not a mapping: {part!r:.60}")
    except FileNotFoundError:
        raise InputError("the stage is not finished", seen=folder, next_step="run it: codechoir run RECIPE") from None
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            "the manifest is damaged, or not a stage's",
            seen=f"{path}: {error}",
            next_step="if a stage made this folder, remove it and run the stage again; else give another folder",
        ) from None
    return manifest


def damaged_outputs(folder: Path, manifest: Manifest) -> list[str]:
    """The files that the manifest lists and that are now missing or of another size."""
    return [
        name
        for name, size in manifest.outputs.items()
        if not (folder / name).is_file() or (folder / name).stat().st_size != size
    ]


@contextmanager
def locked(folder: Path, wait: bool = True, shared: bool = False) -> Iterator[None]:
    """Keeps others that lock the folder waiting, or, with `wait` off, is refused where one is at work.

    Any number can hold it `shared`, while nobody holds it alone. The lock ends with its holder, however that ends. File
    systems that have no locks are used without. Raises InputError.
    """
    with disk_full_told(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            step = "wait until it has ended, or give another folder"
            raise InputError("another process is at work in this folder", seen=folder, next_step=step) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        os.close(lock)


@contextmanager
def disk_full_told(path: Path) -> Iterator[None]:
    """Turns "no space left" (or a quota or size limit) while `path` is written into a DiskFullError."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise DiskFullError(
            "the disk is full, or a limit on file sizes is reached",
            seen=f"{path}: {error.strerror}",
            next_step="make room and run the same command again: it carries on from what is done",
        ) from None


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file whole or not at all, durable before it takes its name. Raises DiskFullError."""
    with disk_full_told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # The process and thread in the name keep two writers of one file out of each other's way.
        partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}{_PARTIAL_SUFFIX}")
        try:
            with partial.open("wb") as out:
                out.write(content.encode() if isinstance(content, str) else content)
                out.flush()
                os.fsync(out.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _is_partial(path: Path) -> bool:
    """Whether a killed `write_atomically` left this file."""
    return path.name.startswith(".") and path.name.endswith(_PARTIAL_SUFFIX)


def write_json(path: Path, value: object) -> None:
    """Writes JSON, whole or not at all."""
    write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False, default=_plain) + "\n")


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"not JSON: {type(value).__name__}")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def files_digest(root: Path, files: Iterable[Path]) -> str:
    """A digest of the names (relative to `root`) and contents of `files`."""
    return digest_of({path.relative_to(root).as_posix(): file_sha256(path) for path in files})


def state_of_folder(folder: Path) -> str:
    """A digest of where a folder is and of its files' names, sizes and times of change: nothing of them is read."""
    found: dict[str, Any] = {str(folder.resolve()): None}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_file():
            found[path.name] = [path.stat().st_size, path.stat().st_mtime_ns]
    return digest_of(found)


def cache_dir() -> Path:
    """Where downloads are kept: $CODECHOIR_CACHE, else $XDG_CACHE_HOME/codechoir, else ~/.cache/codechoir.

    A variable that is set to nothing counts as not set.
    """
    if own := os.environ.get("CODECHOIR_CACHE"):
        return Path(own).expanduser()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "codechoir"
