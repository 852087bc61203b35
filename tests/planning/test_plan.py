"""What a plan says of the machine: where it falls short, and where it cannot run programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from codechoir.errors import ToolMissingError
from codechoir.planning import plan
from codechoir.planning.needs import Need
from codechoir.planning.plan import Machine
from codechoir.recipe import Recipe

GIB = 2**30


def test_where_the_machine_falls_short() -> None:
    needs = [
        Need("curate", 1, GIB, 3 * GIB, ""),
        Need("train", 1, 4 * GIB, 2 * GIB, ""),
        Need("report", *[None] * 3, ""),
    ]
    enough = Machine(cores=4, memory=9 * GIB, free_memory=4 * GIB, free_disk=5 * GIB)
    assert plan._misfits(needs, enough, load=2.0) == []
    assert plan._misfits(needs, Machine(4, 9 * GIB, 4 * GIB - 1, 5 * GIB), 0) == [
        "train needs 4.0 GiB of memory, and 4.0 are free"
    ]
    assert plan._misfits(needs, Machine(4, 9 * GIB, 4 * GIB, 4 * GIB), 0) == [
        "the run needs 5.0 GiB of disk, and 4.0 are free"
    ]
    (busy,) = plan._misfits(needs, enough, load=2.1)
    assert busy.startswith("the machine was busy (load 2.1 on 4 cores)")


def test_without_a_sandbox_no_program_is_timed(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise ToolMissingError("no sandbox", seen="bwrap", next_step="install it")

    monkeypatch.setattr(plan, "open_sandbox", missing)
    assert plan._program_seconds(recipe, ["python"], tmp_path) == ({}, "no sandbox: bwrap")
    assert plan._program_seconds(recipe, [], tmp_path) == ({}, "")


def test_the_disk_of_a_folder_that_is_yet_to_be(tmp_path: Path) -> None:
    assert plan._existing(tmp_path / "runs" / "new") == tmp_path
    assert plan._existing(tmp_path) == tmp_path
