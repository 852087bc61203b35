"""Archives as untrusted input: what is damaged, foreign or dangerous is refused, and nothing grows without bound."""

import bz2
import gzip
import io
import lzma
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codechoir.archives import Limits, Member, members, read_members, unpack, unpacked
from codechoir.errors import InputError


def everything(_: str) -> bool:
    return True


def wheel(path: Path, **contents: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in contents.items():
            zipped.writestr(name, content)
    return path


def tarball(path: Path, *contents: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tarred:
        for info, content in contents:
            info.size = len(content)
            tarred.addfile(info, io.BytesIO(content))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, linkname: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, linkname
    return info


def test_unpacking_gives_the_files_back(tmp_path: Path) -> None:
    zipped = wheel(tmp_path / "a.whl", **{"p/a.py": b"a", "p/b/c.py": b"c"})
    tarred = tarball(
        tmp_path / "a.tgz",
        (member("package", tarfile.DIRTYPE), b""),
        (member("p/a.py"), b"a"),
        (member("p/b/c.py"), b"c"),
    )
    for archive in (zipped, tarred):
        with unpacked(archive) as folder:
            assert (folder / "p/a.py").read_bytes() == b"a"
            assert (folder / "p/b/c.py").read_bytes() == b"c"
        assert not folder.exists()
        assert read_members(archive, lambda name: name.endswith("c.py")) == {"p/b/c.py": b"c"}


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.tar", lambda data: data),
        ("a.tar.gz", gzip.compress),
        ("a.tar.bz2", bz2.compress),
        ("a.tar.xz", lzma.compress),
        ("wrongly-named.zap", lzma.compress),
    ],
)
def test_every_compression_is_told_by_its_first_bytes(
    name: str, write: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    # sizes around tar's blocks and our pieces, one of them a whole number of blocks
    contents = {f"p/{size}": random.Random(size).randbytes(size) for size in (0, 1, 511, 512, 513, 2**18, 2**18 + 1)}
    plain = tarball(tmp_path / "plain", *((member(name), content) for name, content in contents.items()), mode="w")
    archive = tmp_path / name
    archive.write_bytes(write(plain.read_bytes()))
    assert read_members(archive, everything) == contents
    assert [found.name for found in members(archive, lambda name: name == "p/513")] == ["p/513"]


def test_zstd_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(100))
    with pytest.raises(InputError, match="zstd, which is not read"):
        read_members(tmp_path / "a.tar.zst", everything)


def test_long_and_foreign_names(tmp_path: Path) -> None:
    long = "d/" * 80 + "é" * 60
    for style in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        with tarfile.open(tmp_path / "a.tgz", "w:gz", format=style) as tarred:
            tarred.addfile(member(long))
            tarred.addfile(member("./p/a.py"))
        assert list(read_members(tmp_path / "a.tgz", everything)) == [long, "p/a.py"]
    with tarfile.open(tmp_path / "a.tgz", "w:gz", format=tarfile.GNU_FORMAT, encoding="latin-1") as tarred:
        tarred.addfile(member("p/é.py"))
    (name,) = read_members(tmp_path / "a.tgz", everything)
    assert (name, name.encode()) == ("p/\ufffd.py", b"p/\xef\xbf\xbd.py")  # what Parquet can hold


@pytest.mark.parametrize("name", ["../a.py", "p/../../a.py", "/tmp/a.py", "p\\..\\a.py", "C:a.py", "c:/a.py"])
@pytest.mark.parametrize("suffix", ["whl", "tgz"])
def test_members_that_climb_out_are_refused(name: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    archive = wheel(path, **{name: b"x"}) if suffix == "whl" else tarball(path, (member(name), b"x"))
    with pytest.raises(InputError, match="outside its folder"):
        unpack(archive, tmp_path / "folder")
    with pytest.raises(InputError, match="outside its folder"):
        read_members(archive, lambda _: False)
    assert [found for found in tmp_path.rglob("*") if found.name == "a.py"] == []


def test_a_name_that_hides_its_end_is_refused(tmp_path: Path) -> None:
    archive = wheel(tmp_path / "a.whl", **{"p/a.py!.txt": b"x"})
    archive.write_bytes(archive.read_bytes().replace(b"a.py!", b"a.py\0"))
    with pytest.raises(InputError, match="outside its folder"):
        read_members(archive, everything)
    hidden = member("short")
    hidden.pax_headers = {"path": "p/a.py\0.txt"}
    with pytest.raises(InputError, match="outside its folder"):
        read_members(tarball(tmp_path / "a.tgz", (hidden, b"x")), everything)


@pytest.mark.parametrize("target", ["/etc/hostname", "../../../etc/hostname", "b.py"])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_are_passed_over(kind: bytes, target: str, tmp_path: Path) -> None:
    link = member("p/a.py", kind, target)
    archive = tarball(tmp_path / "a.tgz", (link, b""), (member("p/b.py"), b"b"))
    assert read_members(archive, everything) == {"p/b.py": b"b"}
    unpack(archive, tmp_path / "folder")
    assert [path.name for path in (tmp_path / "folder").rglob("*.py")] == ["b.py"]


def test_a_link_to_a_folder_leads_nowhere(tmp_path: Path) -> None:
    """The link is not made, so that what is written below it stays inside."""
    (tmp_path / "outside").mkdir()
    link = member("p", tarfile.SYMTYPE, str(tmp_path / "outside"))
    unpack(tarball(tmp_path / "a.tgz", (link, b""), (member("p/b.py"), b"b")), tmp_path / "folder")
    assert (tmp_path / "folder/p/b.py").read_bytes() == b"b"
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_devices_are_refused(kind: bytes, tmp_path: Path) -> None:
    archive = tarball(tmp_path / "a.tgz", (member("p/a.py", kind), b""))
    with pytest.raises(InputError, match="a device"):
        unpack(archive, tmp_path / "folder")


@pytest.mark.parametrize(("mode", "refused"), [(0o120777, False), (0o020666, True), (0o100644, False)])
def test_zipped_links_and_devices(mode: int, refused: bool, tmp_path: Path) -> None:
    info = zipfile.ZipInfo("p/a.py")
    info.external_attr = mode << 16
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as zipped:
        zipped.writestr(info, "/etc/hostname")
    if refused:
        with pytest.raises(InputError, match="a device"):
            read_members(tmp_path / "a.whl", everything)
    else:
        assert bool(read_members(tmp_path / "a.whl", everything)) == (mode == 0o100644)


@pytest.mark.parametrize("suffix", ["whl", "tgz"])
def test_a_member_that_is_too_large_is_not_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    contents = {"a": b"xxx", "b": b"xxxx", "c": b"x"}
    archive = wheel(path, **contents)
    if suffix == "tgz":
        archive = tarball(path, *((member(name), content) for name, content in contents.items()))
    limits = Limits(max_file_bytes=3)
    assert list(members(archive, everything, limits)) == [
        Member("a", b"xxx"),
        Member("b", None, "too-large: 4 bytes"),
        Member("c", b"x"),
    ]
    assert [found.name for found in members(archive, lambda name: name != "b", limits)] == ["a", "c"]
    for refuse in (lambda: read_members(archive, everything, limits), lambda: unpack(archive, tmp_path / "f", limits)):
        with pytest.raises(InputError, match=r"too large\n.*4 bytes"):
            refuse()


SMALL = Limits(max_file_bytes=10**6, max_total_bytes=3 * 10**6, max_ratio=20, ratio_from_bytes=10**6, max_members=100)


@pytest.mark.parametrize("suffix", ["whl", "tgz", "tbz", "txz"])
@pytest.mark.parametrize("wanted", [True, False])
def test_a_bomb_is_refused_whether_its_members_are_wanted_or_not(suffix: str, wanted: bool, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    zeros = {str(number): bytes(500_000) for number in range(5)}
    if suffix == "whl":
        wheel(path, **zeros)
    else:
        mode = {"tgz": "w:gz", "tbz": "w:bz2", "txz": "w:xz"}[suffix]
        tarball(path, *((member(name), content) for name, content in zeros.items()), mode=mode)
    with pytest.raises(InputError, match="a decompression bomb"):
        read_members(path, lambda _: wanted, SMALL)
    assert read_members(path, everything) == zeros  # a few megabytes of zeros are none by the limits in force


@pytest.mark.parametrize("suffix", ["whl", "tgz"])
def test_too_much_content_is_refused_however_badly_it_compresses(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    noise = {str(number): random.Random(number).randbytes(900_000) for number in range(4)}
    if suffix == "whl":
        wheel(path, **noise)
    else:
        tarball(path, *((member(name), content) for name, content in noise.items()))
    with pytest.raises(InputError, match="at least 36"):
        read_members(path, everything, SMALL)


@pytest.mark.parametrize("suffix", ["whl", "tgz"])
def test_too_many_members_are_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    names = [str(number) for number in range(101)]
    archive = (
        wheel(path, **dict.fromkeys(names, b""))
        if suffix == "whl"
        else tarball(path, *((member(n), b"") for n in names))
    )
    with pytest.raises(InputError, match="too many members"):
        read_members(archive, everything, SMALL)


def test_what_follows_a_tarballs_end_counts_too(tmp_path: Path) -> None:
    plain = tarball(tmp_path / "plain", (member("a"), b"x"), mode="w").read_bytes()
    (tmp_path / "a.tgz").write_bytes(gzip.compress(plain + bytes(2_000_000)))
    with pytest.raises(InputError, match="a decompression bomb"):
        read_members(tmp_path / "a.tgz", everything, SMALL)


def test_a_header_that_would_fill_memory_is_refused(tmp_path: Path) -> None:
    """tarfile reads extended headers whole, before a member is seen."""
    header = member("x", tarfile.XHDTYPE)
    header.size = 2**30
    (tmp_path / "a.tgz").write_bytes(gzip.compress(header.tobuf() + bytes(10_000)))
    with pytest.raises(InputError, match=f"a header of {2**30} bytes"):
        read_members(tmp_path / "a.tgz", everything)


def test_a_sparse_file_counts_as_what_it_unfolds_to(tmp_path: Path) -> None:
    info = member("a")
    info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": "a"}
    info.pax_headers |= {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**40)}
    archive = tarball(tmp_path / "a.tgz", (info, b"x"))
    with pytest.raises(InputError, match=f"at least {2**40} bytes"):
        read_members(archive, lambda _: False)


def overlapping(path: Path, num_members: int) -> Path:
    """A zip whose directory names one compressed file many times."""
    wheel(path, a=bytes(10_000))
    data = path.read_bytes()
    end = data.rindex(b"PK\x05\x06")
    size, start = struct.unpack("<II", data[end + 12 : end + 20])
    entry = data[start : start + size]
    directory = b"".join(entry for _ in range(num_members))
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, num_members, num_members, len(directory), start, 0)
    path.write_bytes(data[:start] + directory + tail)
    return path


def test_members_that_share_bytes_are_refused(tmp_path: Path) -> None:
    assert len(read_members(overlapping(tmp_path / "a.zip", 1), everything)) == 1
    with pytest.raises(InputError, match="overlap"):
        read_members(overlapping(tmp_path / "b.zip", 2), lambda _: False)


@pytest.mark.parametrize("claimed", [9_999, 10_001, 5])
def test_a_size_that_lies_is_refused(claimed: int, tmp_path: Path) -> None:
    archive = wheel(tmp_path / "a.zip", a=b"x" * 10_000)
    data = bytearray(archive.read_bytes())
    struct.pack_into("<I", data, data.rindex(b"PK\x01\x02") + 24, claimed)
    archive.write_bytes(data)
    with pytest.raises(InputError, match="the archive is damaged"):
        read_members(archive, everything)


def test_a_size_that_lies_with_a_checksum_that_fits_is_refused(tmp_path: Path) -> None:
    archive = wheel(tmp_path / "a.zip", a=b"x" * 10_000)
    data = bytearray(archive.read_bytes())
    struct.pack_into("<I", data, data.rindex(b"PK\x01\x02") + 24, 20_000)
    archive.write_bytes(data)
    with pytest.raises(InputError, match="10000 bytes where the header says 20000"):
        read_members(archive, everything)


def test_what_zipfile_would_decompress_without_a_bound_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_BZIP2) as zipped:
        zipped.writestr("a", b"x" * 1000)
    with pytest.raises(InputError, match="in a way that is not read"):
        read_members(tmp_path / "a.zip", everything)


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    archive = wheel(tmp_path / "a.zip", a=b"x")
    data = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    archive.write_bytes(data)
    with pytest.raises(InputError, match="the archive is damaged"):
        read_members(archive, everything)


def test_an_archive_within_is_a_file_like_others(tmp_path: Path) -> None:
    inner = wheel(tmp_path / "inner.zip", **{"../a.py": b"x"}).read_bytes()
    assert read_members(wheel(tmp_path / "a.zip", **{"inner.zip": inner}), everything) == {"inner.zip": inner}


def test_members_in_each_others_way_are_refused(tmp_path: Path) -> None:
    archive = tarball(tmp_path / "a.tgz", (member("a"), b"x"), (member("a/b"), b"x"))
    with pytest.raises(InputError, match="in each other's way"):
        unpack(archive, tmp_path / "folder")


@pytest.mark.parametrize("suffix", ["whl", "tgz", "txz"])
def test_an_archive_cut_or_spoiled_anywhere_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    noise = random.Random(0).randbytes(3000)
    mode = "w:gz" if suffix == "tgz" else "w:xz"
    archive = wheel(path, a=noise) if suffix == "whl" else tarball(path, (member("a"), noise), mode=mode)
    whole = archive.read_bytes()
    start = 900
    for damaged in (b"", whole[:10], whole[: len(whole) // 2], whole[:start] + b"\xff" * 200 + whole[start + 200 :]):
        archive.write_bytes(damaged)
        with pytest.raises(InputError, match="the archive is damaged"):
            read_members(archive, everything)
        with pytest.raises(InputError, match="the archive is damaged"):
            unpack(archive, tmp_path / "folder")


def test_a_wrong_checksum_at_the_end_is_found(tmp_path: Path) -> None:
    archive = tarball(tmp_path / "a.tgz", (member("a"), b"x"))
    data = archive.read_bytes()
    assert data[-8:-4] == struct.pack("<I", zlib.crc32(gzip.decompress(data)))
    archive.write_bytes(data[:-8] + bytes(4) + data[-4:])
    with pytest.raises(InputError, match="CRC check failed"):
        read_members(archive, everything)


@pytest.mark.parametrize("cut", [1024, 1100, 1536])
def test_a_plain_tarball_without_its_end_is_refused(cut: int, tmp_path: Path) -> None:
    archive = tarball(tmp_path / "a.tar", (member("a"), b"x"), (member("b"), b"x"), mode="w")
    archive.write_bytes(archive.read_bytes()[:cut])
    with pytest.raises(InputError, match="the archive is damaged"):
        read_members(archive, everything)


def test_a_damaged_header_is_not_the_end(tmp_path: Path) -> None:
    """tarfile takes any header that it cannot read for the end, except the first."""
    archive = tarball(tmp_path / "a.tar", (member("a"), b"x"), (member("b"), b"x"), mode="w")
    data = bytearray(archive.read_bytes())
    data[1024] ^= 1  # in the second header's name: its checksum is wrong
    archive.write_bytes(data)
    with pytest.raises(InputError, match="a header is damaged"):
        read_members(archive, everything)


PLAIN = {"a/b.py": b"print()\n" * 20, "a/c.py": bytes(600), "d": b""}


@settings(max_examples=150, deadline=None)
@given(
    suffix=st.sampled_from(["zip", "tar", "tgz"]),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.none() | st.integers(0, 10**6),
)
def test_no_spoiled_archive_does_more_than_be_refused(
    suffix: str, changes: list[tuple[int, int]], cut: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"spoiled.{suffix}"
    if suffix == "zip":
        wheel(path, **PLAIN)
    else:
        mode = "w" if suffix == "tar" else "w:gz"
        tarball(path, *((member(name), content) for name, content in PLAIN.items()), mode=mode)
    data = bytearray(path.read_bytes())
    for place, value in changes:
        data[place % len(data)] = value
    path.write_bytes(data if cut is None else data[: cut % len(data)])
    try:
        found = read_members(path, everything)
    except InputError:
        return
    for name, content in found.items():
        # zip and gzip have checksums; a plain tarball none over contents
        assert suffix == "tar" or name not in PLAIN or content == PLAIN[name]
