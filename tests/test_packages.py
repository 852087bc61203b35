"""Pinned packages: fetched once, checked, kept; a release that is gone is told apart from one that cannot be had."""

import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from codechoir import packages
from codechoir.artifacts import file_sha256
from codechoir.errors import ChecksumError, ConfigError, InputError
from codechoir.packages import Package, PackageGoneError, fetch, licence_files, read_members

SMALL = {
    "pypi": Package(
        registry="pypi",
        name="six",
        version="1.16.0",
        sha256="8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254",
    ),
    "pypi-sdist": Package(
        registry="pypi-sdist",
        name="six",
        version="1.16.0",
        sha256="1e61c37477a1626458e36f7b1d82aa5c9b094fa4802892072e49de9c60c4c926",
    ),
    "npm": Package(
        registry="npm",
        name="is-number",
        version="7.0.0",
        sha256="7b75c1057198cf97696909a9bee176c9c5e9bcb5b03bf3ecef2f484defadd51e",
    ),
    "debian": Package(
        registry="debian",
        name="hello",
        version="2.10-3",
        sha256="31e066137a962676e89f69d1b65382de95a7ef7d914b8cb956f41ea72e0f516b",
    ),
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """A package whose registry gives the bytes of one fixed wheel."""
    served = tmp_path / "p-1-py3-none-any.whl"
    with zipfile.ZipFile(served, "w") as zipped:
        zipped.writestr("p/a.py", b"a = 1\n")
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
    assert licence_files(package, tmp_path / "cache") == {}


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


@pytest.mark.parametrize(
    "values",
    [
        {"name": "../p"},
        {"name": "--index-url"},
        {"name": "-o"},
        {"version": "1/../2"},
        {"version": ">=1"},
        {"version": "1 2"},
        {"sha256": "abc"},
        {"registry": "cargo"},
    ],
)
@pytest.mark.parametrize("registry", ["pypi", "debian"])
def test_names_that_a_client_could_misread_are_refused(registry: str, values: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        Package.parse({"registry": registry, "name": "p", "version": "1", "sha256": "0" * 64, **values}, "test")


@pytest.mark.parametrize("version", ["1:2.10-3+deb12u1", "2.0~rc1-1", "1.2.3"])
def test_debians_names_and_versions_are_taken(version: str) -> None:
    values = {"registry": "debian", "name": "libsigc++-2.0", "version": version, "sha256": "0" * 64}
    assert str(Package.parse(values, "test")) == f"debian:libsigc++-2.0@{version}"


def tar(contents: Mapping[str, bytes], mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tarred:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tarred.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


STATED = b"Files: *\nLicense: Expat\n"
DIFF = b"""--- p-1.orig/debian/compat
+++ p-1/debian/compat
@@ -0,0 +1 @@
+9
--- p-1.orig/debian/copyright
+++ p-1/debian/copyright
@@ -0,0 +1,2 @@
+Files: *
+License: Expat
--- p-1.orig/debian/rules
+++ p-1/debian/rules
@@ -0,0 +1 @@
+License: GPL
"""
CODE = {"p-1/a.c": b"int a;\n"}
FORMATS = {
    "3.0 (quilt)": {
        "p_1.orig.tar.gz": tar(CODE, "w:gz"),
        "p_1.orig-more.tar.xz": tar({"more/b.c": b""}, "w:xz"),
        "p_1.orig.tar.gz.asc": b"a signature",
        "p_1-1.debian.tar.xz": tar({"debian/copyright": STATED, "debian/rules": b""}, "w:xz"),
    },
    "3.0 (native)": {"p_1.tar.xz": tar({**CODE, "p-1/debian/copyright": STATED}, "w:xz")},
    "1.0": {"p_1.orig.tar.gz": tar(CODE, "w:gz"), "p_1-1.diff.gz": gzip.compress(DIFF)},
}


@pytest.mark.parametrize(
    ("form", "pinned"),
    [
        ("3.0 (quilt)", "p_1.orig.tar.gz"),
        ("3.0 (quilt)", "p_1.orig-more.tar.xz"),
        ("3.0 (native)", "p_1.tar.xz"),
        ("1.0", "p_1.orig.tar.gz"),
    ],
)
def test_a_debian_source_package(form: str, pinned: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = FORMATS[form]

    def apt_source(_: object, scratch: Path, state: Path) -> None:
        assert state == tmp_path / "apt"
        for name, content in {"p_1-1.dsc": b"", **files}.items():
            (scratch / name).write_bytes(content)

    monkeypatch.setattr(packages, "apt_source", apt_source)
    sha256 = hashlib.sha256(files[pinned]).hexdigest()
    package = Package(registry="debian", name="p", version="1-1", sha256=sha256)
    archive = fetch(package, tmp_path)
    assert (archive.name, archive.read_bytes()) == (pinned, files[pinned])
    assert licence_files(package, tmp_path) == {"debian/copyright": STATED}

    with pytest.raises(ChecksumError) as refused:
        fetch(package.model_copy(update={"version": "1-2", "sha256": "0" * 64}), tmp_path)
    assert not list((tmp_path / "packages" / "debian").glob("p-1-2*/*"))
    assert refused.value.seen in {hashlib.sha256(content).hexdigest() for content in files.values()}

    monkeypatch.setattr(packages, "apt_source", None)
    assert fetch(package, tmp_path) == archive  # from the cache
    (copyright_file,) = (archive.parent.parent / "p-1-1.copyright").iterdir()
    copyright_file.write_bytes(b"spoiled")
    monkeypatch.setattr(packages, "apt_source", apt_source)
    fetch(package, tmp_path)
    assert licence_files(package, tmp_path) == {"debian/copyright": STATED}


@pytest.mark.network
@pytest.mark.parametrize("registry", ["pypi", "pypi-sdist", "npm", "debian"])
def test_a_real_package_is_fetched(registry: str, tmp_path: Path) -> None:
    package = SMALL[registry]
    try:
        archive = fetch(package, tmp_path)
    except PackageGoneError:
        if registry != "debian":
            raise
        pytest.skip("this machine's Debian has another version")
    wanted = {"pypi": "six.py", "npm": "package/index.js", "debian": "hello-2.10/src/hello.c"}
    name = wanted.get(registry, "six-1.16.0/six.py")
    assert len(read_members(archive, lambda found: found == name)[name]) > 100
    assert archive.parent.name == f"{package.name}-{package.version}"
    stated = licence_files(package, tmp_path).get("debian/copyright", b"")
    assert (b"GNU General Public License" in stated) == (registry == "debian")


@pytest.mark.network
@pytest.mark.parametrize("registry", ["pypi", "npm"])
def test_a_release_that_is_not_there_is_told_apart(registry: str, tmp_path: Path) -> None:
    with pytest.raises(PackageGoneError, match=r"@99\.99\.99 is not in its registry"):
        fetch(SMALL[registry].model_copy(update={"version": "99.99.99"}), tmp_path)
    assert issubclass(PackageGoneError, InputError)
