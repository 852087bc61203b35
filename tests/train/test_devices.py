"""Two processes train as one: copied (DDP) and split (FSDP2), on the CPU, with a batch that does not divide evenly."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from codechoir.model.infilling_tokens import with_infilling_tokens

_WORKER = """
import json, os, sys
from pathlib import Path
import numpy as np
from codechoir.artifacts import StageFolder
from codechoir.train.branch import Branch, finished_or, train_branch
from codechoir.train.config import TrainConfig
from codechoir.train.devices import join_devices
from codechoir.train.sequences import ArraySequences
base, out, shard, way, ends_at = sys.argv[1:]
config = TrainConfig(sequence_length=24, sequences_per_step=3, sequences_per_forward=1, learning_rate=0.01,
                     precision="float32", checkpoint_seconds=0, shard=shard == "split")
tokens = np.random.default_rng(0).integers(0, 260, (8, 24))
tokens[tokens >= 257] -= 0 if (Path(base) / "new_rows.json").exists() else 3
tokens[:, ::7] = np.where(tokens[:, ::7] < 128, 0, tokens[:, ::7])  # documents, more of them in some rows
class Ending(ArraySequences):
    def batch(self, rows):
        if rows.start >= int(ends_at):
            os._exit(9)
        return super().batch(rows)
folder = StageFolder(Path(out), "train-test", 1, {}, {})
branch = Branch("test", Path(base), Ending(tokens, 0), way)
manifest = finished_or(folder, lambda: train_branch(branch, config, folder))
if join_devices().is_first:
    json.dump(manifest.facts, open(out + ".json", "w"))
"""
_NEVER = 10**6


@dataclass(frozen=True)
class Run:
    """What is trained, and how it is spread."""

    base: Path
    way: str
    shard: str = "copied"


def launch(run: Run, out: Path, count: int, ends_at: int = _NEVER) -> tuple[dict[str, torch.Tensor], list[list[float]]]:
    """The weights and losses of a training by `count` processes; nothing where they end before sequence `ends_at`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(run.base), str(out), run.shard, run.way, str(ends_at)],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    told = [worker.communicate()[1] for worker in workers]
    if ends_at < _NEVER:
        assert [worker.returncode for worker in workers] == [9] * count, told
        return {}, []
    assert [worker.returncode for worker in workers] == [0] * count, told
    assert all("tokens" not in text for text in told[1:])  # only the first reports
    facts = json.loads(Path(f"{out}.json").read_text())
    assert facts["devices"] == count
    (file,) = out.glob("*.safetensors")
    return load_file(file), facts["losses"]


@pytest.fixture(scope="module")
def bases(random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("base")
    return {"plain": random_base, "new rows": with_infilling_tokens(random_base, "base", folder / "infilling")}


@pytest.fixture(scope="module")
def alone(
    bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], tuple[dict[str, torch.Tensor], list[list[float]]]]:
    """One process's trainings, by base and way."""
    cases = [("plain", "feed-forward"), ("plain", "lora"), ("new rows", "feed-forward")]
    return {
        (base, way): launch(Run(bases[base], way), tmp_path_factory.mktemp("alone") / "out", 1) for base, way in cases
    }


@pytest.mark.parametrize(
    ("shard", "base", "way", "killed"),
    [
        ("copied", "plain", "feed-forward", False),
        ("split", "plain", "feed-forward", False),
        ("split", "plain", "lora", False),
        ("split", "new rows", "feed-forward", False),
        ("split", "new rows", "feed-forward", True),
    ],
)
def test_two_processes_are_one(alone, bases, tmp_path: Path, shard: str, base: str, way: str, killed: bool) -> None:
    run = Run(bases[base], way, shard)
    if killed:
        launch(run, tmp_path / "out", 2, ends_at=6)  # two of three steps are made
        assert (tmp_path / "out" / "checkpoints").exists()
    weights, losses = launch(run, tmp_path / "out", 2)
    expected, expected_losses = alone[base, way]
    assert len(losses) == 3
    for ours, theirs in zip(losses, expected_losses, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(weights[name].float(), tensor.float(), rtol=2**-7, atol=1e-4)  # as bfloat16 rounds
    if way == "feed-forward":
        before = load_file(bases[base] / "model.safetensors")
        moved = [name for name in expected if not torch.equal(expected[name].float(), before[name].float())]
        assert len(moved) == 6 + (base == "new rows")
    assert not (tmp_path / "out" / "checkpoints").exists()
