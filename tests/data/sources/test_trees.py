"""Reading plain folders and git repositories: what is taken, in which order, and what is refused or damaged."""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.data.sources import trees
from codechoir.data.sources.trees import TreeFile, decoded, licence_files, tree_files
from codechoir.errors import InputError, ToolMissingError

Git = Callable[..., str]


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """Runs git as nobody in particular."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    (tmp_path / "gitconfig").write_text(
        '[user]\nname = a\nemail = a@b\n[init]\ndefaultBranch = main\n[protocol "file"]\nallow = always\n'
    )

    def run(folder: Path, *arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True
        ).stdout.strip()

    return run


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def commit(git: Git, root: Path, files: dict[str, str | bytes], origin: str = "") -> str:
    """Makes `root` a repository with these files in one commit; its id."""
    root.mkdir(parents=True, exist_ok=True)
    git(root, "init", "-q")
    if origin:
        git(root, "config", "remote.origin.url", origin)
    write(root, files)
    git(root, "add", "--all", "--force")
    git(root, "commit", "-q", "-m", "x")
    return git(root, "rev-parse", "HEAD")


def places(files: Iterable[TreeFile]) -> list[str]:
    return [file.place for file in files]


def test_a_plain_folder_has_a_package_for_each_top_folder(tmp_path: Path) -> None:
    root = write(tmp_path / "code", {"one/src/a.py": "a", "two/b.java": "b\r\n", "loose.py": "", ".hidden/c.py": "c"})
    write(root, {".hg/store.py": "", "one/.svn/pristine.py": ""})
    files = list(tree_files(root))
    assert files == [
        TreeFile(".hidden/c.py", ".hidden", "c.py", "c", None, None, Path()),
        TreeFile("loose.py", "code", "loose.py", "", None, None, Path()),
        TreeFile("one/src/a.py", "one", "src/a.py", "a", None, None, Path()),
        TreeFile("two/b.java", "two", "b.java", "b\r\n", None, None, Path()),
    ]
    assert [file.top for file in files] == [".hidden", "", "one", "two"]
    assert [file.folder for file in files] == [root / ".hidden", root, root / "one", root / "two"]


def test_only_wanted_files_are_read(tmp_path: Path, git: Git) -> None:
    root = write(tmp_path / "code", {"a/x.py": "1", "a/x.java": "2"})
    commit(git, root / "r", {"y.py": "3", "y.java": "4"})
    assert places(tree_files(root, lambda place: place.endswith(".py"))) == ["a/x.py", "r/y.py"]


def test_a_relative_folder_and_a_linked_one_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path / "code", {"a.py": "1"})
    (tmp_path / "link").symlink_to(root)
    monkeypatch.chdir(root)
    for given_root in (Path(), tmp_path / "link"):
        assert [(file.package, file.place) for file in tree_files(given_root)] == [("code", "a.py")]


def test_links_and_special_files_are_passed_over(tmp_path: Path) -> None:
    root = write(tmp_path / "code", {"a/a.py": "1"})
    write(tmp_path / "outside", {"secret.py": "2"})
    (root / "file.py").symlink_to(tmp_path / "outside" / "secret.py")
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to(root)
    os.mkfifo(root / "pipe.py")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket.py"))
        assert places(tree_files(root)) == ["a/a.py"]


def test_a_file_that_turns_into_a_link_or_pipe_is_passed_over(tmp_path: Path) -> None:
    root = write(tmp_path / "code", {"a.py": "1", "b.py": "2", "c.py": "3"})
    files = tree_files(root)
    assert next(files).place == "a.py"
    (root / "b.py").unlink()
    (root / "b.py").symlink_to("/etc/hostname")
    (root / "c.py").unlink()
    os.mkfifo(root / "c.py")
    assert list(files) == []


def test_damage(tmp_path: Path, git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {
        "bad.py": b"ok \xff\n",
        "big.py": b"x" * 101,
        "fits.py": b"x" * 100,
        "mark.py": b"\xef\xbb\xbfa\n",
        "wide.py": "hi".encode("utf-16"),
    }
    expected = [
        ("bad.py", None, "not-utf8: byte 3: invalid start byte"),
        ("big.py", None, "too-large: 101 bytes"),
        ("fits.py", "x" * 100, None),
        ("mark.py", "a\n", None),
        ("wide.py", None, "not-utf8: byte 0: invalid start byte"),
    ]
    plain = write(tmp_path / "plain", contents)
    assert [(f.path, f.content, f.damage) for f in tree_files(plain, max_bytes=100)] == expected
    commit(git, tmp_path / "repository", contents)
    assert [(f.path, f.content, f.damage) for f in tree_files(tmp_path / "repository", max_bytes=100)] == expected

    def no_open(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(trees.os, "open", no_open)
    assert {f.damage for f in tree_files(plain)} == {"unreadable: Permission denied"}


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path / "code", {"a.py": "1", "shut/b.py": "2"})
    real = os.scandir

    def scandir(path: Path) -> object:
        if path.name == "shut":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(trees.os, "scandir", scandir)
    files = tree_files(root)
    assert next(files).place == "a.py"
    with pytest.raises(InputError, match=r"(?s)a folder cannot be read.*shut: Permission denied"):
        next(files)


@pytest.mark.parametrize("missing", ["nowhere", "file"])
def test_a_missing_folder_is_told(tmp_path: Path, missing: str) -> None:
    write(tmp_path, {"file": ""})
    for read in (lambda root: list(tree_files(root)), licence_files):
        with pytest.raises(InputError, match=f"(?s)no such folder.*{missing}"):
            read(tmp_path / missing)


def test_names_that_are_not_utf8(tmp_path: Path, git: Git) -> None:
    for root in (tmp_path / "plain", tmp_path / "repository"):
        root.mkdir()
        Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9.py")).write_text("1")
        (root / "café.py").write_text("2")
    commit(git, tmp_path / "repository", {})
    for root in (tmp_path / "plain", tmp_path / "repository"):
        files = list(tree_files(root))
        assert [(f.path, f.content) for f in files] == [("café.py", "2"), ("caf\\xe9.py", "1")]
        assert all(f.place.encode() for f in files)


def test_the_licence_of_a_package_whose_name_is_not_utf8_is_found(tmp_path: Path, git: Git) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/code/caf\xe9"))
    write(folder, {"src/a.py": "1", "LICENSE": "MIT"})
    for is_repository in (False, True):
        head = commit(git, folder, {}) if is_repository else None
        files = list(tree_files(tmp_path / "code"))
        assert [(file.place, file.package, file.head) for file in files] == [
            (f"caf\\xe9/{path}", "caf\\xe9", head) for path in ("LICENSE", "src/a.py")
        ]
        assert licence_files(files[0].folder) == {"LICENSE": "MIT"}


def test_files_come_in_the_order_of_their_bytes(tmp_path: Path, git: Git) -> None:
    names = ["a/x", "a.b/x", "a-b", "a0", "a/b/x", "a/b.x", "B", "é", "z/z", "ﬀ", "𝒳"]
    root = write(tmp_path / "plain", dict.fromkeys(names, "1"))
    commit(git, tmp_path / "plain" / "a1", dict.fromkeys(names, "1"))
    commit(git, tmp_path / "repository", dict.fromkeys(names, "1"))
    expected = sorted([*names, *(f"a1/{name}" for name in names)], key=str.encode)
    assert places(tree_files(root)) == expected
    assert places(tree_files(tmp_path / "repository")) == sorted(names, key=str.encode)


def test_a_checkout_is_what_is_committed(tmp_path: Path, git: Git) -> None:
    root = tmp_path / "code"
    head = commit(
        git, root, {"src/a.py": "1", ".gitignore": "build/\n"}, "https://user:secret@host.example/owner/name.git"
    )
    write(root, {"build/out.py": "ignored", "new.py": "untracked", "src/a.py": "edited"})
    (root / "link.py").symlink_to("src/a.py")
    git(root, "add", "link.py")
    assert [file for file in tree_files(root) if file.path != ".gitignore"] == [
        TreeFile("src/a.py", "owner/name", "src/a.py", "1", None, head, Path())
    ]
    later = commit(git, root, {})
    assert places(tree_files(root)) == [".gitignore", "build/out.py", "new.py", "src/a.py"]  # but for the link
    assert {file.head for file in tree_files(root)} == {later}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://host.example/owner/name.git", "owner/name"),
        ("https://user:secret@host.example:8443/owner/name/", "owner/name"),
        ("git@host.example:owner/name.git", "owner/name"),
        ("ssh://git@host.example:22/group/sub/name.git", "group/sub/name"),
        ("host:~/name.git", "name"),
        ("git://host/name", "name"),
        ("file:///home/me/private/name.git", "here"),
        ("file://localhost/home/me/private/name.git", "here"),
        ("/home/me/private/name.git", "here"),
        ("../name", "here"),
        ("C:\\private\\name", "here"),
        ("", "here"),
    ],
)
def test_a_repository_is_named_after_its_origin(tmp_path: Path, git: Git, url: str, expected: str) -> None:
    commit(git, tmp_path / "here", {"a.py": "1"}, url)
    assert [file.package for file in tree_files(tmp_path / "here")] == [expected]


def test_repositories_below_a_plain_folder(tmp_path: Path, git: Git) -> None:
    root = write(tmp_path / "code", {"loose.py": "1", "one/a.py": "2"})
    head = commit(git, root / "one" / "clone", {"src/b.py": "3", "LICENSE": "MIT"}, "git@host:owner/name")
    commit(git, root / "two", {"c.py": "4"})
    files = list(tree_files(root, lambda place: place.endswith(".py")))
    assert [(file.place, file.package, file.path) for file in files] == [
        ("loose.py", "code", "loose.py"),
        ("one/a.py", "one", "a.py"),
        ("one/clone/src/b.py", "owner/name", "src/b.py"),
        ("two/c.py", "two", "c.py"),
    ]
    assert (files[1].head, files[2].head, files[2].top) == (None, head, "one/clone")
    assert licence_files(files[2].folder) == {"LICENSE": "MIT"}


def test_submodules_are_repositories_of_their_own(tmp_path: Path, git: Git) -> None:
    inner = commit(git, tmp_path / "inner", {"i.py": "1"})
    commit(git, tmp_path / "code", {"sub.py": "2", "z.py": "3"}, "https://host/owner/outer")
    git(tmp_path / "code", "submodule", "--quiet", "add", str(tmp_path / "inner"), "sub")
    git(tmp_path / "code", "config", "--file", ".git/modules/sub/config", "remote.origin.url", "https://host/o/inner")
    git(tmp_path / "code", "commit", "-q", "-m", "sub")
    files = list(tree_files(tmp_path / "code", lambda place: place.endswith(".py")))
    assert [(file.place, file.package, file.path) for file in files] == [
        ("sub.py", "owner/outer", "sub.py"),
        ("sub/i.py", "o/inner", "i.py"),
        ("z.py", "owner/outer", "z.py"),
    ]
    assert files[1].head == inner
    assert places(tree_files(tmp_path / "code" / "sub")) == ["i.py"]  # its data lie outside of it, and know of it
    git(tmp_path / "code", "submodule", "--quiet", "deinit", "--force", "sub")
    assert "sub/i.py" not in places(tree_files(tmp_path / "code"))


def test_a_worktree_is_read_at_its_own_head(tmp_path: Path, git: Git) -> None:
    first = commit(git, tmp_path / "main", {"a.py": "1"})
    commit(git, tmp_path / "main", {"b.py": "2"})
    git(tmp_path / "main", "worktree", "add", "-q", str(tmp_path / "tree"), first)
    assert [(file.place, file.head) for file in tree_files(tmp_path / "tree")] == [("a.py", first)]


def test_a_bare_repository_is_read(tmp_path: Path, git: Git) -> None:
    head = commit(git, tmp_path / "source", {"src/a.py": "1", "COPYING": "GPL"})
    git(tmp_path, "clone", "-q", "--bare", str(tmp_path / "source"), str(tmp_path / "code" / "x.git"))
    expected = TreeFile("src/a.py", "x", "src/a.py", "1", None, head, Path())
    assert [file for file in tree_files(tmp_path / "code" / "x.git") if file.path != "COPYING"] == [expected]
    assert places(tree_files(tmp_path / "code")) == ["x.git/COPYING", "x.git/src/a.py"]
    assert licence_files(tmp_path / "code" / "x.git") == {"COPYING": "GPL"}


def test_a_folder_that_only_looks_like_a_bare_repository_is_plain(tmp_path: Path) -> None:
    root = write(tmp_path / "code", {"x/HEAD": "", "x/objects/a.py": "1", "x/refs/b.py": "2"})
    assert places(tree_files(root, lambda place: place.endswith(".py"))) == ["x/objects/a.py", "x/refs/b.py"]


def test_a_git_folder_that_leads_out_is_refused(tmp_path: Path, git: Git) -> None:
    commit(git, tmp_path / "private", {"secret.py": "1"})
    for number, way in enumerate(("file", "link", "common")):
        root = tmp_path / f"code{number}"
        (root / "x").mkdir(parents=True)
        if way == "file":
            write(root, {"x/.git": f"gitdir: {tmp_path / 'private' / '.git'}\n"})
        elif way == "link":
            (root / "x" / ".git").symlink_to(tmp_path / "private" / ".git")
        else:  # a worktree's data of its own making
            write(
                root,
                {"x/.git/HEAD": "ref: refs/heads/main\n", "x/.git/commondir": f"{tmp_path / 'private' / '.git'}\n"},
            )
            write(root, {"x/.git/gitdir": f"{root / 'x' / '.git'}\n"})
        with pytest.raises(InputError, match=r"leads out of the folder"):
            list(tree_files(root))


def test_a_repository_around_the_folder_is_not_taken_for_it(tmp_path: Path, git: Git) -> None:
    commit(git, tmp_path, {"secret.py": "1"})
    root = write(tmp_path / "code", {"a.py": "2"})
    assert places(tree_files(root)) == ["a.py"]
    (root / ".git").mkdir()
    with pytest.raises(InputError, match="not a git repository"):
        list(tree_files(root))


def test_a_submodule_without_data_is_not_taken_for_the_repository_around_it(tmp_path: Path, git: Git) -> None:
    root = tmp_path / "a:b"  # a colon keeps git from knowing where to stop
    commit(git, tmp_path / "inner", {"i.py": "1"})
    commit(git, root, {"a.py": "2"})
    git(root, "submodule", "--quiet", "add", str(tmp_path / "inner"), "sub")
    git(root, "commit", "-q", "-m", "sub")
    (root / "sub" / ".git").unlink()
    (root / "sub" / ".git").mkdir()
    with pytest.raises(InputError, match="leads out"):
        list(tree_files(root))
    shutil.rmtree(root / "sub")
    (root / "sub").symlink_to(tmp_path / "inner")
    assert places(tree_files(root)) == [".gitmodules", "a.py"]


def test_no_code_of_a_repository_is_run(tmp_path: Path, git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "code"
    commit(git, root, {"a.py": "1", ".gitattributes": "*.py filter=evil diff=evil\n"})
    evil = f"touch {tmp_path / 'ran'}"
    for key in ("core.fsmonitor", "filter.evil.smudge", "filter.evil.clean", "diff.evil.textconv", "core.pager",
                "core.sshCommand", "alias.ls-tree", "alias.cat-file", "core.editor"):  # fmt: skip
        git(root, "config", key, evil)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))  # as in a hook
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", evil)
    assert [file.content for file in tree_files(root, lambda place: place == "a.py")] == ["1"]
    assert not (tmp_path / "ran").exists()


def test_repositories_that_git_refuses_are_told(tmp_path: Path, git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "-q", "empty")
    with pytest.raises(InputError, match=r"(?s)it has no commit yet.*commit what is to be read"):
        list(tree_files(tmp_path / "empty"))

    commit(git, tmp_path / "broken", {"a.py": "1", "b.py": "22"})
    blob = git(tmp_path / "broken", "rev-parse", "HEAD:b.py")
    (tmp_path / "broken" / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    files = tree_files(tmp_path / "broken")
    assert next(files).place == "a.py"
    with pytest.raises(InputError, match=f"(?s)git cannot read a repository.*{blob}"):
        next(files)

    refused = trees._refused(tmp_path, b"fatal: detected dubious ownership in repository at '/x'\nTo add an exception")
    assert f"git config --global --add safe.directory '{tmp_path}'" in str(refused)

    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolMissingError, match=r"(?s)git is needed.*apt-get install git"):
        list(tree_files(tmp_path / "broken"))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_repository_of_another_owner_is_told(tmp_path: Path, git: Git) -> None:
    commit(git, tmp_path / "code", {"a.py": "1"})
    for path in (tmp_path / "code", tmp_path / "code" / ".git"):
        os.chown(path, 12345, 12345)
    with pytest.raises(InputError, match=r"(?s)dubious ownership.*--add safe.directory"):
        list(tree_files(tmp_path / "code"))
    git(tmp_path, "config", "--global", "--add", "safe.directory", str(tmp_path / "code"))
    assert places(tree_files(tmp_path / "code")) == ["a.py"]


def test_the_git_process_ends_with_the_reading(tmp_path: Path, git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(git, tmp_path / "code", {f"{number}.py": str(number) for number in range(9)})
    started: list[subprocess.Popen[bytes]] = []

    class Recorded(subprocess.Popen):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(trees.subprocess, "Popen", Recorded)
    files = tree_files(tmp_path / "code")
    next(files)
    files.close()
    assert started and all(process.returncode is not None for process in started)


def test_licence_files(tmp_path: Path, git: Git) -> None:
    files: dict[str, str | bytes] = {
        "LICENSE": "1",
        "Licence-MIT.txt": "2",
        "COPYING.LESSER": "3",
        "UNLICENSE": "4",
        "LICENSES/Apache-2.0.txt": "5",
        "README": "no",
        "src/LICENSE": "no",
        "relicense.py": "no",
        "copyright": b"\xff",
    }
    expected = {"LICENSE": "1", "Licence-MIT.txt": "2", "COPYING.LESSER": "3", "UNLICENSE": "4"}
    expected["LICENSES/Apache-2.0.txt"] = "5"
    assert licence_files(write(tmp_path / "plain", files)) == expected
    commit(git, tmp_path / "repository", files)
    write(tmp_path / "repository", {"LICENSE": "edited"})
    assert licence_files(tmp_path / "repository") == expected
    shutil.rmtree(tmp_path / "plain" / "LICENSES")
    (tmp_path / "plain" / "LICENSES").symlink_to(tmp_path / "repository" / "LICENSES")
    assert set(licence_files(tmp_path / "plain")) == set(expected) - {"LICENSES/Apache-2.0.txt"}


@given(st.binary(max_size=40) | st.text().map(str.encode))
def test_decoding_agrees_with_python(data: bytes) -> None:
    found = decoded(data)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        assert (found.content, found.damage) == (None, f"not-utf8: byte {found.damage.split()[2][:-1]}: {error.reason}")
    else:
        assert (found.content, found.damage) == (text, None)
