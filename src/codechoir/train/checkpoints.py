"""A branch's checkpoints: its optimiser's whole state and how far it was, written beside the training.

Owns their files. A thread writes each one, whole or not at all. Weights on the CPU are not copied for it: they stand
still until the next update, which waits for the thread (`settle`); what lies on another device is copied first. The
newest N stay, and the one with the best measurement. Knows nothing of what the tensors are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from codechoir.model.checkpoint import save_tensors

_PATTERN = "step-*.safetensors"


@dataclass(slots=True)
class Checkpoints:
    """The checkpoints in `folder`, the newest `keep` of them."""

    folder: Path
    keep: int
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "checkpoint"), init=False)
    _writing: Future[None] | None = field(default=None, init=False)

    def path(self, step: int) -> Path:
        """The checkpoint after `step` steps."""
        return self.folder / f"step-{step:09}.safetensors"

    def newest_first(self) -> list[Path]:
        """The checkpoints that were written whole."""
        return sorted(self.folder.glob(_PATTERN), reverse=True)

    def save(self, step: int, tensors: Iterable[tuple[str, torch.Tensor]], progress: Mapping[str, Any]) -> None:
        """Begins to write a checkpoint; the one before it is done by then. `progress` is JSON, with `best_step`."""
        self.settle()
        held = {name: tensor.detach().cpu() for name, tensor in tensors}
        self._writing = self._pool.submit(self._write, step, held, json.dumps(progress))

    def settle(self) -> None:
        """Waits for what is being written. Raises what the writing raised (DiskFullError)."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Waits for what is being written, and writes no more."""
        self._pool.shutdown()
        self.settle()

    def _write(self, step: int, tensors: Mapping[str, torch.Tensor], progress: str) -> None:
        self.folder.mkdir(exist_ok=True)
        save_tensors(self.path(step), tensors, {"progress": progress})
        kept = set(sorted(self.folder.glob(_PATTERN))[-self.keep :])
        best = json.loads(progress)["best_step"]
        for path in set(self.folder.glob(_PATTERN)) - kept - {self.path(best) if best else None}:
            path.unlink()

    def remove(self) -> None:
        """Removes all of them."""
        self.settle()
        for path in self.folder.glob("*"):
            path.unlink()
        if self.folder.exists():
            self.folder.rmdir()
