"""The clients: what they are asked, what their failures mean, and that nothing fetched is run."""

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from codechoir import registries
from codechoir.errors import InputError, ToolMissingError
from codechoir.registries import (
    PackageGoneError,
    Release,
    apt_source,
    npm_tarball,
    pip_sdist,
    pip_wheel,
    source_lines,
    source_stanzas,
)

CLIENTS = {"pypi": pip_wheel, "pypi-sdist": pip_sdist, "npm": npm_tarball}


def failing(monkeypatch: pytest.MonkeyPatch, stderr: str) -> list[list[str]]:
    """Lets every client fail with `stderr`; the commands that were run."""
    seen: list[list[str]] = []

    def run(command: list[str], **_: object) -> SimpleNamespace:
        seen.append(command)
        return SimpleNamespace(returncode=1, stderr=stderr, stdout="")

    monkeypatch.setattr(registries.shutil, "which", lambda name: name)
    monkeypatch.setattr(registries.subprocess, "run", run)
    return seen


@pytest.mark.parametrize("registry", CLIENTS)
def test_a_failing_client_is_told_in_its_last_words(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = failing(monkeypatch, "first\nout of order\nA complete log of this run can be found in: x\n")
    with pytest.raises(InputError, match="out of order") as failed:
        CLIENTS[registry](Release(registry, "p", "1"), tmp_path)
    assert not isinstance(failed.value, PackageGoneError)
    assert {"npm": "--ignore-scripts"}.get(registry, "--no-deps") in seen[0]


@pytest.mark.parametrize(
    ("registry", "stderr", "gone"),
    [
        ("pypi", "ERROR: No matching distribution found for p==1", True),
        ("pypi-sdist", "ERROR: No matching distribution found for p==1", True),
        ("pypi", "WARNING: Retrying (Retry(total=4)) after x\nERROR: No matching distribution found for p==1", False),
        ("pypi", "ERROR: disk full", False),
        ("npm", "npm error code E404\nnpm error 404 Not Found", True),
        ("npm", "npm ERR! code ETARGET\nnpm ERR! notarget No matching version", True),
        ("npm", "npm error code ENOTFOUND", False),
    ],
)
def test_a_release_that_is_gone_is_told_from_a_registry_out_of_reach(
    registry: str, stderr: str, gone: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, stderr)
    with pytest.raises(InputError) as failed:
        CLIENTS[registry](Release(registry, "p", "1"), tmp_path)
    assert isinstance(failed.value, PackageGoneError) == gone


def test_a_client_that_hangs_or_lacks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: object) -> None:
        raise subprocess.TimeoutExpired(command, 1)

    monkeypatch.setattr(registries.subprocess, "run", run)
    with pytest.raises(InputError, match="took over"):
        pip_wheel(Release("pypi", "p", "1"), tmp_path)
    monkeypatch.setattr(registries.shutil, "which", lambda _: None)
    with pytest.raises(ToolMissingError, match="npm"):
        npm_tarball(Release("npm", "p", "1"), tmp_path)
    with pytest.raises(ToolMissingError, match="apt-get"):
        apt_source(Release("debian", "p", "1"), tmp_path, tmp_path / "apt")


def tarball(path: Path, **contents: str) -> bytes:
    with tarfile.open(path, "w:gz") as tarred:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tarred.addfile(info, io.BytesIO(content.encode()))
    return path.read_bytes()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source distribution in a folder that is pip's only index; when built, it leaves the file `ran`."""
    archive = tmp_path / "served" / "my_project-1.0.tar.gz"
    archive.parent.mkdir()
    hook = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    metadata = "Metadata-Version: 2.1\nName: my-project\nVersion: 1.0\n"
    tarball(archive, **{"my_project-1.0/setup.py": hook, "my_project-1.0/PKG-INFO": metadata})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(archive.parent))
    (tmp_path / "scratch").mkdir()
    return archive


def test_a_source_distribution_is_fetched_and_none_of_its_code_run(served: Path, tmp_path: Path) -> None:
    """pip, left to itself, builds it to learn its dependencies."""
    archive = pip_sdist(Release("pypi-sdist", "My.Project", "1.0"), tmp_path / "scratch")
    assert (archive.parent, archive.read_bytes()) == (tmp_path / "scratch", served.read_bytes())
    assert not (tmp_path / "ran").exists()
    with pytest.raises(PackageGoneError):
        pip_sdist(Release("pypi-sdist", "My.Project", "2.0"), tmp_path / "scratch")


@pytest.mark.usefixtures("served")
def test_a_build_does_not_start_even_where_the_archive_was_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blind = registries._PIP_WITHOUT_BUILDING.replace('event == "open"', "False")
    monkeypatch.setattr(registries, "_PIP_WITHOUT_BUILDING", blind)
    with pytest.raises(InputError, match="could not be fetched"):
        pip_sdist(Release("pypi-sdist", "My.Project", "1.0"), tmp_path / "scratch")
    assert not (tmp_path / "ran").exists()


LIST = """# deb http://mirror.example/debian commented main
deb http://mirror.example/debian stable main contrib
deb-src http://mirror.example/debian stable main contrib
deb [arch=amd64 signed-by=/k.gpg] https://mirror.example/debian-security/ stable-security main
deb https://packages.example/apt stable main
  deb cdrom:[Debian GNU/Linux]/ stable main
"""
SOURCES = """Types: deb
# a comment within
URIs: http://mirror.example/debian
Suites: stable stable-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc

Types: deb deb-src
URIs: http://mirror.example/debian
Suites: testing
Components: main
Enabled: no

types: deb
uris: http://packages.example/node_20.x
suites: nodistro
components: main
"""


def test_a_machines_debian_archives_are_asked_for_sources_alone() -> None:
    assert source_lines(LIST) == [
        "deb-src http://mirror.example/debian stable main contrib\n",
        "deb-src [arch=amd64 signed-by=/k.gpg] https://mirror.example/debian-security/ stable-security main\n",
    ]
    (stanza,) = source_stanzas(SOURCES)
    assert (
        stanza
        == SOURCES.split("\n\n")[0].replace("Types: deb", "Types: deb-src").replace("# a comment within\n", "") + "\n"
    )


needs_apt = pytest.mark.skipif(shutil.which("apt-get") is None, reason="no apt here")


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Debian archive on this disk that holds the source package p in version 1-1; apt knows it and two others."""
    root = tmp_path / "mirror" / "debian"
    pool = root / "pool"
    pool.mkdir(parents=True)
    tarball(pool / "p_1.orig.tar.gz", **{"p-1/a.c": "int a;\n"})
    tarball(pool / "p_1-1.debian.tar.gz", **{"debian/copyright": "Files: *\nLicense: Expat\n"})
    (pool / "p_1-1.dsc").write_text("Format: 3.0 (quilt)\nSource: p\nVersion: 1-1\n")
    publish(root)
    (tmp_path / "sources.list").write_text(
        f"deb [trusted=yes] file:{root} stable main\n"
        f"deb [trusted=yes] file:{tmp_path}/nowhere/debian stable main\n"  # out of reach
        f"deb [trusted=yes] file:{tmp_path}/third-party stable main\n"
    )
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "{tmp_path}/sources.list";\nDir::Etc::sourceparts "/dev/null";\n'
        f'APT::Update::Post-Invoke {{ "touch {tmp_path}/hook"; }};\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    return root


def publish(root: Path) -> None:
    """Writes the archive's lists of what is in its pool."""
    files = sorted((root / "pool").iterdir())
    sums = "".join(f" {hashlib.sha256(p.read_bytes()).hexdigest()} {p.stat().st_size} {p.name}\n" for p in files)
    names = sorted({path.name.split(".dsc")[0] for path in files if path.suffix == ".dsc"})
    stanzas = [
        f"Package: {name.split('_')[0]}\nBinary: {name.split('_')[0]}\nVersion: {name.split('_')[1]}\n"
        f"Format: 3.0 (quilt)\nDirectory: pool\nChecksums-Sha256:\n{sums}\n"
        for name in names
    ]
    lists = root / "dists" / "stable" / "main" / "source"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / "Sources").write_text("\n".join(stanzas))
    content = (lists / "Sources").read_bytes()
    line = f" {hashlib.sha256(content).hexdigest()} {len(content)} main/source/Sources\n"
    (root / "dists" / "stable" / "Release").write_text(f"Suite: stable\nComponents: main\nSHA256:\n{line}")


def asked(name: str, version: str, tmp_path: Path) -> list[str]:
    """The names of the files that the source package has."""
    scratch = tmp_path / f"scratch-{time.monotonic_ns()}"
    scratch.mkdir()
    apt_source(Release("debian", name, version), scratch, tmp_path / "state")
    return sorted(path.name for path in scratch.iterdir())


@needs_apt
def test_a_source_package_is_fetched_with_lists_of_its_own(archive: Path, tmp_path: Path) -> None:
    assert asked("p", "1-1", tmp_path) == ["p_1-1.debian.tar.gz", "p_1-1.dsc", "p_1.orig.tar.gz"]
    assert not (tmp_path / "hook").exists()  # the machine's own commands after an update are not run
    stamp = (tmp_path / "state" / "updated").stat().st_mtime_ns
    for name in ("Sources", "Release"):  # the archive is not asked again
        for path in archive.rglob(name):
            path.unlink()
    assert len(asked("p", "1-1", tmp_path)) == 3
    assert (tmp_path / "state" / "updated").stat().st_mtime_ns == stamp


@needs_apt
@pytest.mark.usefixtures("archive")
@pytest.mark.parametrize(("name", "version"), [("p", "1-2"), ("q", "1-1")])
def test_a_source_package_that_no_archive_has_is_gone(name: str, version: str, tmp_path: Path) -> None:
    with pytest.raises(PackageGoneError, match=f"debian:{name}@{version}"):
        asked(name, version, tmp_path)


@needs_apt
def test_old_lists_are_fetched_again_for_what_they_lack(archive: Path, tmp_path: Path) -> None:
    asked("p", "1-1", tmp_path)
    (archive / "pool" / "p_1-1.dsc").rename(archive / "pool" / "p_1-2.dsc")
    publish(archive)
    with pytest.raises(PackageGoneError):  # they are minutes old
        asked("p", "1-2", tmp_path)
    an_hour_ago = time.time() - 3600
    os.utime(tmp_path / "state" / "updated", (an_hour_ago, an_hour_ago))
    assert "p_1-2.dsc" in asked("p", "1-2", tmp_path)


@needs_apt
def test_a_file_that_is_not_the_archives_is_refused(archive: Path, tmp_path: Path) -> None:
    (archive / "pool" / "p_1.orig.tar.gz").write_bytes(b"x" * (archive / "pool" / "p_1.orig.tar.gz").stat().st_size)
    with pytest.raises(InputError, match="could not be fetched") as refused:
        asked("p", "1-1", tmp_path)
    assert not isinstance(refused.value, PackageGoneError)


@needs_apt
def test_an_archive_out_of_reach_is_not_one_without_the_package(archive: Path, tmp_path: Path) -> None:
    asked("p", "1-1", tmp_path)
    shutil.rmtree(archive)
    (tmp_path / "state" / "updated").unlink()
    with pytest.raises(InputError, match="could not be fetched") as failed:
        asked("q", "1-1", tmp_path)  # the old lists lack it, but they are old
    assert not isinstance(failed.value, PackageGoneError)
    assert not (tmp_path / "state" / "updated").exists()  # so that the next call tries again
    shutil.rmtree(tmp_path / "state")
    with pytest.raises(InputError, match="could not be fetched"):
        asked("p", "1-1", tmp_path)


@needs_apt
@pytest.mark.usefixtures("archive")
def test_several_at_once_update_the_lists_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[str] = []
    run = subprocess.run

    def counted(command: list[str], **options: object) -> object:
        commands.append(command[-1])
        return run(command, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(registries.subprocess, "run", counted)
    threads = [threading.Thread(target=asked, args=("p", "1-1", tmp_path)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (commands.count("update"), commands.count("p=1-1")) == (1, 3)


@needs_apt
@pytest.mark.usefixtures("archive")
def test_a_machine_without_debian_archives_is_told(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("deb https://packages.example/apt stable main\n")
    with pytest.raises(InputError, match="knows no Debian archive"):
        asked("p", "1-1", tmp_path)
