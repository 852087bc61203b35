"""The training loop: a model, its sequences in order and its optimiser in; the steps made, told and carried on.

Knows nothing of languages, ways or files of models. A step is fixed by its number alone: its rows, its learning rate
and what is drawn at random, so a run that carries on from a checkpoint makes the very steps that were lost. The loss of
a step is the mean over all its tokens that count, on whichever process they lie.
"""

from __future__ import annotations

import io
import math
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codechoir.artifacts import StageFolder
from codechoir.console import Progress, say
from codechoir.errors import InputError
from codechoir.model.optimiser import MasterAdamW, check_state, learning_rate, read_state
from codechoir.train.checkpoints import Checkpoints
from codechoir.train.config import TrainConfig
from codechoir.train.devices import Devices
from codechoir.train.loss import counted
from codechoir.train.metrics import Metrics
from codechoir.train.sequences import Sequences
from codechoir.train.validation import Rows, bits_per_byte, mean_bits

CHECKPOINTS = "checkpoints"
_SPIKE_WINDOW = 20
_SPIKE_MIN = 5  # losses before one can be told from a spike
_REMEDY = (
    "lower train.learning_rate, or the largest of train.learning_rates; a changed value trains every branch anew, so "
    "give another --out to keep those that are trained"
)


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be trained, on what."""

    name: str
    sequences: Sequences
    validation: tuple[Rows, ...]
    config: TrainConfig
    folder: StageFolder
    devices: Devices

    @property
    def num_steps(self) -> int:
        """Optimiser steps in all."""
        return -(-len(self.sequences) // self.config.sequences_per_step)

    def tokens_after(self, step: int) -> int:
        """Tokens read in the first `step` steps."""
        return min(step * self.config.sequences_per_step, len(self.sequences)) * self.config.sequence_length


@dataclass(slots=True)
class State:
    """How far the training is; goes into every checkpoint."""

    step: int = 0  # steps made
    seconds: float = 0.0  # that the steps took
    recent: list[float] = field(default_factory=list)  # the last losses that were no spike
    skips: int = 0  # steps skipped in a row
    best_step: int = 0  # after which the best measurement was made
    best_bits: float = math.inf
    worse: int = 0  # measurements since
    stopped_early: bool = False


def run_steps(task: Task, module: Any, optimiser: MasterAdamW) -> State:
    """Makes the steps that are not made yet. `module` gives the summed loss of packed sequences (`PackedLoss`).

    Raises InputError, naming the step, where the training leaves the finite numbers or spikes and is to stop then.
    """
    config, devices = task.config, task.devices
    with ExitStack() as stack:
        checkpoints = stack.enter_context(closing(Checkpoints(task.folder.path / CHECKPOINTS, config.keep_checkpoints)))
        state = _resume(checkpoints, optimiser, devices)
        metrics = Metrics(task.folder, task.name, config.watch, state.step) if devices.is_first else None
        if metrics:
            stack.enter_context(closing(metrics))
        bar, saved = stack.enter_context(_progress(task, state)), time.monotonic()
        while state.step < task.num_steps and not state.stopped_early:
            began = time.monotonic()
            rate = learning_rate(state.step, task.num_steps, config)
            loss, due = devices.sums(_gradients(task, module, state.step), _is_due(saved, config, devices))
            checkpoints.settle()  # what is being written must not change
            bad = _fault(loss, state, config)
            norm = optimiser.discard() if bad else optimiser.step(rate)
            if not bad and not math.isfinite(norm):
                bad = f"gradient norm {norm}"
            seconds = time.monotonic() - began
            state.step, state.seconds = state.step + 1, state.seconds + seconds
            read = task.tokens_after(state.step) - task.tokens_after(state.step - 1)
            if metrics:
                metrics.write(_line(task, state.step, (loss, rate, norm, read / seconds), bad))
            _note(bad, loss, state, task)
            measured = _measure(task, module, state)
            if metrics and measured:
                metrics.write({"step": state.step, "tokens": task.tokens_after(state.step), "bits_per_byte": measured})
            bar.advance(read, f"loss {loss:.3f}")
            is_best = config.patience > 0 and measured is not None and state.best_step == state.step
            if is_best or (due and state.step < task.num_steps):
                _save(task, checkpoints, optimiser, state)
                saved = time.monotonic()
    return state


def _gradients(task: Task, module: Any, step: int) -> float:
    """Adds the step's mean gradient to the parameters. Returns this process's share of the mean loss (nats a token)."""
    config, devices = task.config, task.devices
    torch.manual_seed(int(np.random.SeedSequence((config.seed % 2**32, step, devices.rank)).generate_state(1)[0]))
    first = step * config.sequences_per_step
    batch = task.sequences.batch(slice(first, min(first + config.sequences_per_step, len(task.sequences))))
    counts_BT = counted(batch.positions_BT)
    scale = 1 / max(int(counts_BT.sum()), 1)
    # Each process has as many rows; what lacks is filled with rows that do not count, so that all make as many passes.
    share = -(-len(counts_BT) // devices.count)
    places = np.arange(devices.rank * share, (devices.rank + 1) * share)
    rows = torch.from_numpy(places % len(counts_BT))
    counts_BT = counts_BT[rows] & torch.from_numpy(places < len(counts_BT))[:, None]
    total = torch.zeros((), device=devices.device)
    for start in range(0, share, config.sequences_per_forward):
        part = slice(start, start + config.sequences_per_forward)
        tensors = (batch.tokens_BT[rows[part]].long(), batch.positions_BT[rows[part]].long(), counts_BT[part])
        with devices.adding_up(module, start + config.sequences_per_forward >= share):
            loss = module(*(tensor.to(devices.device, non_blocking=True) for tensor in tensors))
            torch.autograd.backward(loss * (scale * devices.count))  # gradients are the mean over the processes
        total += loss.detach()
    return float(total) * scale


def _is_due(saved: float, config: TrainConfig, devices: Devices) -> float:
    """1 on the first process when it is time for a checkpoint, else 0: the processes' sum is what all go by."""
    return float(devices.is_first and time.monotonic() - saved >= config.checkpoint_seconds)


def _fault(loss: float, state: State, config: TrainConfig) -> str:
    """What is wrong with a step's loss; empty where nothing is."""
    if not math.isfinite(loss):
        return f"loss {loss}"
    if config.spike_factor is None or len(state.recent) < _SPIKE_MIN:
        return ""
    mean = sum(state.recent) / len(state.recent)
    return f"loss {loss:.4g}, {loss / mean:.3g} times the mean before it" if loss > config.spike_factor * mean else ""


def _note(bad: str, loss: float, state: State, task: Task) -> None:
    """Counts a skipped step, or stops. Raises InputError."""
    config = task.config
    if not bad:
        state.skips = 0
        state.recent = [*state.recent, loss][-_SPIKE_WINDOW:]
        return
    state.skips += 1
    if config.bad_step == "stop" or state.skips > config.max_skips:
        raise InputError(
            f"the training of {task.name} has left the finite numbers, or its loss has leapt",
            seen=f"{bad} at step {state.step - 1}, {state.skips} in a row (policy: {config.bad_step})",
            next_step=_REMEDY,
        )


@torch.no_grad()
def check_result(task: Task, module: Any) -> None:
    """Raises InputError where the weights give no finite loss: no step after the last update has said so."""
    if not len(task.sequences):
        return
    batch = task.sequences.batch(slice(0, min(task.config.sequences_per_forward, len(task.sequences))))
    module.eval()
    tensors = (batch.tokens_BT.long(), batch.positions_BT.long(), counted(batch.positions_BT))
    loss = float(module(*(tensor.to(task.devices.device) for tensor in tensors)))
    module.train()
    if not math.isfinite(loss):
        raise InputError(
            f"the training of {task.name} ends with weights that give no finite loss",
            seen=f"loss {loss}",
            next_step=_REMEDY,
        )


def _line(task: Task, step: int, figures: tuple[float, float, float, float], bad: str) -> dict[str, Any]:
    """A step's line of the metrics; what is not finite is null, as JSON has no such number."""
    loss, rate, norm, speed = (figure if math.isfinite(figure) else None for figure in figures)
    return {
        "step": step,
        "tokens": task.tokens_after(step),
        "loss": loss,
        "learning_rate": rate,
        "gradient_norm": norm,
        "tokens_per_second": None if speed is None else round(speed, 1),
        "skipped": bool(bad),
        **({"why": bad} if bad else {}),
    }


def _measure(task: Task, module: Any, state: State) -> dict[str, float | None] | None:
    """Held-out bits per byte, when it is time; keeps count of the best, and stops early where that is asked for."""
    config = task.config
    if not task.validation or (state.step % config.validation_steps and state.step < task.num_steps):
        return None
    measured = bits_per_byte(module, task.validation, task.devices)
    mean = mean_bits(measured)
    if mean < state.best_bits:
        state.best_bits, state.best_step, state.worse = mean, state.step, 0
    else:
        state.worse += 1
        state.stopped_early = 0 < config.patience <= state.worse and state.step < task.num_steps
    return measured


def _resume(checkpoints: Checkpoints, optimiser: MasterAdamW, devices: Devices) -> State:
    """Goes on from the newest checkpoint that is whole and whose best one is there and whole, too.

    Where none has its best one, the branch begins anew. Raises InputError where all are damaged.
    """
    kept, any_whole = checkpoints.newest_first(), False
    for path in kept:
        try:
            tensors, progress = read_state(path)
            any_whole = True
            if progress["best_step"]:
                check_state(checkpoints.path(progress["best_step"]))
        except InputError as error:
            is_last = path == kept[-1]
            if is_last and not any_whole:
                raise
            if devices.is_first:
                instead = "the branch begins anew" if is_last else "the one before it is taken"
                say(f"train: {error.what}, and {instead}: {error.seen}")
        else:
            optimiser.restore(tensors)
            _remove_unusable(kept[: kept.index(path)], devices)
            return State(**progress | {"best_bits": progress["best_bits"] or math.inf})
    _remove_unusable(kept, devices)
    return State()


def _remove_unusable(paths: Sequence[Path], devices: Devices) -> None:
    """They would count among the newest that are kept."""
    devices.meet()  # all have looked
    for path in paths if devices.is_first else ():
        path.unlink()


def _save(task: Task, checkpoints: Checkpoints, optimiser: MasterAdamW, state: State) -> None:
    progress = asdict(state) | {"best_bits": state.best_bits if math.isfinite(state.best_bits) else None}
    progress["best_step"] = state.best_step if task.config.patience else 0
    tensors = optimiser.state()
    if task.devices.is_first:
        checkpoints.save(state.step, tensors, progress)
        task.folder.save_time()
    else:  # its parts are gathered all the same
        for _ in tensors:
            pass


def _progress(task: Task, state: State) -> Progress:
    total, done = task.tokens_after(task.num_steps), task.tokens_after(state.step)
    stream = sys.stderr if task.devices.is_first else io.StringIO()
    return Progress(f"train {task.name}", total, "tokens", done=done, stream=stream)


def best_checkpoint(folder: Path, state: State) -> Path:
    """The checkpoint of the best measurement of a run with early stop."""
    return Checkpoints(folder / CHECKPOINTS, 1).path(state.best_step)
