"""Checkpoints in the background: which ones stay, and whose errors surface."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from codechoir.errors import DiskFullError
from codechoir.model.optimiser import read_state
from codechoir.train import checkpoints as checkpoints_module
from codechoir.train.checkpoints import Checkpoints


def test_the_newest_and_the_best_stay(tmp_path: Path) -> None:
    held = Checkpoints(tmp_path / "checkpoints", keep=2)
    assert not held.newest_first()
    for step, best in ((1, 1), (2, 2), (3, 2), (4, 2), (5, 2)):
        held.save(step, [("weight", torch.full((3,), float(step)))], {"step": step, "best_step": best})
        held.settle()
    assert sorted(path.name for path in held.folder.iterdir()) == [held.path(step).name for step in (2, 4, 5)]
    newest, *_ = held.newest_first()
    tensors, progress = read_state(newest)
    assert progress["step"] == 5 and torch.equal(tensors["weight"], torch.full((3,), 5.0))
    held.close()
    held.remove()
    assert not held.folder.exists()


def test_an_error_of_the_writing_surfaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise DiskFullError("the disk is full")

    monkeypatch.setattr(checkpoints_module, "save_tensors", fail)
    held = Checkpoints(tmp_path / "checkpoints", keep=1)
    held.save(1, [("weight", torch.zeros(1))], {"step": 1, "best_step": 0})
    with pytest.raises(DiskFullError):
        held.close()
    assert not held.newest_first()
