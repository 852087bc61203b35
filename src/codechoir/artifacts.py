"""A stage's folder on disk: what it was made from, whether it is finished, and what a later run may take up again.

The manifest is written last, so a folder without one is unfinished whatever it holds. Its digest covers the stage's
config, its inputs' digests and the stage's version number, and nothing else. An unfinished folder remembers its digest
in `unfinished.json`: a run with the same digest finds what was done, any other run finds an empty folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codechoir import __version__
from codechoir.config import digest_of
from codechoir.errors import InputError

MANIFEST = "manifest.json"
UNFINISHED = "unfinished.json"


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
        """Makes the folder ready: keeps what an interrupted run with the same digest left, removes all else."""
        marker = self.path / UNFINISHED
        resumed = json.loads(marker.read_text()) if marker.exists() else {}
        if resumed.get("digest") == self.digest:
            self._seconds_before = float(resumed.get("seconds", 0.0))
        else:
            self._clear()
        self._started = time.monotonic()
        self.save_time()
        (self.path / MANIFEST).unlink(missing_ok=True)

    def _clear(self) -> None:
        """Empties the folder, unless it holds anything that no stage has written."""
        if self.path.exists():
            if not self.path.is_dir() or (
                any(self.path.iterdir()) and not any((self.path / name).exists() for name in (MANIFEST, UNFINISHED))
            ):
                raise InputError(
                    "the output folder holds other files", seen=self.path, next_step="give a new or empty folder"
                )
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True)

    def save_time(self) -> None:
        """Notes the time spent so far, so that a resumed stage reports all of it."""
        write_json(self.path / UNFINISHED, {"digest": self.digest, "seconds": self._seconds()})

    def finish(self, facts: Mapping[str, Any]) -> Manifest:
        """Writes the manifest over every file now in the folder. After this the stage is finished."""
        outputs = {
            str(path.relative_to(self.path)): path.stat().st_size
            for path in sorted(self.path.rglob("*"))
            if path.is_file() and path.name != UNFINISHED
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
        (self.path / UNFINISHED).unlink()
        return manifest

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started


def read_manifest(folder: Path) -> Manifest:
    """A finished stage's manifest. Raises InputError where there is none or it is damaged."""
    path = folder / MANIFEST
    try:
        return Manifest(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError("the stage is not finished", seen=folder, next_step="run it: codechoir run RECIPE") from None
    except (ValueError, TypeError) as error:
        raise InputError("the manifest is damaged", seen=f"{path}: {error}", next_step=f"remove {folder}") from None


def damaged_outputs(folder: Path, manifest: Manifest) -> list[str]:
    """The files that the manifest lists and that are now missing or of another size."""
    return [
        name
        for name, size in manifest.outputs.items()
        if not (folder / name).is_file() or (folder / name).stat().st_size != size
    ]


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file whole or not at all, durable before it takes its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as out:
            out.write(content.encode() if isinstance(content, str) else content)
            out.flush()
            os.fsync(out.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


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
    return digest_of({str(path.relative_to(root)): file_sha256(path) for path in files})


def cache_dir() -> Path:
    """Where downloads are kept: $CODECHOIR_CACHE, else $XDG_CACHE_HOME/codechoir, else ~/.cache/codechoir."""
    if "CODECHOIR_CACHE" in os.environ:
        return Path(os.environ["CODECHOIR_CACHE"])
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "codechoir"
