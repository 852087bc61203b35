"""The registries' ordinary clients: pip, npm and apt, each asked for one release's archive.

Owns their command lines and what their failures mean. Nothing is built, executed or installed, and the machine's own
configuration (indexes, mirrors, proxies, keys) holds and is left as it is. Goes in: a release and a scratch folder.
Comes out: files in that folder. Knows no pinned checksum and no cache but apt's package lists.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from codechoir.artifacts import locked, write_atomically
from codechoir.errors import InputError, ToolMissingError

FETCH_SECONDS = 900
LISTS_SECONDS = 24 * 3600  # so long apt's lists are good for what is in them
RETRY_SECONDS = 600  # and so long for what is not

# pip would run a source distribution's build to learn its dependencies. This ends pip as it opens the archive that it
# has downloaded, which is then whole, and in any case before it starts another Python.
_PIP_WITHOUT_BUILDING = """
import os, re, runpy, sys
start = re.sub("[-_.]+", "-", sys.argv.pop(1)).lower() + "-"
def watch(event, args):
    if event == "open" and isinstance(args[0], str) and str(args[1]).startswith("r"):
        name = os.path.basename(args[0])
        if re.sub("[-_.]+", "-", name).lower().startswith(start) and re.search(r"\\.(tar\\.\\w+|tgz|zip)$", name):
            os.write(1, b"\\narchive:" + os.fsencode(os.path.abspath(args[0])) + b"\\n")
            os._exit(0)
    if event == "subprocess.Popen" and sys.executable in (args[0], list(args[1])[0]):
        os._exit(1)
sys.addaudithook(watch)
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""

_PIP_GONE = re.compile(r"No matching distribution found")
_PIP_UNREACHED = re.compile(r"Retrying \(|Could not fetch URL|ConnectionError|connection broken")
_NPM_GONE = re.compile(r"\b(E404|ETARGET)\b")
_APT_GONE = re.compile(r"Can not find version|Unable to find a source package|\b404\s+Not Found")
_APT_TRIED = re.compile(r"^(Get|Hit|Ign|Err):(\d+)", re.MULTILINE)
_NO_NEWS = re.compile(r"complete log of this run|Some index files failed|Failed to fetch some")
# the last folder of a Debian archive's or mirror's address; others seldom offer sources
_DEBIAN_URI = re.compile(r"/(debian|ubuntu|devuan|raspbian|kali)(-[a-z-]+)?/?$")


class PackageGoneError(InputError):
    """A release that its registry was asked for and no longer has."""


@dataclass(frozen=True, slots=True)
class Release:
    """One version of a package of a registry."""

    registry: str
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.registry}:{self.name}@{self.version}"


def pip_wheel(release: Release, scratch: Path) -> Path:
    """A wheel of PyPI that fits this machine. Raises PackageGoneError, or InputError for any other failure."""
    command = [sys.executable, "-m", "pip", *_pip_options(scratch), "--only-binary=:all:", _pip_spec(release)]
    done = _run(release, command, scratch)
    wheels = sorted(scratch.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        _pip_failed(release, done)
    return wheels[0]


def pip_sdist(release: Release, scratch: Path) -> Path:
    """A source distribution of PyPI, with none of its code run. Raises as `pip_wheel` does."""
    command = [sys.executable, "-P", "-c", _PIP_WITHOUT_BUILDING, release.name, *_pip_options(scratch)]
    command += ["--no-binary=:all:", "--no-build-isolation", _pip_spec(release)]
    done = _run(release, command, scratch, {"TMPDIR": str(scratch)})
    found = re.search(r"^archive:(.+)$", done.stdout, re.MULTILINE)
    if found is None:
        _pip_failed(release, done)
    archive = Path(found[1])
    return Path(shutil.copy(archive, scratch / archive.name))


def _pip_options(scratch: Path) -> list[str]:
    return ["download", "--quiet", "--no-deps", "--disable-pip-version-check", "--dest", str(scratch)]


def _pip_spec(release: Release) -> str:
    return f"{release.name}=={release.version}"


def _pip_failed(release: Release, done: subprocess.CompletedProcess[str]) -> NoReturn:
    gone = _PIP_GONE.search(done.stderr) is not None and _PIP_UNREACHED.search(done.stderr) is None
    raise _failure(release, done, gone=gone)


def npm_tarball(release: Release, scratch: Path) -> Path:
    """A tarball of npm; its scripts are not run. Raises as `pip_wheel` does."""
    npm = _tool("npm", release)
    command = [npm, "pack", "--loglevel=error", "--ignore-scripts", "--pack-destination", str(scratch)]
    done = _run(release, [*command, f"{release.name}@{release.version}"], scratch)
    tarballs = sorted(scratch.glob("*.tgz"))
    if done.returncode != 0 or len(tarballs) != 1:
        raise _failure(release, done, gone=_NPM_GONE.search(done.stderr) is not None)
    return tarballs[0]


def apt_source(release: Release, scratch: Path, state: Path) -> None:
    """A Debian source package's files, checked by apt against the archive's signature, into `scratch`.

    The Debian archives that this machine takes binary packages from are asked for source packages, with lists of their
    own below `state`, which serve every later call. Raises as `pip_wheel` does.
    """
    apt = [_tool("apt-get", release), *_apt_options(state)]
    gone = False
    for seconds in (LISTS_SECONDS, RETRY_SECONDS):  # a version that old lists lack, or still have, may be known by now
        up_to_date = _update_lists(release, apt, state, seconds)
        with locked(state, shared=True):
            spec = f"{release.name}={release.version}"
            done = _run(release, [*apt, "source", "--download-only", "--only-source", "-qq", spec], scratch)
        if done.returncode == 0 and any(scratch.glob("*.dsc")):
            return
        gone = up_to_date and _APT_GONE.search(done.stderr) is not None
        if not gone:
            break
    raise _failure(release, done, gone=gone)


def _apt_options(state: Path) -> list[str]:
    places = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": f"{state}/sources",
        "Dir::State": str(state),
        "Dir::State::lists": f"{state}/lists",
        "Dir::Cache": f"{state}/cache",
    }
    return ["-c", f"{state}/apt.conf", *(part for key, value in places.items() for part in ("-o", f"{key}={value}"))]


def _update_lists(release: Release, apt: Sequence[str], state: Path, seconds: float) -> bool:
    """Fetches the lists of source packages if older than `seconds`. Whether they are as an archive has them."""
    stamp, config = state / "updated", state / "apt.conf"
    with locked(state):
        sources = _debian_sources(release)
        asked = "".join(sources.values())
        if stamp.exists() and stamp.read_text() == asked and time.time() - stamp.stat().st_mtime < seconds:
            return True
        for folder in ("sources", "lists/partial", "cache/archives/partial"):
            (state / folder).mkdir(parents=True, exist_ok=True)
        for old in (state / "sources").iterdir():
            old.unlink()
        for name, text in sources.items():
            write_atomically(state / "sources" / name, text)
        write_atomically(config, "#clear APT::Update;\n")  # commands that the machine runs after an update of its own
        done = _run(release, [*apt, "update"], state)
        if not any((state / "lists").glob("*_Sources*")):
            raise _failure(release, done, gone=False)
        # one archive out of reach fails the whole update: what was reached is used
        last_said = {number: what for what, number in _APT_TRIED.findall(done.stdout)}
        reached = bool({"Get", "Hit"} & set(last_said.values()))
        if reached:
            write_atomically(stamp, asked)
        return reached


def _debian_sources(release: Release) -> dict[str, str]:
    """The machine's Debian archives as files of apt's source lists that name their source packages alone."""
    ask = [_tool("apt-config", release), "shell", "LIST", "Dir::Etc::sourcelist/f", "PARTS", "Dir::Etc::sourceparts/d"]
    said = _run(release, ask, Path("/")).stdout
    places = dict(re.findall(r"^(LIST|PARTS)='(.*)'$", said, re.MULTILINE))
    files = [Path(places["LIST"])] if "LIST" in places else []
    files += sorted(Path(places["PARTS"]).glob("*")) if "PARTS" in places else []
    lines: list[str] = []
    stanzas: list[str] = []
    for file in files:
        if file.suffix in (".list", ".sources") and file.is_file() and os.access(file, os.R_OK):
            text = file.read_text(encoding="utf-8", errors="replace")
            if file.suffix == ".list":
                lines += source_lines(text)
            else:
                stanzas += source_stanzas(text)
    if not lines and not stanzas:
        raise InputError(
            f"{release} could not be fetched: this machine knows no Debian archive",
            seen=", ".join(map(str, files)) or "no source list",
            next_step="name a Debian archive in apt's source lists, or drop the source",
        )
    return {"debian.list": "".join(lines), "debian.sources": "\n".join(stanzas)}


def source_lines(text: str) -> list[str]:
    """The Debian archives in a one-line-style list, as `deb-src` lines."""
    found = re.findall(r"^[ \t]*deb(?:-src)?[ \t]+((?:\[[^\]\n]*\][ \t]*)?(\S+)[ \t].*)$", text, re.MULTILINE)
    return list(dict.fromkeys(f"deb-src {rest.rstrip()}\n" for rest, uri in found if _DEBIAN_URI.search(uri)))


def source_stanzas(text: str) -> list[str]:
    """The Debian archives in a deb822-style list, as stanzas of the type `deb-src`."""
    stanzas = []
    without_comments = re.sub(r"^#.*\n?", "", text, flags=re.MULTILINE)
    for stanza in re.split(r"\n[ \t]*\n", without_comments.strip()):
        uris = re.search(r"^URIs:(.*(?:\n[ \t].*)*)", stanza, re.MULTILINE | re.IGNORECASE)
        off = re.search(r"^Enabled:[ \t]*(no|false|0)\b", stanza, re.MULTILINE | re.IGNORECASE)
        if uris and not off and all(_DEBIAN_URI.search(uri) for uri in uris[1].split()):
            typed = re.sub(r"^Types:.*(\n[ \t].*)*", "Types: deb-src", stanza, flags=re.MULTILINE | re.IGNORECASE)
            stanzas.append(typed + "\n")
    return stanzas


def _tool(name: str, release: Release) -> str:
    found = shutil.which(name)
    if found is None:
        step = "apt-get install npm" if name == "npm" else "fetch it on a Debian system, or drop the source"
        raise ToolMissingError(f"{name} is needed to fetch {release}", next_step=step)
    return found


def _run(
    release: Release, command: Sequence[str], folder: Path, environment: Mapping[str, str] = {}
) -> subprocess.CompletedProcess[str]:
    """A client run in `folder`, its messages in English."""
    env = {**os.environ, "LC_ALL": "C.UTF-8", **environment}
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=FETCH_SECONDS, cwd=folder, env=env
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"fetching {release} took over {FETCH_SECONDS} s", next_step="try again") from None


def _failure(release: Release, done: subprocess.CompletedProcess[str], *, gone: bool) -> InputError:
    said = (done.stderr or done.stdout).strip().splitlines()
    lines = [line for line in said if line.strip() and not _NO_NEWS.search(line)]
    seen = lines[-1] if lines else f"exit code {done.returncode}"
    if gone:
        return PackageGoneError(
            f"{release} is not in its registry any more, or never was",
            seen=seen,
            next_step="pin a version that is there, or drop the source",
        )
    return InputError(
        f"{release} could not be fetched",
        seen=seen,
        next_step="check the network and the registry that pip, npm or apt is configured for",
    )
