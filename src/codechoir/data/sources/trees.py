"""Reads code that lies on this machine: plain folders and git repositories, one file at a time, in the order of paths.

Goes in: a folder, and which names are wanted. Comes out: a `TreeFile` each, with its package, its content or what is
wrong with it, and a repository's head commit. Knows nothing of languages, licences or tables.

- A git repository (a checkout, a worktree or a bare one, the folder itself or any below it) is read at its head commit,
  out of git's own store: what is ignored, untracked or not yet committed is not taken. It is one package, named after
  its remote `origin` ("owner/name") or else its folder. Its submodules are repositories of their own.
- Anything else is a plain folder. There a package is a top folder, or the folder itself for loose files.
- Nothing outside the folder is read: links are not followed, and a `.git` that leads elsewhere is refused, unless it is
  that of a worktree or submodule, which the other repository knows of.
- Git runs none of a repository's code: no hooks, filters or monitors, and no fetching of missing objects.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from codechoir.errors import InputError, ToolMissingError

MAX_FILE_BYTES = 64 * 2**20
_LINK, _SUBMODULE = "120000", "160000"  # git's modes of entries that are no files
_FOREIGN = frozenset({".hg", ".svn", ".bzr"})  # what other version control keeps for itself
_LICENCE = re.compile(r"(?:un)?licen[cs]e|copying|copyright", re.IGNORECASE)
_GIT = ("git", "--no-pager", "-c", "core.fsmonitor=", "-c", "core.hooksPath=/dev/null", "-c", "protocol.allow=never")
_URL = re.compile(r"(?!file:)[a-z][a-z0-9+.-]*://[^/]+/(?P<path>.+)|[^/:]{2,}:(?!//)(?P<scp>.+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TreeFile:
    """One file. Exactly one of `content` and `damage` is None."""

    place: str  # below the folder that was asked for, "/" between folders
    package: str
    path: str  # within the package
    content: str | None
    damage: str | None  # "too-large: N bytes", "not-utf8: byte N: ..." or "unreadable: ..."
    head: str | None  # the head commit, where the package is a git repository
    folder: Path = field(compare=False)  # the package's, on this machine

    @property
    def top(self) -> str:
        """The package's folder, below the folder that was asked for; empty for that folder itself."""
        return self.place.removesuffix(self.path).rstrip("/")


@dataclass(frozen=True, slots=True)
class Decoded:
    """Bytes as text, or why they are none."""

    content: str | None
    damage: str | None


def decoded(data: bytes) -> Decoded:
    """The text of a file's bytes: UTF-8, exactly as it is but for a byte order mark at its beginning."""
    try:
        return Decoded(data.decode().removeprefix("\ufeff"), None)
    except UnicodeDecodeError as error:
        return Decoded(None, f"not-utf8: byte {error.start}: {error.reason}")


def tree_files(
    root: Path, wanted: Callable[[str], bool] = lambda _: True, max_bytes: int = MAX_FILE_BYTES
) -> Iterator[TreeFile]:
    """The regular files below `root` whose place is `wanted`, sorted by the bytes of their places.

    Raises InputError where there is no such folder, a folder below cannot be read, or git refuses a repository, and
    ToolMissingError where there is a repository but no git.
    """
    asked = _Asked(_existing(root), wanted, max_bytes)
    for place, is_repository in _walk(asked.root):
        if is_repository:
            yield from _repository_files(asked, place)
            continue
        shown = _shown(place)
        if wanted(shown) and (text := _read(asked.root / place, max_bytes)):
            package, slash, path = shown.partition("/")
            folder = asked.root / place.partition("/")[0] if slash else asked.root
            if not slash:
                package, path = _shown(asked.root.name), shown
            yield TreeFile(shown, package, path, text.content, text.damage, None, folder)


def licence_files(folder: Path) -> dict[str, str]:
    """The licence texts of a package: LICENSE, COPYING and the like in its folder, and LICENSES/*, as REUSE has it.

    By path. Errors are those of `tree_files`.
    """
    root = _existing(folder)
    if _is_repository(root):
        found = _repository_files(_Asked(root, _is_licence, MAX_FILE_BYTES), "", with_submodules=False)
        texts = {file.path: file.content for file in found}
    else:
        texts = {}
        places = [entry.name for entry in _entries_of(root)]
        if (root / "LICENSES").is_dir() and not (root / "LICENSES").is_symlink():
            places += [f"LICENSES/{entry.name}" for entry in _entries_of(root / "LICENSES")]
        for place in sorted(places):
            if _is_licence(place) and (text := _read(root / place, MAX_FILE_BYTES)):
                texts[_shown(place)] = text.content
    return {place: content for place, content in texts.items() if content is not None}


def _is_licence(place: str) -> bool:
    folder, _, name = place.rpartition("/")
    return folder == "LICENSES" or (not folder and _LICENCE.match(name) is not None)


def _existing(root: Path) -> Path:
    root = root.expanduser()
    if not root.is_dir():
        raise InputError("no such folder", seen=root, next_step="give the folder that holds the source files")
    return root.resolve()


def _shown(name: str) -> str:
    """A name of the file system as text; bytes that are not UTF-8 stand as `\\xNN`."""
    return os.fsencode(name).decode(errors="backslashreplace")


# --- plain folders -----------------------------------------------------------------------------------------------


def _walk(root: Path) -> Iterator[tuple[str, bool]]:
    """The places of regular files (False) and of repositories (True), in order; repositories are not entered."""
    stack = [("", True)]
    while stack:
        place, is_folder = stack.pop()
        if not is_folder:
            yield place, False
        elif _is_repository(root / place):
            yield place, True
        else:
            below = []
            for entry in _entries_of(root / place):
                is_folder = entry.is_dir(follow_symlinks=False)
                if (is_folder and entry.name not in _FOREIGN) or entry.is_file(follow_symlinks=False):
                    below.append((f"{place}/{entry.name}" if place else entry.name, is_folder))
            stack += sorted(below, key=_order, reverse=True)  # the last one is the next one


def _order(entry: tuple[str, bool]) -> bytes:
    """Sorts a folder as the files in it sort: with the slash."""
    place, is_folder = entry
    return os.fsencode(place) + b"/" * is_folder


def _entries_of(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise InputError(
            "a folder cannot be read",
            seen=f"{_shown(str(folder))}: {error.strerror}",
            next_step="give read permission, or move it away",
        ) from None


def _read(path: Path, max_bytes: int) -> Decoded | None:
    """A regular file's text; None where it is something else."""
    try:
        # A link or pipe that was put in the file's place since it was listed is neither followed nor waited for.
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(number, "rb") as file:
            status = os.fstat(number)
            if not stat.S_ISREG(status.st_mode):
                return None
            data = file.read(max_bytes + 1) if status.st_size <= max_bytes else b""
    except OSError as error:
        return None if path.is_symlink() else Decoded(None, f"unreadable: {error.strerror}")
    size = max(status.st_size, len(data))
    return decoded(data) if size <= max_bytes else Decoded(None, f"too-large: {size} bytes")


# --- git repositories --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Asked:
    """What `tree_files` was asked for."""

    root: Path  # resolved
    wanted: Callable[[str], bool]
    max_bytes: int


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of a commit's tree."""

    mode: str
    id: str
    size: int  # -1 where the object is missing
    path: str


def _is_repository(folder: Path) -> bool:
    """Whether a folder is a checkout, or a bare repository: one that looks like it and is one to git."""
    if os.path.lexists(folder / ".git"):
        return True
    if not all((folder / name).exists() for name in ("HEAD", "objects", "refs")):
        return False
    return b"not a git repository" not in _run(folder, "rev-parse", "--git-dir").stderr


def _repository_files(asked: _Asked, top: str, *, with_submodules: bool = True) -> Iterator[TreeFile]:
    """The wanted files of the repository at `top`, and of its submodules that are checked out."""
    folder = asked.root / top
    _check_git_folder(folder, asked.root)
    head = _git(folder, "rev-parse", "--verify", "HEAD^{commit}").strip()
    package = _name_of(folder)
    entries = _listed(_git(folder, "ls-tree", "-r", "-l", "-z", "--full-tree", head))
    with _open_blobs(folder) as read:
        for entry in sorted(entries, key=lambda entry: _order((entry.path, entry.mode == _SUBMODULE))):
            place = f"{top}/{entry.path}" if top else entry.path
            shown = _shown(place)
            if entry.mode == _SUBMODULE:
                if with_submodules and _is_checked_out(asked.root, place):
                    yield from _repository_files(asked, place)
            elif entry.mode != _LINK and asked.wanted(shown):
                too_large = Decoded(None, f"too-large: {entry.size} bytes")
                text = too_large if entry.size > asked.max_bytes else decoded(read(entry))
                yield TreeFile(shown, package, _shown(entry.path), text.content, text.damage, head, folder)


def _listed(listing: str) -> list[_Entry]:
    found = []
    for line in listing.split("\0")[:-1]:
        fields, _, path = line.partition("\t")
        mode, _, id, size = fields.split()
        found.append(_Entry(mode, id, int(size) if size.isdigit() else -1, path))
    return found


def _is_checked_out(root: Path, place: str) -> bool:
    """Whether a submodule is there, with no link on the way to it."""
    folder = root / place
    return folder.resolve() == folder and os.path.lexists(folder / ".git")


def _check_git_folder(folder: Path, root: Path) -> None:
    """Raises InputError where a `.git` leads out of `root` to a repository that does not know of this checkout."""
    said = _git(folder, "rev-parse", "--absolute-git-dir", "--git-common-dir", "--show-prefix").split("\n")
    own, common, prefix = (folder / said[0]).resolve(), (folder / said[1]).resolve(), said[2]
    inside = own.is_relative_to(root) and common.is_relative_to(root)
    # What lies in the folder may have been made to deceive; what lies outside of it speaks for itself.
    known = own.is_relative_to(common) and folder / ".git" in _known_checkouts(own)
    if not prefix and (inside or known):
        return
    raise InputError(
        "a repository's .git leads out of the folder",
        seen=f"{_shown(str(folder))}: {_shown(str(own))}",
        allowed="a repository whose data lie inside the folder, or a checkout made by git worktree or git submodule",
        next_step="clone the repository into the folder",
    )


def _known_checkouts(git_folder: Path) -> list[Path]:
    """The `.git` files that a worktree's data (in `gitdir`) or a submodule's (as core.worktree) name as theirs."""
    known = []
    if (git_folder / "gitdir").is_file():
        known.append(Path(os.fsdecode((git_folder / "gitdir").read_bytes().strip())))
    worktree = _run(git_folder, "config", "--file", str(git_folder / "config"), "--get", "core.worktree").stdout.strip()
    if worktree:
        known.append(git_folder / os.fsdecode(worktree) / ".git")
    return [path.parent.resolve() / path.name for path in known]


def _name_of(folder: Path) -> str:
    """`owner/name` from the remote `origin`, without host and credentials; else the folder's name."""
    url = _git(folder, "config", "--local", "--default", "", "--get", "remote.origin.url").strip()
    matched = _URL.fullmatch(url)
    path = matched["path"] or matched["scp"] if matched else ""
    parts = [part for part in path.rstrip("/").removesuffix(".git").split("/") if part.strip("~.")]
    return _shown("/".join(parts) or folder.name.removesuffix(".git"))


@contextmanager
def _open_blobs(folder: Path) -> Iterator[Callable[[_Entry], bytes]]:
    """A function that gives an entry's bytes, out of one git process for the whole repository."""
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(
            [*_GIT, "cat-file", "--batch"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            cwd=folder,
            env=_environment(folder),
        ) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        ask, answer = process.stdin.fileno(), process.stdout

        def read(entry: _Entry) -> bytes:
            data = _asked_for(entry, ask, answer)
            if data is None:
                complaints.seek(0)
                raise _refused(folder, complaints.read() or f"the object {entry.id} is missing".encode())
            return data

        yield read


def _asked_for(entry: _Entry, ask: int, answer: IO[bytes]) -> bytes | None:
    """One object from `git cat-file --batch`; None where it is missing or git has given up."""
    try:
        os.write(ask, f"{entry.id}\n".encode())
    except BrokenPipeError:
        return None
    if answer.readline().decode().split() != [entry.id, "blob", str(entry.size)]:
        return None
    data = answer.read(entry.size + 1)
    return data[:-1] if len(data) == entry.size + 1 else None


def _git(folder: Path, *arguments: str) -> str:
    """What a git command prints. Raises InputError where it fails."""
    done = _run(folder, *arguments)
    if done.returncode != 0:
        raise _refused(folder, done.stderr)
    return os.fsdecode(done.stdout)


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            [*_GIT, *arguments], capture_output=True, cwd=folder, env=_environment(folder), check=False
        )
    except FileNotFoundError:
        raise ToolMissingError(
            "git is needed to read a repository", seen=folder, next_step="apt-get install git"
        ) from None


def _environment(folder: Path) -> dict[str, str]:
    """Ours without git's variables, which may lead to another repository; and git looks at no folder but this one."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    if "GIT_CONFIG_GLOBAL" in os.environ:  # where safe.directory stands
        kept["GIT_CONFIG_GLOBAL"] = os.environ["GIT_CONFIG_GLOBAL"]
    return kept | {
        "GIT_CEILING_DIRECTORIES": str(folder.parent),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }


def _refused(folder: Path, complaint: bytes) -> InputError:
    shown, said = _shown(str(folder)), complaint.decode(errors="replace").strip() or "git gave up"
    next_step = "mend the repository, clone it again, or remove its .git to have it read as a plain folder"
    if "dubious ownership" in said:
        next_step = f"if you trust its owner: git config --global --add safe.directory '{shown}'"
    elif "Needed a single revision" in said:
        said, next_step = "it has no commit yet", "commit what is to be read"
    return InputError("git cannot read a repository", seen=f"{shown}: {said.splitlines()[0]}", next_step=next_step)
