"""Archives read as untrusted input: names checked, sizes bounded, no link followed, no archive within opened.

Owns the limits and what is refused. Goes in: a wheel, a zip or a tarball (plain, gzip, bzip2 or xz), told apart by its
first bytes. Comes out: its regular files, one at a time. Knows no registry, no licence and no language.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Protocol, cast

from codechoir.errors import InputError


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


_PIECE = 2**18  # bytes read at a time
_OPENERS: dict[bytes, Callable[[IO[bytes]], _Readable]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
_MAX_HEADER_BYTES = 2**24  # tarfile reads extended headers whole: a file of zeros could pose as one
_BLOCK = 512
_ZIP_HEADER_BYTES = 30
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # zipfile decompresses the others without a bound
_DRIVE = re.compile(r"[A-Za-z]:")
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError)
# what the readers raise on nonsense that they do not check: numbers in headers, encrypted members, endless chains
_NONSENSE = (ValueError, OverflowError, RuntimeError, IndexError)


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may hold, in bytes of content."""

    max_file_bytes: int = 256 * 2**20
    max_total_bytes: int = 4 * 2**30
    max_ratio: int = 200  # bytes of content for a byte of the archive; code compresses 3 to 20 times
    ratio_from_bytes: int = 100 * 2**20  # less than this may have any ratio
    max_members: int = 1_000_000

    def check(self, archive: Path, num_bytes: int, num_archive_bytes: int) -> None:
        """Raises InputError where an archive of this size has too much content."""
        bomb = num_bytes >= self.ratio_from_bytes and num_bytes > self.max_ratio * num_archive_bytes
        if bomb or num_bytes > self.max_total_bytes:
            raise InputError(
                "the archive is a decompression bomb, or too large",
                seen=f"{archive}: at least {num_bytes} bytes in an archive of {num_archive_bytes}",
                allowed=f"{self.max_total_bytes} bytes, and {self.max_ratio} times the archive's own",
                next_step="remove the archive, or unpack it yourself if you trust it",
            )


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file of an archive. `content` is None where it was not read; `damage` then says "REASON: detail"."""

    name: str  # checked: relative, no "..", "/" between folders
    content: bytes | None
    damage: str = ""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A regular file before it is read; only until the next is asked for."""

    name: str
    size: int  # as the archive says
    open: Callable[[], IO[bytes]]


def members(archive: Path, wanted: Callable[[str], bool], limits: Limits = LIMITS) -> Iterator[Member]:
    """The regular files whose name is `wanted`, in the archive's order, one content in memory at a time.

    A wanted file over `limits.max_file_bytes` comes without content, as "too-large". Links are passed over. Raises
    InputError for an archive that is damaged or a bomb, or holds (wanted or not) a device or a path that leaves it;
    what was yielded before then is not to be kept.
    """
    with _damage_told(archive):
        for entry in _entries(archive, limits):
            if not wanted(entry.name):
                continue
            if entry.size > limits.max_file_bytes:
                yield Member(entry.name, None, f"too-large: {entry.size} bytes")
                continue
            yield Member(entry.name, b"".join(_pieces(archive, entry)))


def read_members(archive: Path, wanted: Callable[[str], bool], limits: Limits = LIMITS) -> dict[str, bytes]:
    """The contents of the `wanted` files by name, all in memory; of several with one name, the last.

    Raises InputError as `members` does, and for a file that is too large.
    """
    found = {}
    for member in members(archive, wanted, limits):
        if member.content is None:
            raise InputError("the archive's member is too large", seen=f"{archive}: {member.name}: {member.damage}")
        found[member.name] = member.content
    return found


@contextmanager
def unpacked(archive: Path) -> Iterator[Path]:
    """A temporary folder with the archive's regular files; removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="codechoir-unpack-") as folder:
        unpack(archive, Path(folder))
        yield Path(folder)


def unpack(archive: Path, folder: Path, limits: Limits = LIMITS) -> None:
    """Unpacks the archive's regular files into `folder`. Raises InputError as `read_members` does."""
    with _damage_told(archive):
        for entry in _entries(archive, limits):
            if entry.size > limits.max_file_bytes:
                raise InputError(
                    "the archive's member is too large", seen=f"{archive}: {entry.name}: {entry.size} bytes"
                )
            target = folder / entry.name
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                out = target.open("wb")
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                raise InputError(
                    "the archive's members are in each other's way", seen=f"{archive}: {entry.name}"
                ) from None
            with out:
                out.writelines(_pieces(archive, entry))


@contextmanager
def _damage_told(archive: Path) -> Iterator[None]:
    try:
        yield
    except (*_DAMAGE, *_NONSENSE) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _damaged(archive, str(error) or type(error).__name__) from None


def _damaged(archive: Path, why: str) -> InputError:
    return InputError("the archive is damaged", seen=f"{archive}: {why}", next_step="remove it; it is fetched again")


def _pieces(archive: Path, entry: _Entry) -> Iterator[bytes]:
    """The content of a file, which must have the length that the archive's header says."""
    num_bytes = 0
    with closing(entry.open()) as file:
        while piece := file.read(_PIECE):
            num_bytes += len(piece)
            yield piece
    if num_bytes != entry.size:
        raise _damaged(archive, f"{entry.name}: {num_bytes} bytes where the header says {entry.size}")


def _entries(archive: Path, limits: Limits) -> Iterator[_Entry]:
    with archive.open("rb") as raw:
        start = raw.read(6)
        if archive.suffix in (".whl", ".zip") or start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            return (yield from _zip_entries(archive, limits))
        if start.startswith(b"\x28\xb5\x2f\xfd"):
            raise InputError(
                "the archive is compressed with zstd, which is not read",
                seen=archive,
                allowed="zip, and tar: plain or with gzip, bzip2, xz",
                next_step="compress it anew with one of these",
            )
        raw.seek(0)
        opened = next((opener for magic, opener in _OPENERS.items() if start.startswith(magic)), None)
        stream = _Stream(raw if opened is None else opened(raw), archive, limits)
        yield from _tar_entries(archive, stream, limits)
        if stream.last_block != bytes(_BLOCK) and (stream.last_block or opened is None):
            raise _damaged(archive, "a header is damaged, or the end is missing")
        while stream.read(_PIECE):  # to the end, where the compression's checksum is
            pass


def _zip_entries(archive: Path, limits: Limits) -> Iterator[_Entry]:
    with zipfile.ZipFile(archive) as zipped:
        infos = zipped.infolist()
        _check_number(archive, len(infos), limits)
        limits.check(archive, sum(info.file_size for info in infos), archive.stat().st_size)
        _check_overlaps(archive, infos, zipped.start_dir)
        for info in infos:
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir() or kind in (stat.S_IFDIR, stat.S_IFLNK):
                continue
            name = _checked_name(archive, info.orig_filename, regular=kind in (0, stat.S_IFREG))
            if info.compress_type not in _ZIP_METHODS:
                raise InputError(
                    "the archive's member is compressed in a way that is not read",
                    seen=f"{archive}: {name}: zip method {info.compress_type}",
                    allowed="stored, deflated",
                )
            yield _Entry(name, info.file_size, partial(zipped.open, info))


def _check_overlaps(archive: Path, infos: Sequence[zipfile.ZipInfo], end: int) -> None:
    """Refuses members that share bytes, with which little unfolds to much (Fifield 2019, A better zip bomb)."""
    for info in sorted(infos, key=lambda info: -info.header_offset):
        # without the local header's extra field, which would have to be read: a bomb overlaps by far more
        if info.header_offset + _ZIP_HEADER_BYTES + len(info.orig_filename) + info.compress_size > end:
            raise InputError(
                "the archive's members overlap, as in a decompression bomb", seen=f"{archive}: {info.filename!r}"
            )
        end = info.header_offset


def _tar_entries(archive: Path, stream: _Stream, limits: Limits) -> Iterator[_Entry]:
    num_members = num_bytes = 0
    num_archive_bytes = archive.stat().st_size
    with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:") as tarred:
        while (info := tarred.next()) is not None:
            tarred.members = []  # type: ignore[attr-defined]  # it would keep every one
            num_members += 1
            num_bytes += info.size  # of a sparse file, what it unfolds to
            _check_number(archive, num_members, limits)
            limits.check(archive, num_bytes, num_archive_bytes)  # before the content is read or passed over
            if info.isdir() or info.issym() or info.islnk():
                continue
            name = _checked_name(archive, info.name, regular=info.isfile())
            yield _Entry(name, info.size, cast(Callable[[], IO[bytes]], partial(tarred.extractfile, info)))


def _check_number(archive: Path, num_members: int, limits: Limits) -> None:
    if num_members > limits.max_members:
        raise InputError(
            "the archive has too many members", seen=f"{archive}: {num_members}", allowed=f"{limits.max_members}"
        )


def _checked_name(archive: Path, name: str, *, regular: bool) -> str:
    path = PurePosixPath(name)
    if not regular:
        raise InputError("the archive holds a device", seen=f"{archive}: {name!r}")
    climbs = path.is_absolute() or ".." in path.parts or not path.parts
    if climbs or "\\" in name or "\0" in name or _DRIVE.match(name):
        raise InputError("the archive's member would land outside its folder", seen=f"{archive}: {name!r}")
    return path.as_posix().encode(errors="surrogateescape").decode(errors="replace")


class _Stream:
    """A tarball's decompressed bytes, read once from start to end and counted against the limits."""

    def __init__(self, source: _Readable, archive: Path, limits: Limits) -> None:
        self._source, self._archive, self._limits = source, archive, limits
        self._num_archive_bytes = archive.stat().st_size
        self.num_bytes = 0
        self.last_block = b""  # the last read: after tarfile's last, the block that it took for the end

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MAX_HEADER_BYTES:
            raise _damaged(self._archive, f"a header of {size} bytes")
        self.last_block = self._source.read(size)
        self.num_bytes += len(self.last_block)
        self._limits.check(self._archive, self.num_bytes, self._num_archive_bytes)
        return self.last_block

    def tell(self) -> int:
        return self.num_bytes

    def seek(self, position: int) -> None:
        if position < self.num_bytes:
            raise _damaged(self._archive, "its headers go back")
        while self.num_bytes < position and self.read(min(_PIECE, position - self.num_bytes)):
            pass
