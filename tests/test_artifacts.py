"""A stage's folder: killed anywhere, damaged, foreign, on a full disk."""

import errno
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from codechoir.artifacts import (
    MANIFEST,
    UNFINISHED,
    StageFolder,
    cache_dir,
    damaged_outputs,
    file_sha256,
    files_digest,
    locked,
    read_manifest,
    state_of_folder,
    write_atomically,
    write_json,
)
from codechoir.errors import DiskFullError, InputError


def stage(path: Path, *, version: int = 1, name: str = "curate", **config: object) -> StageFolder:
    return StageFolder(path, name, version, config, {"corpus": "c0ffee"})


def finish_one(path: Path, **config: object) -> StageFolder:
    """A finished stage with two outputs, one of them in a folder."""
    folder = stage(path, **config)
    folder.begin()
    write_atomically(path / "a.txt", "first")
    write_atomically(path / "deep" / "b.txt", "second")
    folder.finish({"kept": 2})
    return folder


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


HOLDER = """
import sys
from pathlib import Path
from codechoir.artifacts import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_shared_lock_keeps_out_only_those_who_want_it_alone(tmp_path):
    with locked(tmp_path, shared=True), locked(tmp_path, wait=False, shared=True), pytest.raises(InputError):
        locked(tmp_path, wait=False).__enter__()
    with locked(tmp_path, wait=False), pytest.raises(InputError):
        locked(tmp_path, wait=False, shared=True).__enter__()


def test_one_process_at_a_time_works_in_a_locked_folder_and_a_killed_one_leaves_no_lock(tmp_path):
    folder = tmp_path / "run"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match=f"another process is at work in this folder\n  seen:    {folder}"):
            locked(folder, wait=False).__enter__()
        holder.kill()
    with locked(folder, wait=False):
        assert not list(folder.iterdir())
    with locked(folder):
        pass


def test_a_folders_state_hangs_on_its_place_and_its_files_names_sizes_and_times(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a").write_text("one")
    states = [state_of_folder(folder)]
    assert state_of_folder(folder) == states[0]
    (folder / "a").write_text("longer")
    states.append(state_of_folder(folder))
    os.utime(folder / "a", ns=(1, 1))
    states.append(state_of_folder(folder))
    (folder / "a").rename(folder / "b")
    states.append(state_of_folder(folder))
    folder.rename(tmp_path / "moved")
    states += [state_of_folder(folder), state_of_folder(tmp_path / "moved")]
    assert len(set(states)) == len(states)


def test_a_finished_stage_is_known_by_its_manifest(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "curate"
    assert stage(out).finished() is None
    folder = finish_one(out, limit=3)
    manifest = stage(out, limit=3).finished()
    assert manifest == read_manifest(out)
    assert manifest is not None
    assert (manifest.stage, manifest.version, manifest.digest) == ("curate", 1, folder.digest)
    assert manifest.outputs == {"a.txt": 5, "deep/b.txt": 6}
    assert manifest.facts == {"kept": 2}
    assert files_in(out) == {"a.txt", "deep/b.txt", MANIFEST}


def test_the_digest_is_of_name_version_config_and_inputs_and_nothing_else(tmp_path: Path) -> None:
    one = stage(tmp_path / "a", limit=3)
    canonical = '{"config":{"limit":3},"inputs":{"corpus":"c0ffee"},"stage":"curate","version":1}'
    assert one.digest == hashlib.sha256(canonical.encode()).hexdigest()
    assert stage(tmp_path / "b", limit=3).digest == one.digest
    others = [
        replace(one, stage="train"),
        replace(one, version=2),
        replace(one, config={"limit": 4}),
        replace(one, inputs={"corpus": "decaf"}),
        replace(one, inputs={}),
    ]
    assert len({other.digest for other in [one, *others]}) == 6


def test_another_config_version_or_input_is_not_finished(tmp_path: Path) -> None:
    done = finish_one(tmp_path, limit=3)
    assert replace(done, config={"limit": 4}).finished() is None
    assert replace(done, version=2).finished() is None
    assert replace(done, inputs={"corpus": "decaf"}).finished() is None
    assert replace(done, stage="train").finished() is None


@pytest.mark.parametrize("damage", ["missing", "shorter", "longer", "a folder"])
def test_damaged_outputs_are_noticed_and_made_anew(tmp_path: Path, damage: str) -> None:
    done = finish_one(tmp_path)
    victim = tmp_path / "deep" / "b.txt"
    victim.unlink()
    if damage == "a folder":
        victim.mkdir()
    elif damage != "missing":
        victim.write_text("sec" if damage == "shorter" else "second and more")
    assert damaged_outputs(tmp_path, read_manifest(tmp_path)) == ["deep/b.txt"]
    assert stage(tmp_path).finished() is None
    again = stage(tmp_path)
    again.begin()
    assert files_in(tmp_path) == {UNFINISHED}  # damage is no place to carry on from
    assert finish_one(tmp_path).digest == done.digest


def test_a_damaged_stage_killed_after_its_manifest_is_made_anew(tmp_path: Path) -> None:
    folder = stage(tmp_path)
    folder.begin()
    write_atomically(tmp_path / "a.txt", "first")
    marker = (tmp_path / UNFINISHED).read_text()
    folder.finish({})
    (tmp_path / UNFINISHED).write_text(marker)  # as if killed before the marker was removed
    assert stage(tmp_path).finished() is not None
    (tmp_path / "a.txt").write_text("fir")
    assert stage(tmp_path).finished() is None
    stage(tmp_path).begin()
    assert files_in(tmp_path) == {UNFINISHED}


def test_an_interrupted_stage_carries_on(tmp_path: Path) -> None:
    stage(tmp_path, limit=3).begin()
    write_atomically(tmp_path / "done.txt", "x")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / ".b.txt.12-34.partial").write_text("half")
    assert stage(tmp_path, limit=3).finished() is None
    again = stage(tmp_path, limit=3)
    again.begin()
    assert files_in(tmp_path) == {"done.txt", UNFINISHED}
    (tmp_path / ".c.txt.56-78.partial").write_text("a killed child's")
    assert again.finish({}).outputs == {"done.txt": 1}


def test_an_interrupted_stage_of_another_digest_starts_empty(tmp_path: Path) -> None:
    stage(tmp_path, limit=3).begin()
    write_atomically(tmp_path / "done.txt", "x")
    stage(tmp_path, limit=4).begin()
    assert files_in(tmp_path) == {UNFINISHED}


def test_seconds_are_summed_over_interruptions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    first = stage(tmp_path)
    first.begin()
    now += 30
    first.save_time()
    now += 1000  # killed, and run again later
    again = stage(tmp_path)
    again.begin()
    now += 12
    assert again.finish({}).seconds == 42.0
    other = stage(tmp_path, limit=1)
    other.begin()
    now += 5
    assert other.finish({}).seconds == 5.0


FOREIGN = {
    "thesis.tex": "years of work",
    MANIFEST: '{"name": "a browser extension", "version": "1"}',
    UNFINISHED: "[1, 2]",
    ".hidden": "",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_folder_is_refused_and_kept(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(FOREIGN[name])
    (tmp_path / "more").mkdir()
    with pytest.raises(InputError):
        stage(tmp_path).begin()
    assert files_in(tmp_path) == {name}
    assert (tmp_path / name).read_text() == FOREIGN[name]


@pytest.mark.parametrize("finished", [True, False])
def test_another_stages_folder_is_refused_and_kept(tmp_path: Path, finished: bool) -> None:
    finish_one(tmp_path) if finished else stage(tmp_path).begin()
    before = files_in(tmp_path)
    with pytest.raises(InputError, match="made by the stage 'curate'"):
        stage(tmp_path, name="compose").begin()
    assert files_in(tmp_path) == before


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        stage(tmp_path / "out").begin()
    assert (tmp_path / "out").read_text() == "mine"


def test_a_link_to_a_folder_stays_and_what_it_links_to_inside_is_kept(tmp_path: Path) -> None:
    real, elsewhere = tmp_path / "real", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "weights").write_text("precious")
    finish_one(real)
    (real / "link").symlink_to(elsewhere)
    (tmp_path / "out").symlink_to(real)
    stage(tmp_path / "out", limit=9).begin()
    assert (tmp_path / "out").is_symlink()
    assert files_in(real) == {UNFINISHED}
    assert (elsewhere / "weights").read_text() == "precious"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"stage": "curate"}', b"\xff", None])
def test_a_damaged_manifest_is_one_message(tmp_path: Path, content: str | bytes | None) -> None:
    if content is not None:
        (tmp_path / MANIFEST).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError) as caught:
        read_manifest(tmp_path)
    assert caught.value.next_step


def test_a_manifest_with_wrong_parts_is_damaged(tmp_path: Path) -> None:
    finish_one(tmp_path)
    values = json.loads((tmp_path / MANIFEST).read_text())
    for part in ("outputs", "facts", "config", "inputs"):
        write_json(tmp_path / MANIFEST, {**values, part: ["a.txt"]})
        with pytest.raises(InputError, match="damaged"):
            read_manifest(tmp_path)


# A stage with two outputs, killed before its n-th change to the disk, for n = 1, 2, ... until it ends by itself. Each
# time, what is left must not pass for finished when it is not, and the next run must finish without help.
KILLED_EVERYWHERE = """
import os, shutil, sys, tempfile
from pathlib import Path
from codechoir.artifacts import StageFolder, damaged_outputs, read_manifest, write_atomically, write_json

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}
state = {"left": -1}

def kill_at_zero(event, arguments):
    if state["left"] < 0:
        return
    if event in CHANGES or event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        if state["left"] == 0:
            os._exit(9)
        state["left"] -= 1

sys.addaudithook(kill_at_zero)
os.fsync = lambda _: None  # a killed process loses nothing that it has written; only a power cut does
Path.iterdir = lambda self: iter([self / name for name in sorted(os.listdir(self))])  # the manifest not first by chance
WANTED = {"a.txt": "new a", "deep/b.txt": "new b"}

def folder_of(out, config):
    return StageFolder(out, "curate", 1, {"config": config}, {})

def run(out, config="new", wanted=WANTED):
    folder = folder_of(out, config)
    if folder.finished():
        return
    folder.begin()
    for name, text in wanted.items():
        if not (out / name).exists():
            write_atomically(out / name, text)
    folder.finish({})

def contents(out):
    return {p.relative_to(out).as_posix(): p.read_text() for p in out.rglob("*") if p.is_file()}

def fresh(out):
    pass

def empty(out):
    out.mkdir()

def stale(out):
    run(out, "old", {"a.txt": "old a", "deep/c.txt": "old c", "deep/er/d.txt": "old d"})

def damaged(out):
    run(out)
    (out / "deep/b.txt").write_text("n")

def interrupted(out):
    folder_of(out, "new").begin()
    write_atomically(out / "a.txt", "new a")
    (out / ".b.txt.1-1.partial").write_text("half")

def interrupted_and_stale(out):
    folder_of(out, "old").begin()
    write_atomically(out / "a.txt", "old a")

for scene in (fresh, empty, stale, damaged, interrupted, interrupted_and_stale):
    kills = 0
    while True:
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "out"
            scene(out)
            if (child := os.fork()) == 0:
                state["left"] = kills
                run(out)
                state["left"] = -1
                os._exit(0)
            ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert ended in (0, 9), (scene.__name__, kills, ended)
            where = (scene.__name__, kills, sorted(contents(out)) if out.exists() else None)
            if scene is not damaged and (out / "manifest.json").exists():  # other stages trust it without a look
                assert damaged_outputs(out, read_manifest(out)) == [], where
            if folder_of(out, "new").finished():
                left = contents(out)
                assert {name: left[name] for name in WANTED} == WANTED, where
            if folder_of(out, "old").finished():
                assert contents(out)["deep/er/d.txt"] == "old d", where
            run(out)
            assert folder_of(out, "new").finished(), where
            left = contents(out)
            left.pop("manifest.json")
            left.pop("unfinished.json", None)  # stays when the kill came between the manifest and its removal
            assert left == WANTED, where
        if ended == 0:
            break
        kills += 1
    print(scene.__name__, kills)
"""


def test_a_stage_killed_anywhere_is_never_taken_for_finished_and_can_be_run_again() -> None:
    done = subprocess.run([sys.executable, "-c", KILLED_EVERYWHERE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kills = {line.split()[0]: int(line.split()[1]) for line in done.stdout.splitlines()}
    assert len(kills) == 6
    assert all(count >= 10 for count in kills.values()), kills


def test_an_atomic_write_replaces_and_leaves_no_other_file(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.json"
    write_atomically(target, "old")
    write_atomically(target, b"\xff\x00")
    assert target.read_bytes() == b"\xff\x00"
    assert files_in(tmp_path) == {"new/a.json"}


def test_an_atomic_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.json"
    write_atomically(target, "old")

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):  # no user error: nothing is known of the cause
        write_atomically(target, "new")
    assert target.read_text() == "old"
    assert files_in(tmp_path) == {"a.json"}


@contextmanager
def file_size_limit(num_bytes: int) -> Iterator[None]:
    """The kernel refuses to let a file grow beyond this, as a quota or a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_room_for_a_file_is_one_message_and_the_old_file_stays(tmp_path: Path) -> None:
    target = tmp_path / "weights.bin"
    write_atomically(target, "old")
    with file_size_limit(4096), pytest.raises(DiskFullError) as caught:
        write_atomically(target, b"x" * 100_000)
    assert str(target) in str(caught.value)
    assert caught.value.next_step
    assert target.read_text() == "old"
    assert files_in(tmp_path) == {"weights.bin"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_at_finish_leaves_the_stage_unfinished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    folder = stage(tmp_path)
    folder.begin()
    write_atomically(tmp_path / "a.txt", "first")

    def full(_: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched, pytest.raises(DiskFullError):
        patched.setattr(os, "fsync", full)
        folder.finish({})
    assert stage(tmp_path).finished() is None
    again = stage(tmp_path)
    again.begin()
    assert again.finish({}).outputs == {"a.txt": 5}


def test_json_is_written_with_mappings_and_paths_plain(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"path": Path("x/y"), "é": [1, None, 0.5]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"path": "x/y", "é": [1, None, 0.5]}
    with pytest.raises(TypeError, match="set"):
        write_json(tmp_path / "a.json", {1})
    assert "path" in (tmp_path / "a.json").read_text()


def test_file_digests(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert file_sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "b").write_bytes(b"")
    one = files_digest(tmp_path, [tmp_path / "a", tmp_path / "b"])
    assert files_digest(tmp_path, [tmp_path / "b", tmp_path / "a"]) == one
    (tmp_path / "b").rename(tmp_path / "c")
    assert files_digest(tmp_path, [tmp_path / "a", tmp_path / "c"]) != one


@pytest.mark.parametrize(
    ("own", "xdg", "expected"),
    [
        ("/big/cache", "/x", "/big/cache"),
        ("~/cache", None, "/home/ada/cache"),
        (None, "/x", "/x/codechoir"),
        ("", "", "/home/ada/.cache/codechoir"),
        (None, None, "/home/ada/.cache/codechoir"),
    ],
)
def test_where_downloads_are_kept(
    monkeypatch: pytest.MonkeyPatch, own: str | None, xdg: str | None, expected: str
) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    for name, value in (("CODECHOIR_CACHE", own), ("XDG_CACHE_HOME", xdg)):
        monkeypatch.setenv(name, value) if value is not None else monkeypatch.delenv(name, raising=False)
    assert cache_dir() == Path(expected)
