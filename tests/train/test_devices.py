"""Two processes train as one: copied (DDP) and split (FSDP2), on the CPU, with a batch that does not divide evenly."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

_WORKER = """
import json, sys
from pathlib import Path
import numpy as np
from codechoir.artifacts import StageFolder
from codechoir.train.branch import Branch, train_branch
from codechoir.train.config import TrainConfig
from codechoir.train.devices import join_devices
from codechoir.train.sequences import ArraySequences
base, out, shard = sys.argv[1:]
config = TrainConfig(sequence_length=24, sequences_per_step=3, sequences_per_forward=1, learning_rate=0.01,
                     precision="float32", checkpoint_seconds=0, shard=shard == "split")
tokens = np.random.default_rng(0).integers(0, 257, (8, 24))
tokens[:, ::7] = np.where(tokens[:, ::7] < 128, 0, tokens[:, ::7])  # documents, more of them in some rows
devices = join_devices()
folder = StageFolder(Path(out), "train-test", 1, {}, {})
if devices.is_first:
    folder.begin()
devices.meet()
facts = train_branch(Branch("test", Path(base), ArraySequences(tokens, 0), "feed-forward"), config, folder)
if devices.is_first:
    folder.finish(facts)
    json.dump(facts, open(out + ".json", "w"))
"""


def launch(base: Path, out: Path, count: int, shard: str) -> tuple[dict[str, torch.Tensor], list[list[float]]]:
    """The weights and losses of a training by `count` processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(base), str(out), shard],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    told = [worker.communicate()[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * count, told
    assert all("tokens" not in text for text in told[1:])  # only the first reports
    facts = json.loads(Path(f"{out}.json").read_text())
    assert facts["devices"] == count
    return load_file(out / "model.safetensors"), facts["losses"]


@pytest.fixture(scope="module")
def alone(
    random_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, torch.Tensor], list[list[float]]]:
    return launch(random_base, tmp_path_factory.mktemp("alone") / "out", 1, "copied")


@pytest.mark.parametrize("shard", ["copied", "split"])
def test_two_processes_are_one(
    alone: tuple[dict[str, torch.Tensor], list[list[float]]], random_base: Path, tmp_path: Path, shard: str
) -> None:
    weights, losses = launch(random_base, tmp_path / "out", 2, shard)
    expected, expected_losses = alone
    assert len(losses) == 3
    for ours, theirs in zip(losses, expected_losses, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)
    before = load_file(random_base / "model.safetensors")
    moved = [name for name in expected if not torch.equal(expected[name].float(), before[name].float())]
    assert len(moved) == 6
    for name, tensor in expected.items():
        torch.testing.assert_close(weights[name].float(), tensor.float(), rtol=2**-7, atol=1e-4)  # as bfloat16 rounds
    assert not (tmp_path / "out" / "checkpoints").exists()
