"""One branch on the random base: what moves and what does not, resuming, and training that goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.optim import AdamW
from transformers import AutoModelForCausalLM

from codechoir.artifacts import StageFolder
from codechoir.console import Progress
from codechoir.errors import InputError
from codechoir.train import loop, ways
from codechoir.train.branch import Branch, finished_or, train_branch
from codechoir.train.config import TrainConfig

CONFIG = TrainConfig(
    sequence_length=16, sequences_per_step=2, learning_rate=0.01, precision="float32", checkpoint_seconds=0
)
FEED_FORWARD = 2 * 3 * 64 * 128  # two layers, three matrices


def sequences(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 257, (count, 16))


def folder_at(path: Path) -> StageFolder:
    folder = StageFolder(path, "train-test", 1, {}, {})
    folder.begin()
    return folder


Trained = Callable[..., tuple[dict[str, Any], dict[str, torch.Tensor]]]


@pytest.fixture
def trained(random_base: Path, tmp_path: Path, packed: Any) -> Trained:
    """Trains a branch of the random base; gives its facts and its tensors."""

    def train(tokens: Any, *, name: str = "out", way: str = "feed-forward", **settings: Any) -> Any:
        folder = StageFolder(tmp_path / name, "train-test", 1, {}, {})
        config = CONFIG.model_copy(update=settings)
        branch = Branch(name, random_base, packed(tokens), way)
        facts = finished_or(folder, lambda: train_branch(branch, config, folder)).facts
        return facts, load_file(tmp_path / name / "model.safetensors")

    return train


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_only_feed_forward_weights_move(trained: Trained, random_base: Path, precision: str) -> None:
    facts, after = trained(sequences(6), precision=precision)
    before = load_file(random_base / "model.safetensors")
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        if ".mlp." in name:
            assert after[name].dtype == torch.bfloat16
            moved = (after[name].float() - tensor.float()).abs()
            assert (moved > 0).float().mean() > 0.9, name
        else:
            assert after[name].dtype == tensor.dtype
            assert torch.equal(after[name], tensor), name
    assert facts["trainable_parameters"] == FEED_FORWARD
    assert facts["precision"] == precision


def test_all_weights_move_where_asked_to(trained: Trained, random_base: Path) -> None:
    facts, after = trained(sequences(6), way="all")
    before = load_file(random_base / "model.safetensors")
    assert all(not torch.equal(after[name].float(), tensor) for name, tensor in before.items())
    assert facts["trainable_parameters"] == sum(tensor.numel() for tensor in before.values())


def test_the_facts(trained: Trained, random_base: Path, tmp_path: Path) -> None:
    """Five sequences, two a step: three steps, the last of one sequence. The first loss is transformers' own."""
    tokens = sequences(5)
    facts, _ = trained(tokens)
    assert (facts["tokens"], facts["steps"]) == (80, 3)
    assert [seen for seen, _ in facts["losses"]] == [32, 64, 80]
    model = AutoModelForCausalLM.from_pretrained(random_base, dtype=torch.float32)
    first = torch.from_numpy(tokens[:2])
    with torch.no_grad():
        assert facts["first_loss"] == pytest.approx(float(model(first, labels=first).loss), abs=2e-5)
    assert [loss for _, loss in facts["losses"]][::2] == [facts["first_loss"], facts["last_loss"]]
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["dtype"] == "bfloat16" and "torch_dtype" not in config
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"tokenizer.json", "tokenizer_config.json", "config.json", "model.safetensors"} <= names
    assert "checkpoints" not in names
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["outputs"].keys() == names - {"manifest.json"}


def test_the_result_is_a_plain_torch_loops(trained: Trained, random_base: Path) -> None:
    """The same steps in a loop of ten lines with torch's AdamW."""
    tokens = sequences(8)
    _, ours = trained(tokens, warmup=0.0, final_learning_rate=1.0, sequences_per_forward=1)
    model = AutoModelForCausalLM.from_pretrained(random_base, dtype=torch.float32).train()
    moving = {name: parameter for name, parameter in model.named_parameters() if ".mlp." in name}
    reference = AdamW(moving.values(), lr=0.01, betas=(CONFIG.beta1, CONFIG.beta2), weight_decay=0.0)
    for start in range(0, 8, 2):
        batch = torch.from_numpy(tokens[start : start + 2])
        model.zero_grad()
        model(batch, labels=batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(moving.values(), CONFIG.clip_norm)
        reference.step()
    for name, parameter in moving.items():
        torch.testing.assert_close(ours[name], parameter.detach().bfloat16(), rtol=2e-2, atol=2e-4)


def test_the_loss_falls_on_what_can_be_learnt(trained: Trained) -> None:
    pattern = np.tile(np.arange(10, 26), (60, 1))
    facts, _ = trained(pattern, way="all")
    assert facts["last_loss"] < 0.3 * facts["first_loss"]


def test_a_seeded_run_is_repeatable(trained: Trained) -> None:
    facts, ours = trained(sequences(6))
    again, theirs = trained(sequences(6), name="again")
    assert facts["losses"] == again["losses"]
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("step", [1, 3, 5])
def test_an_interrupted_branch_goes_on_bit_for_bit(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, step: int, precision: str
) -> None:
    """Interrupted in the step `step`, before its checkpoint: the second run does that step and those after it."""
    tokens = sequences(12)
    expected, whole = trained(tokens, precision=precision)
    steps = []

    def interrupt(*arguments: object) -> None:
        steps.append(arguments)
        if len(steps) == step + 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "advance", interrupt)
        with pytest.raises(KeyboardInterrupt):
            trained(tokens, name="again", precision=precision)
    steps.clear()
    monkeypatch.setattr(Progress, "advance", lambda *arguments: steps.append(arguments))
    resumed, tensors = trained(tokens, name="again", precision=precision)
    assert len(steps) == 6 - step
    assert resumed["losses"] == expected["losses"]
    assert all(torch.equal(whole[name], tensors[name]) for name in whole)


def test_a_kill_while_the_model_is_written_loses_no_step(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    _, whole = trained(sequences(8))

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ways, "write_checkpoint", fail)
        with pytest.raises(KeyboardInterrupt):
            trained(sequences(8), name="again")
    steps: list[object] = []
    monkeypatch.setattr(Progress, "advance", lambda *arguments: steps.append(arguments))
    _, tensors = trained(sequences(8), name="again")
    assert len(steps) == 1  # the last step has no checkpoint: the finished model is one
    assert all(torch.equal(whole[name], tensors[name]) for name in whole)


def test_no_sequences_leave_the_model_as_it_is(trained: Trained, random_base: Path) -> None:
    facts, after = trained(np.zeros((0, 16), dtype=np.int64))
    assert (facts["steps"], facts["tokens"], facts["first_loss"], facts["losses"]) == (0, 0, None, [])
    before = load_file(random_base / "model.safetensors")
    assert all(torch.equal(after[name], tensor.to(after[name].dtype)) for name, tensor in before.items())


def test_a_loss_that_is_not_finite_stops_the_branch(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="left the finite numbers") as caught:
        trained(sequences(20), learning_rate=1e30)
    assert "train.learning_rate" in caught.value.next_step
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert not (tmp_path / "out" / "config.json").exists()


def test_a_gradient_that_is_not_finite_stops_the_branch(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the last step no loss after it would show the weights that it spoils."""
    gradients = loop._gradients

    def spoil(task: loop.Task, module: Any, step: int) -> float:
        loss = gradients(task, module, step)
        if step == 2:
            module.model.model.layers[0].mlp.up_proj.weight.grad[0, 0] = float("inf")
        return loss

    monkeypatch.setattr(loop, "_gradients", spoil)
    with pytest.raises(InputError, match="gradient norm inf at step 2"):
        trained(sequences(6))
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_before_a_damaged_checkpoint_there_is_a_whole_one(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a power cut leaves it: the newest file has its name and no bytes."""
    _, expected = trained(sequences(12), name="whole")
    gradients = loop._gradients

    def stop(task: loop.Task, module: Any, step: int) -> float:
        if step == 4:
            raise KeyboardInterrupt
        return gradients(task, module, step)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "_gradients", stop)
        trained(sequences(12), keep_checkpoints=3)
    newest = max((tmp_path / "out" / "checkpoints").iterdir())
    newest.write_bytes(b"")
    _, found = trained(sequences(12), keep_checkpoints=3)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    told = capsys.readouterr().err
    assert "a checkpoint is damaged, and the one before it is taken" in told and newest.name in told


def test_a_damaged_checkpoint_of_the_training_is_named(trained: Trained, tmp_path: Path) -> None:
    folder_at(tmp_path / "out")
    (tmp_path / "out" / "checkpoints").mkdir()
    (tmp_path / "out" / "checkpoints" / "step-000000001.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    with pytest.raises(InputError, match="damaged") as caught:
        trained(sequences(6))
    assert "step-000000001.safetensors" in str(caught.value.seen)


def test_checkpoints_stay_until_the_manifest_is_there(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended just before the manifest is written, a branch is finished from its last checkpoint."""

    def ended(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StageFolder, "finish", ended)
        with pytest.raises(KeyboardInterrupt):
            trained(sequences(6))
    assert len(list((tmp_path / "out" / "checkpoints").iterdir())) == 1
    (tmp_path / "out" / "model.safetensors").unlink()
    steps: list[int] = []
    monkeypatch.setattr(Progress, "advance", lambda *_: steps.append(1))
    _, carried_on = trained(sequences(6))
    assert len(steps) == 1  # of three
    _, expected = trained(sequences(6), name="other")
    assert all(torch.equal(carried_on[name], expected[name]) for name in expected)


def test_what_watchers_write_may_go(trained: Trained, tmp_path: Path) -> None:
    trained(sequences(6), watch=("tensorboard",))
    events = tmp_path / "out" / "tensorboard"
    assert list(events.iterdir())
    for path in events.iterdir():
        path.unlink()
    assert StageFolder(tmp_path / "out", "train-test", 1, {}, {}).finished() is not None
