"""Pinned packages of PyPI, npm and Debian: fetched once, checked against their checksum, kept in a cache.

Owns the pin and the cache. Nothing is built or executed: wheels, source distributions, npm tarballs and Debian's
original tarballs are taken as archives. How a registry is asked is `registries`' business, what an archive may hold
`archives`'.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import tempfile
import zlib
from pathlib import Path
from typing import Literal

from pydantic import Field

from codechoir.archives import read_members, unpack, unpacked
from codechoir.artifacts import file_sha256, write_atomically
from codechoir.config import Config
from codechoir.errors import ChecksumError
from codechoir.registries import PackageGoneError, Release, apt_source, npm_tarball, pip_sdist, pip_wheel

__all__ = ["Package", "PackageGoneError", "fetch", "licence_files", "read_members", "unpack", "unpacked"]

COPYRIGHT = "debian/copyright"
_TARBALL = re.compile(r"\.tar\.(gz|bz2|xz|lzma|zst)$")
_PACKAGING = re.compile(r"\.debian\.tar\.\w+$")
_MAX_DIFF_BYTES = 2**26


class Package(Config):
    """One pinned archive of a registry."""

    registry: Literal["pypi", "pypi-sdist", "npm", "debian"] = Field(
        description="pypi (a wheel), pypi-sdist (a source distribution), npm (a tarball), "
        "or debian (the original tarball of a source package)"
    )
    name: str = Field(description="the package's name", pattern=r"^@?[A-Za-z0-9][A-Za-z0-9._/+-]*$")
    version: str = Field(description="the exact version", pattern=r"^[A-Za-z0-9][A-Za-z0-9._+~:-]*$")
    sha256: str = Field(description="SHA-256 of the archive", pattern=r"^[0-9a-f]{64}$")

    def __str__(self) -> str:
        return str(self._release())

    def _release(self) -> Release:
        return Release(self.registry, self.name, self.version)


def fetch(package: Package, cache: Path) -> Path:
    """The archive of `package`, from the cache or its registry.

    Raises ChecksumError on other bytes than the pinned, PackageGoneError where the registry has no such release,
    InputError or ToolMissingError where it cannot be asked.
    """
    folder = _folder(package, cache)
    cached = _cached(folder, package.sha256)
    if cached is not None and (package.registry != "debian" or _cached_copyright(package, cache) is not None):
        return cached
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as scratch:
        if package.registry == "debian":
            found = _download_debian(package, Path(scratch).absolute(), cache.absolute())
        else:
            found = _download(package, Path(scratch).absolute())
        seen = file_sha256(found)
        if seen != package.sha256:
            raise ChecksumError(
                f"the package {package} has another checksum than the pinned one",
                seen=seen,
                allowed=package.sha256,
                next_step="if you trust the new archive, pin its checksum in the recipe",
            )
        return Path(shutil.move(found, folder / found.name))


def licence_files(package: Package, cache: Path) -> dict[str, bytes]:
    """What states a fetched package's licence beside its archive, by name: Debian has it among its own changes."""
    content = _cached_copyright(package, cache) if package.registry == "debian" else None
    return {COPYRIGHT: content} if content else {}


def _folder(package: Package, cache: Path) -> Path:
    return cache / "packages" / package.registry / f"{package.name.replace('/', '+')}-{package.version}"


def _cached(folder: Path, sha256: str) -> Path | None:
    for archive in sorted(folder.glob("*")) if folder.is_dir() else []:
        if file_sha256(archive) == sha256:
            return archive
        archive.unlink()  # a damaged cache is fetched again
    return None


def _download(package: Package, scratch: Path) -> Path:
    clients = {"pypi": pip_wheel, "pypi-sdist": pip_sdist, "npm": npm_tarball}
    return clients[package.registry](package._release(), scratch)


def _download_debian(package: Package, scratch: Path, cache: Path) -> Path:
    """The tarball that is pinned, of several the first; keeps the package's copyright file in the cache."""
    apt_source(package._release(), scratch, cache / "apt")
    files = sorted(path for path in scratch.iterdir() if path.is_file())
    tarballs = [path for path in files if _TARBALL.search(path.name) and not _PACKAGING.search(path.name)]
    pinned = [path for path in tarballs if file_sha256(path) == package.sha256]
    if not tarballs:
        return files[0]  # of no known form: another checksum than the pinned one
    if pinned:
        _keep_copyright(package, cache, _copyright(files, tarballs))
    return (pinned or tarballs)[0]


def _copyright(files: list[Path], tarballs: list[Path]) -> bytes:
    """`debian/copyright` from where the source package's format has it (dpkg-source(1)); empty where it has none."""
    for path in files:
        if _PACKAGING.search(path.name):  # 3.0 (quilt)
            return read_members(path, lambda name: name == COPYRIGHT).get(COPYRIGHT, b"")
        if path.name.endswith(".diff.gz"):  # 1.0
            return _copyright_in_diff(path)
    found = read_members(tarballs[0], lambda name: name.split("/", 1)[-1] == COPYRIGHT)  # native
    return next(iter(found.values()), b"")


def _copyright_in_diff(diff: Path) -> bytes:
    try:
        with gzip.open(diff) as opened:
            text = opened.read(_MAX_DIFF_BYTES)
    except (OSError, EOFError, zlib.error):
        return b""
    section = re.search(
        rb"^\+\+\+ [^\n]*/debian/copyright\b[^\n]*\n@@ -0,0 [^\n]*\n((?:\+[^\n]*\n)*)", text, re.MULTILINE
    )
    return re.sub(rb"^\+", b"", section[1], flags=re.MULTILINE) if section else b""


def _keep_copyright(package: Package, cache: Path, content: bytes) -> None:
    folder = _folder(package, cache)
    write_atomically(folder.with_name(f"{folder.name}.copyright") / hashlib.sha256(content).hexdigest(), content)


def _cached_copyright(package: Package, cache: Path) -> bytes | None:
    folder = _folder(package, cache)
    for path in sorted(folder.with_name(f"{folder.name}.copyright").glob("*")):
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() == path.name:
            return content
    return None
