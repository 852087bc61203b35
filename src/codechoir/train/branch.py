"""Training one branch: a model folder in, its sequences in order, a model folder out. Resumable at any step.

Knows nothing of languages: `stage.py` decides which branches there are and what each reads.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from codechoir.artifacts import Manifest, StageFolder, read_manifest
from codechoir.model.device import compute_dtype, memory_full_told
from codechoir.model.optimiser import MASTER, MasterAdamW, read_state
from codechoir.train.acceleration import accelerate
from codechoir.train.checkpoints import Checkpoints
from codechoir.train.config import TrainConfig, Way
from codechoir.train.devices import join_devices, told_to_shard
from codechoir.train.loop import CHECKPOINTS, State, Task, best_checkpoint, check_result, run_steps
from codechoir.train.loss import PackedLoss
from codechoir.train.metrics import TENSORBOARD, WANDB, read_metrics
from codechoir.train.sequences import Sequences
from codechoir.train.validation import Rows
from codechoir.train.ways import load_subject, write_result


@dataclass(frozen=True, slots=True)
class Branch:
    """One model to train: where it starts, what it reads, which weights move, what it is measured on meanwhile."""

    name: str
    start: Path
    sequences: Sequences
    way: Way
    validation: tuple[Rows, ...] = ()
    keeps_model: bool = True  # False: only the figures are wanted
    compiled: bool = False  # whether its layers are, where this machine can: to be the same whenever it carries on


@memory_full_told(
    "lower train.sequences_per_forward or set train.gradient_checkpointing, with several devices train.shard, and run "
    "again: what is trained stays; else train fewer weights, or shorten train.sequence_length"
)
def train_branch(branch: Branch, config: TrainConfig, folder: StageFolder) -> dict[str, Any]:
    """Trains the branch into the begun `folder` and returns the figures for its manifest.

    Where several processes train together all must call it; the first one writes, and all get the figures.
    """
    gc.collect()  # an earlier branch's model: compiled layers are in cycles
    devices, dtype = join_devices(), compute_dtype(config.precision)
    subject = load_subject(branch.start, branch.way, config, dtype)
    subject.model.to(devices.device)
    if subject.new_rows is not None:
        subject.new_rows.to(devices.device)
    num_trained = sum(parameter.numel() for parameter in subject.trained().values())
    loss = PackedLoss(subject.model, subject.new_rows)
    accelerate(subject.model, subject.layers, branch.compiled)
    module = devices.spread(loss, subject.layers, config.shard or told_to_shard())
    optimiser = MasterAdamW(subject.trained(), config)  # after the spread, which may split the parameters
    task = Task(branch.name, branch.sequences, branch.validation, config, folder, devices)
    state = run_steps(task, module, optimiser)
    masters = {
        name.removeprefix(MASTER): tensor.cpu() if devices.is_first else torch.empty(0)
        for name, tensor in optimiser.masters()
    }
    if branch.keeps_model and not (config.patience and state.best_step):  # the best have been measured
        check_result(task, module)
    if devices.is_first:
        if config.patience and state.best_step:
            best, _ = read_state(best_checkpoint(folder.path, state))
            masters = {name: best[f"{MASTER}{name}"] for name in masters}
        if branch.keeps_model:
            write_result(subject, masters, config, folder.path)
    devices.meet()
    return {
        **_figures(task, state),
        "trainable": branch.way,
        "trainable_parameters": num_trained,
        "learning_rate": config.learning_rate,
        "precision": str(dtype).removeprefix("torch."),
        "device": devices.device.type,
        "devices": devices.count,
    }


def finished_or(folder: StageFolder, trained: Callable[[], Mapping[str, Any]]) -> Manifest:
    """The manifest of a branch that is finished in `folder`, or that `trained` trains there and gives the facts of.

    Where several processes train together all must call it; the first one writes.
    """
    devices = join_devices()
    finished = folder.finished()
    devices.meet()  # all have looked before anything changes
    if finished is None:
        if devices.is_first:
            folder.begin()
        devices.meet()
        facts = trained()
        if devices.is_first:
            folder.finish(facts, beside=(CHECKPOINTS, TENSORBOARD, WANDB))
        devices.meet()
        finished = read_manifest(folder.path)
    if devices.is_first:
        Checkpoints(folder.path / CHECKPOINTS, 1).remove()  # only now: a kill before the manifest needs them
    return finished


def _figures(task: Task, state: State) -> dict[str, Any]:
    """What the branch's metrics say, summed up. Losses are rounded; metrics.jsonl has them whole."""
    lines = read_metrics(task.folder.path)
    steps = [line for line in lines if "loss" in line]
    measured = [line for line in lines if "bits_per_byte" in line]
    losses = [[line["tokens"], None if line["loss"] is None else round(line["loss"], 5)] for line in steps]
    read = task.tokens_after(state.step)
    best = state.best_step if task.config.patience else 0
    return {
        "tokens": task.tokens_after(best) if best else read,  # that the kept weights have read
        "tokens_read": read,
        "steps": state.step,
        "first_loss": losses[0][1] if losses else None,
        "last_loss": losses[-1][1] if losses else None,
        "tokens_per_second": round(read / state.seconds, 1) if state.seconds else None,
        "skipped_steps": [line["step"] - 1 for line in steps if line["skipped"]],
        "stopped_early": state.stopped_early,
        "best_step": best if task.config.patience else None,
        "bits_per_byte": [[line["tokens"], line["bits_per_byte"]] for line in measured],
        "losses": losses,
    }
