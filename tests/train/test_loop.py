"""Policies of the loop, its metrics, early stop, and a real kill -9 between any two steps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from codechoir.artifacts import StageFolder
from codechoir.errors import InputError, ToolMissingError
from codechoir.model.checkpoint import save_tensors
from codechoir.model.optimiser import read_state
from codechoir.train import loop
from codechoir.train.branch import Branch, train_branch
from codechoir.train.config import TrainConfig
from codechoir.train.metrics import read_metrics
from codechoir.train.validation import Rows

CONFIG = TrainConfig(
    sequence_length=16, sequences_per_step=2, learning_rate=0.01, precision="float32", checkpoint_seconds=0
)
SEQUENCES = np.random.default_rng(0).integers(0, 257, (12, 16))
MEASURED = Rows("python", torch.from_numpy(SEQUENCES[:2]), torch.ones(2, 16, dtype=torch.bool), 32)


@pytest.fixture
def run(random_base: Path, tmp_path: Path, packed: Any) -> Any:
    """Trains a branch; gives its facts, its metrics and its tensors."""

    def train(name: str = "out", measured: bool = False, compiled: bool = False, **settings: Any) -> Any:
        folder = StageFolder(tmp_path / name, "train-test", 1, {}, {})
        folder.begin()
        rows = (MEASURED,) if measured else ()
        branch = Branch(name, random_base, packed(SEQUENCES), "feed-forward", rows, compiled=compiled)
        facts = train_branch(branch, CONFIG.model_copy(update=settings), folder)
        lines = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
        return facts, lines, load_file(folder.path / "model.safetensors")

    return train


@pytest.mark.parametrize("fault", ["loss", "gradient", "spike"])
def test_a_bad_step_is_skipped_where_asked_to(run: Any, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights and the later steps are those of a run in which the step's learning rate is 0."""
    gradients, rate = loop._gradients, loop.learning_rate

    def spoil(task: loop.Task, module: Any, step: int) -> float:
        loss = gradients(task, module, step)
        if step == 5 and fault == "gradient":
            module.model.model.layers[0].mlp.up_proj.weight.grad[0, 0] = float("inf")
        return {"loss": float("nan"), "spike": 50.0}.get(fault, loss) if step == 5 else loss

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_gradients", spoil)
        facts, lines, skipped = run(bad_step="skip", spike_factor=3.0)
        with pytest.raises(InputError, match="step 5, 1 in a row"):
            run("stopped", bad_step="stop", spike_factor=3.0)
    assert facts["skipped_steps"] == [5]
    assert [line["skipped"] for line in lines] == [False] * 5 + [True]
    assert fault in ("spike",) or "nan" in lines[5]["why"] or "inf" in lines[5]["why"]
    monkeypatch.setattr(loop, "learning_rate", lambda step, *more: 0.0 if step == 5 else rate(step, *more))
    _, _, expected = run("expected")
    assert all(torch.equal(skipped[name], expected[name]) for name in expected)


def test_early_stop_writes_the_best(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bits = iter([3.0, 2.0, 2.5, 2.25])
    monkeypatch.setattr(loop, "bits_per_byte", lambda *_: {"python": next(bits)})
    facts, lines, best = run(measured=True, validation_steps=1, patience=2)
    assert (facts["steps"], facts["best_step"], facts["stopped_early"]) == (4, 2, True)
    assert (facts["tokens"], facts["tokens_read"]) == (2 * 32, 4 * 32)
    assert [line["bits_per_byte"]["python"] for line in lines if "bits_per_byte" in line] == [3.0, 2.0, 2.5, 2.25]
    rate = loop.learning_rate
    monkeypatch.setattr(loop, "learning_rate", lambda step, *more: 0.0 if step > 1 else rate(step, *more))
    _, _, expected = run("two steps")
    assert all(torch.equal(best[name], expected[name]) for name in best)


def test_a_run_that_made_all_steps_did_not_stop_early(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bits = iter([1.0, 2.0, 2.0, 2.0, 2.0, 2.0])
    monkeypatch.setattr(loop, "bits_per_byte", lambda *_: {"python": next(bits)})
    facts, _, _ = run(measured=True, validation_steps=1, patience=5)
    assert (facts["steps"], facts["best_step"], facts["stopped_early"]) == (6, 1, False)


@pytest.mark.parametrize("num_bad", [2, 3])
def test_as_many_steps_are_skipped_in_a_row_as_are_allowed(
    run: Any, monkeypatch: pytest.MonkeyPatch, num_bad: int
) -> None:
    gradients = loop._gradients
    bad = range(1, 1 + num_bad)
    monkeypatch.setattr(loop, "_gradients", lambda *told: gradients(*told) + (float("nan") if told[2] in bad else 0.0))
    if num_bad == 2:
        assert run(bad_step="skip", max_skips=2)[0]["skipped_steps"] == [1, 2]
    else:
        with pytest.raises(InputError, match="step 3, 3 in a row"):
            run(bad_step="skip", max_skips=2)


_KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from codechoir.artifacts import StageFolder
from codechoir.console import Progress
from codechoir.train.branch import Branch, train_branch
from codechoir.train.config import TrainConfig
from codechoir.train.sequences import ArraySequences
base, out, step, compiled = sys.argv[1:]
left = [int(step)]
def kill(*_):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
Progress.advance = kill
config = TrainConfig(sequence_length=16, sequences_per_step=5, learning_rate=0.01, precision="float32",
                     checkpoint_seconds=0)
tokens = np.random.default_rng(0).integers(0, 257, (12, 16))
folder = StageFolder(Path(out), "train-test", 1, {}, {})
folder.begin()
branch = Branch("out", Path(base), ArraySequences(tokens, -1), "feed-forward", compiled=compiled == "True")
train_branch(branch, config, folder)
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler, about itself
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("compiled", [False, True])
def test_a_killed_run_carries_on_bit_for_bit(run: Any, random_base: Path, tmp_path: Path, compiled: bool) -> None:
    """Five sequences a step, the last of two: who carries on begins with the shape that the other ends with."""
    told_how = {"compiled": compiled, "sequences_per_step": 5}
    facts, lines, whole = run("whole", **told_how)
    command = [sys.executable, "-c", _KILLED, str(random_base), str(tmp_path / "killed"), "2", str(compiled)]
    killed = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    torch.compiler.reset()  # as a new process begins
    again, carried, tensors = run("killed", **told_how)

    def told(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{key: value for key, value in line.items() if key != "tokens_per_second"} for line in lines]

    assert told(carried) == told(lines)
    assert again["losses"] == facts["losses"]
    assert all(torch.equal(whole[name], tensors[name]) for name in whole)


@pytest.mark.parametrize("fault", ["damaged", "missing"])
@pytest.mark.parametrize("has_older", [False, True])
def test_a_checkpoint_without_its_best_is_not_carried_on_from(
    run: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: str,
    has_older: bool,
) -> None:
    """There are those after 1, 4 and 5 steps; 5 tells of 4 as the best. 1 is its own best, or tells of 4, too."""
    settings = {"measured": True, "validation_steps": 1, "patience": 9, "keep_checkpoints": 5}
    facts, _, expected = run("whole", **settings)
    gradients = loop._gradients

    def stop(task: loop.Task, module: Any, step: int) -> float:
        if step == 5:
            raise KeyboardInterrupt
        return gradients(task, module, step)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "_gradients", stop)
        run(**settings)
    first, second, third, best, newest = sorted((tmp_path / "out" / "checkpoints").iterdir())
    for path in (newest,) if has_older else (newest, first):
        tensors, progress = read_state(path)
        save_tensors(path, tensors, {"progress": json.dumps(progress | {"best_step": 4, "best_bits": 0.01})})
    second.unlink()
    third.unlink()
    if fault == "damaged":
        best.write_bytes(best.read_bytes()[:-1])
    else:
        best.unlink()
    capsys.readouterr()
    again, _, found = run(**settings)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert (again["losses"], again["best_step"]) == (facts["losses"], facts["best_step"])
    told = capsys.readouterr().err
    assert f"a checkpoint is {fault}, and the one before it is taken: {best}" in told
    assert ("the branch begins anew" in told) == (not has_older)


@pytest.mark.parametrize("bad_step", ["stop", "skip"])
def test_weights_that_give_no_finite_loss_are_no_result(run: Any, tmp_path: Path, bad_step: str) -> None:
    """After a last update that no step has followed, or only steps that were skipped."""
    settings = {"learning_rate": 1e30, "bad_step": bad_step, "sequences_per_step": 6 if bad_step == "skip" else 12}
    with pytest.raises(InputError, match="out ends with weights that give no finite loss"):
        run(**settings)
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_what_spoilt_lines_said_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n\0\0\0\n{"step": 2}\n\xff{}\n{"step": 3')
    assert read_metrics(tmp_path) == [{"step": 1}, {"step": 2}]


def test_tensorboard_is_told(run: Any, tmp_path: Path) -> None:
    event_file_loader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    _, lines, _ = run(watch=("tensorboard",), measured=True)
    events = event_file_loader.EventAccumulator(str(tmp_path / "out" / "tensorboard")).Reload()
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(
        [line["loss"] for line in lines if "loss" in line]
    )
    assert [event.step for event in events.Scalars("bits_per_byte/python")] == [6]


def test_a_missing_watcher_is_named(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ToolMissingError, match="wandb") as caught:
        run(watch=("wandb",))
    assert "codechoir[wandb]" in caught.value.next_step
