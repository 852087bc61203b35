"""Pinned packages of PyPI and npm: fetched by their ordinary clients, checked, cached, unpacked safely.

Nothing is built or executed: wheels and npm tarballs are taken as archives. The clients' own configuration
(indexes, mirrors, proxies) holds.
"""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from pydantic import Field

from codechoir.artifacts import file_sha256
from codechoir.config import Config
from codechoir.errors import ChecksumError, InputError, ToolMissingError

FETCH_SECONDS = 900
MAX_MEMBER_BYTES = 256 * 2**20


class Package(Config):
    """One pinned archive of a registry."""

    registry: Literal["pypi", "npm"] = Field(description="pypi (a wheel) or npm (a tarball)")
    name: str = Field(description="the package's name", pattern=r"^@?[A-Za-z0-9][A-Za-z0-9._/-]*$")
    version: str = Field(description="the exact version", pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")
    sha256: str = Field(description="SHA-256 of the archive", pattern=r"^[0-9a-f]{64}$")

    def __str__(self) -> str:
        return f"{self.registry}:{self.name}@{self.version}"


def fetch(package: Package, cache: Path) -> Path:
    """The archive of `package`, from the cache or its registry. Raises ChecksumError on other bytes than the pinned."""
    folder = cache / "packages" / package.registry / f"{package.name.replace('/', '+')}-{package.version}"
    for archive in sorted(folder.glob("*")) if folder.is_dir() else []:
        if file_sha256(archive) == package.sha256:
            return archive
        archive.unlink()  # a damaged cache is fetched again
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as scratch:
        found = _download(package, Path(scratch))
        seen = file_sha256(found)
        if seen != package.sha256:
            raise ChecksumError(
                f"the package {package} has another checksum than the pinned one",
                seen=seen,
                allowed=package.sha256,
                next_step="if you trust the new archive, pin its checksum in the recipe",
            )
        return Path(shutil.move(found, folder / found.name))


def _download(package: Package, scratch: Path) -> Path:
    spec = f"{package.name}=={package.version}" if package.registry == "pypi" else f"{package.name}@{package.version}"
    if package.registry == "pypi":
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "--dest", str(scratch), spec]
    else:
        npm = shutil.which("npm")
        if npm is None:
            raise ToolMissingError(f"npm is needed to fetch {package}", next_step="apt-get install npm")
        command = [npm, "pack", "--silent", "--ignore-scripts", "--pack-destination", str(scratch), spec]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS, cwd=scratch)
    except subprocess.TimeoutExpired:
        raise InputError(f"fetching {package} took over {FETCH_SECONDS} s", next_step="try again") from None
    archives = sorted(scratch.glob("*.whl")) + sorted(scratch.glob("*.tgz"))
    if done.returncode != 0 or len(archives) != 1:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise InputError(
            f"{package} could not be fetched",
            seen=lines[-1] if lines else f"exit code {done.returncode}",
            next_step="check the network and the registry that pip and npm are configured for",
        )
    return archives[0]


@contextmanager
def unpacked(archive: Path) -> Iterator[Path]:
    """A temporary folder with the archive's regular files; removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="codechoir-unpack-") as folder:
        unpack(archive, Path(folder))
        yield Path(folder)


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks a wheel or tarball's regular files into `folder`. Raises InputError as `read_members` does."""
    with _damage_told(archive):
        for name, content in _members(archive):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as out:
                shutil.copyfileobj(content, out)


def read_members(archive: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """The contents of the regular files whose name is `wanted`, by name, with nothing written to disk.

    Raises InputError where the archive is damaged, or holds (wanted or not) a member with an absolute or climbing path,
    a link, a device, or a member over 256 MiB.
    """
    with _damage_told(archive):
        return {name: content.read() for name, content in _members(archive) if wanted(name)}


@contextmanager
def _damage_told(archive: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputError(
            "the archive is damaged", seen=f"{archive}: {error}", next_step="remove it; it is fetched again"
        ) from None


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Each regular file's checked name, and its content to be read before the next is asked for."""
    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                if not info.is_dir():
                    linked = stat.S_ISLNK(info.external_attr >> 16)
                    name = _checked_name(archive, info.filename, info.file_size, regular=not linked)
                    with zipped.open(info) as content:
                        yield name, content
        return
    with tarfile.open(archive) as tarred:
        for member in tarred:
            if not member.isdir():
                name = _checked_name(archive, member.name, member.size, regular=member.isfile())
                file = tarred.extractfile(member)
                assert file is not None
                with file:
                    yield name, file


def _checked_name(archive: Path, name: str, size: int, *, regular: bool) -> str:
    path = PurePosixPath(name)
    if not regular:
        raise InputError("the archive holds a link or a device", seen=f"{archive}: {name}")
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise InputError("the archive's member would land outside its folder", seen=f"{archive}: {name}")
    if size > MAX_MEMBER_BYTES:
        raise InputError("the archive's member is too large", seen=f"{archive}: {name}: {size} bytes")
    return path.as_posix()
