"""What a branch's training tells while it runs: `metrics.jsonl`, and TensorBoard or Weights & Biases where asked for.

A line a step, and a line a measurement of held-out bits per byte. A run that carries on first drops the lines after
its checkpoint, so that no step is told twice. Only the first process has one.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codechoir.artifacts import StageFolder, disk_full_told, write_atomically
from codechoir.config import digest_of
from codechoir.errors import ToolMissingError
from codechoir.train.config import Watcher

METRICS = "metrics.jsonl"
TENSORBOARD, WANDB = "tensorboard", "wandb"  # folders that belong to these
_BITS = "bits_per_byte"


class Metrics:
    """The lines of one branch, from the step `done` on."""

    def __init__(self, stage: StageFolder, name: str, watch: Sequence[Watcher], done: int) -> None:
        folder = stage.path
        self.path = folder / METRICS
        kept = [line for line in read_metrics(folder) if line["step"] <= done]
        write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        run = _Run(folder, name, done, digest_of([str(folder.resolve()), stage.digest])[:16])
        self._sinks = [_SINKS[kind](run) for kind in watch]
        self._file = self.path.open("a", encoding="utf-8")

    def write(self, line: Mapping[str, Any]) -> None:
        """One line; `step` counts the steps that are done."""
        with disk_full_told(self.path):
            self._file.write(json.dumps(line, allow_nan=False) + "\n")
            self._file.flush()
        values = dict(_numbers(line))
        for sink in self._sinks:
            sink.write(line["step"], values)

    def close(self) -> None:
        """Closes all."""
        self._file.close()
        for sink in self._sinks:
            sink.close()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of a branch's metrics, in order; one that a kill or a power cut spoilt is left out."""
    path = folder / METRICS
    if not path.exists():
        return []
    lines = []
    for line in path.read_bytes().splitlines(keepends=True):
        with suppress(ValueError):  # neither JSON nor UTF-8
            lines += [json.loads(line)] if line.endswith(b"\n") else []
    return lines


def _numbers(line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in line.items():
        if key == _BITS:
            yield from ((f"{_BITS}/{name}", bits) for name, bits in value.items() if bits is not None)
        elif key != "step" and isinstance(value, int | float):
            yield key, float(value)


@dataclass(frozen=True, slots=True)
class _Run:
    """What a watcher is told of the branch."""

    folder: Path
    name: str
    done: int  # steps
    id: str  # the same whenever it carries on


class _TensorBoard:
    def __init__(self, run: _Run) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise _missing("tensorboard") from None
        self._writer = SummaryWriter(str(run.folder / TENSORBOARD), purge_step=run.done + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self._writer.add_scalar(key, value, step)

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    """Where and whether it sends is its own affair: WANDB_PROJECT, WANDB_MODE=offline and the like hold."""

    def __init__(self, run: _Run) -> None:
        try:
            import wandb
        except ImportError:
            raise _missing("wandb") from None
        silent = wandb.Settings(silent=True)
        self._run = wandb.init(name=run.name, id=run.id, dir=str(run.folder), resume="allow", settings=silent)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


_SINKS: Mapping[Watcher, type[_TensorBoard] | type[_WeightsAndBiases]] = {
    "tensorboard": _TensorBoard,
    "wandb": _WeightsAndBiases,
}


def check_watchers(watch: Sequence[Watcher]) -> None:
    """Raises ToolMissingError naming a watcher whose package is not installed."""
    for package in watch:
        found = importlib.util.find_spec(package)
        if found is None or found.origin is None:  # without an origin: a folder that a watcher wrote to
            raise _missing(package)


def _missing(package: str) -> ToolMissingError:
    return ToolMissingError(
        f"train.watch asks for {package}, which is not installed",
        next_step=f"pip install 'codechoir[{package}]', or leave it out of train.watch",
    )
