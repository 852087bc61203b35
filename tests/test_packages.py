"""Fetching and unpacking archives: what is damaged, foreign or dangerous is refused."""

import hashlib
import io
import random
import subprocess
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from codechoir import packages
from codechoir.artifacts import file_sha256
from codechoir.errors import ChecksumError, ConfigError, InputError, ToolMissingError
from codechoir.packages import Package, fetch, read_members, unpack, unpacked

SMALL = {
    "pypi": Package(
        registry="pypi",
        name="six",
        version="1.16.0",
        sha256="8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254",
    ),
    "npm": Package(
        registry="npm",
        name="is-number",
        version="7.0.0",
        sha256="7b75c1057198cf97696909a9bee176c9c5e9bcb5b03bf3ecef2f484defadd51e",
    ),
}


def wheel(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    return path


def tarball(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tarred:
        for info, content in members:
            info.size = len(content)
            tarred.addfile(info, io.BytesIO(content))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, linkname: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, linkname
    return info


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """A package whose registry gives the bytes of one fixed wheel."""
    served = wheel(tmp_path / "p-1-py3-none-any.whl", **{"p/a.py": b"a = 1\n"})
    content = served.read_bytes()

    def download(_: Package, scratch: Path) -> Path:
        found = scratch / served.name
        found.write_bytes(content)
        return found

    monkeypatch.setattr(packages, "_download", download)
    return Package(registry="pypi", name="p", version="1", sha256=hashlib.sha256(content).hexdigest())


def test_what_is_cached_is_not_fetched_again(package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = fetch(package, tmp_path / "cache")
    monkeypatch.setattr(packages, "_download", None)
    assert fetch(package, tmp_path / "cache") == archive
    assert file_sha256(archive) == package.sha256


def test_a_damaged_cache_is_fetched_again(package: Package, tmp_path: Path) -> None:
    archive = fetch(package, tmp_path / "cache")
    archive.write_bytes(archive.read_bytes()[:-5])
    assert file_sha256(fetch(package, tmp_path / "cache")) == package.sha256


def test_other_bytes_than_the_pinned_are_refused_and_not_cached(package: Package, tmp_path: Path) -> None:
    pinned = package.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(ChecksumError) as caught:
        fetch(pinned, tmp_path / "cache")
    assert (caught.value.seen, caught.value.allowed) == (package.sha256, "0" * 64)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("registry", ["pypi", "npm"])
def test_a_failing_client_is_told_in_its_last_words(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def run(command: list[str], **_: object) -> SimpleNamespace:
        seen.append(command)
        return SimpleNamespace(returncode=1, stderr="first\nno such version\n", stdout="")

    monkeypatch.setattr(packages.shutil, "which", lambda name: name)
    monkeypatch.setattr(packages.subprocess, "run", run)
    with pytest.raises(InputError, match="no such version"):
        fetch(SMALL[registry], tmp_path)
    assert {"pypi": "--no-deps", "npm": "--ignore-scripts"}[registry] in seen[0]


def test_a_client_that_hangs_or_lacks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: object) -> None:
        raise subprocess.TimeoutExpired(command, 1)

    monkeypatch.setattr(packages.subprocess, "run", run)
    with pytest.raises(InputError, match="took over"):
        fetch(SMALL["pypi"], tmp_path)
    monkeypatch.setattr(packages.shutil, "which", lambda _: None)
    with pytest.raises(ToolMissingError, match="npm"):
        fetch(SMALL["npm"], tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        {"name": "../p"},
        {"name": "--index-url"},
        {"version": "1/../2"},
        {"version": ">=1"},
        {"sha256": "abc"},
        {"registry": "cargo"},
    ],
)
def test_names_that_a_client_could_misread_are_refused(values: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        Package.parse({"registry": "pypi", "name": "p", "version": "1", "sha256": "0" * 64, **values}, "test")


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


@pytest.mark.parametrize("name", ["../a.py", "p/../../a.py", "/tmp/a.py", "p\\..\\a.py"])
@pytest.mark.parametrize("suffix", ["whl", "tgz"])
def test_members_that_climb_out_are_refused(name: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    archive = wheel(path, **{name: b"x"}) if suffix == "whl" else tarball(path, (member(name), b"x"))
    with pytest.raises(InputError, match="outside its folder"):
        unpack(archive, tmp_path / "folder")
    with pytest.raises(InputError, match="outside its folder"):
        read_members(archive, lambda _: False)
    assert [found for found in tmp_path.rglob("*") if found.name == "a.py"] == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(kind: bytes, tmp_path: Path) -> None:
    archive = tarball(tmp_path / "a.tgz", (member("p/a.py", kind, "/etc/hostname"), b""))
    with pytest.raises(InputError, match="a link or a device"):
        unpack(archive, tmp_path / "folder")


def test_a_zipped_link_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("p/a.py")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as zipped:
        zipped.writestr(info, "/etc/hostname")
    with pytest.raises(InputError, match="a link or a device"):
        unpack(tmp_path / "a.whl", tmp_path / "folder")


def test_a_member_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "MAX_MEMBER_BYTES", 3)
    assert read_members(wheel(tmp_path / "a.whl", a=b"xxx"), lambda _: True) == {"a": b"xxx"}
    with pytest.raises(InputError, match="4 bytes"):
        unpack(tarball(tmp_path / "a.tgz", (member("a"), b"xxxx")), tmp_path / "folder")


@pytest.mark.parametrize("suffix", ["whl", "tgz"])
def test_an_archive_cut_or_spoiled_anywhere_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    noise = random.Random(0).randbytes(3000)
    archive = wheel(path, a=noise) if suffix == "whl" else tarball(path, (member("a"), noise))
    whole = archive.read_bytes()
    start = 900 if suffix == "whl" else whole.index(b"\0", 10) + 1  # in the member; after the gzip header's file name
    for damaged in (b"", whole[:10], whole[: len(whole) // 2], whole[:start] + b"\xff" * 200 + whole[start + 200 :]):
        archive.write_bytes(damaged)
        with pytest.raises(InputError, match="the archive is damaged"):
            read_members(archive, lambda _: True)


@pytest.mark.network
@pytest.mark.parametrize("registry", ["pypi", "npm"])
def test_a_real_package_is_fetched(registry: str, tmp_path: Path) -> None:
    archive = fetch(SMALL[registry], tmp_path)
    wanted = {"pypi": "six.py", "npm": "package/index.js"}[registry]
    assert len(read_members(archive, lambda name: name == wanted)[wanted]) > 100
    assert archive.parent.name == f"{SMALL[registry].name}-{SMALL[registry].version}"
