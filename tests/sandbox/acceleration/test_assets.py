"""Assets are built once, whole or not at all, and built anew when they are damaged."""

import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from codechoir.sandbox.acceleration.assets import BuildError, asset, program_key, run_tool


def build(folder: Path, final: Path) -> None:
    """Notes each build beside the shelf."""
    assert final.parent == folder.parent and final != folder
    (folder / "deep").mkdir()
    (folder / "deep" / "file").write_text("content")
    notes = folder.parent.parent / "builds"
    with notes.open("a") as out:
        out.write("built\n")


def build_in(root: Path) -> Path:
    return asset(root / "shelf", "thing", ("1.0", "-O0"), build)


def num_builds(root: Path) -> int:
    return len((root / "builds").read_text().splitlines())


def test_an_asset_is_built_once_also_by_processes_that_want_it_at_once(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4) as pool:
        folders = set(pool.map(build_in, [tmp_path] * 8))
    assert len(folders) == 1
    assert num_builds(tmp_path) == 1
    assert (folders.pop() / "deep" / "file").read_text() == "content"


def test_another_key_is_another_asset(tmp_path: Path) -> None:
    first = build_in(tmp_path)
    assert asset(tmp_path / "shelf", "thing", ("1.0", "-O2"), build) != first
    assert num_builds(tmp_path) == 2


@pytest.mark.parametrize("damage", ["cut", "changed", "missing", "added", "listing"])
def test_a_damaged_asset_is_built_again(tmp_path: Path, damage: str) -> None:
    folder = build_in(tmp_path)
    file = folder / "deep" / "file"
    if damage == "missing":
        file.unlink()
    elif damage == "added":
        (folder / "more").write_text("")
    elif damage == "listing":
        (folder / "asset.json").write_text("{")
    else:
        file.write_text("" if damage == "cut" else "CONTENT")
    assert build_in(tmp_path) == folder
    assert file.read_text() == "content"
    assert not (folder / "more").exists()
    assert num_builds(tmp_path) == 2


def test_a_build_that_fails_leaves_nothing_and_is_tried_again(tmp_path: Path) -> None:
    def fail(folder: Path, final: Path) -> None:
        (folder / "half").write_text(str(final))
        raise BuildError("no")

    with pytest.raises(BuildError, match="no"):
        asset(tmp_path / "shelf", "thing", ("1.0", "-O0"), fail)
    assert not [path for path in (tmp_path / "shelf").iterdir() if path.is_dir()]
    assert (build_in(tmp_path) / "deep" / "file").exists()


def test_every_user_can_read_an_asset(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        folder = build_in(tmp_path)
    finally:
        os.umask(before)
    assert all(path.stat().st_mode & 0o005 == 0o005 for path in (folder, folder / "deep"))
    assert (folder / "deep" / "file").stat().st_mode & 0o777 == 0o644


def test_a_tool_that_fails_says_what_it_said(tmp_path: Path) -> None:
    assert run_tool(("/bin/sh", "-c", "echo $HOME"), tmp_path) == f"{tmp_path}\n"
    with pytest.raises(BuildError, match="exit code 3: because"):
        run_tool(("/bin/sh", "-c", "echo because >&2; exit 3"), tmp_path)
    with pytest.raises(BuildError):
        run_tool(("/nowhere/program",), tmp_path)
    with pytest.raises(BuildError):
        program_key("/nowhere/program")
