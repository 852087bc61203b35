"""AdamW with float32 master weights, its learning-rate schedules, and its state: named tensors, or a file.

Where the model computes in bfloat16, updates are summed in float32 copies of the trained weights and the model's own
weights are their roundings; float32 weights are their own masters. Weights may be sharded over processes (DTensor):
each holds its part of masters and moments, and the state that goes in and out is whole.

Rows of a packed weight, such as a layer's experts, may have a part in common: each row is the sum of that part, which
learns from all rows' gradients, and of one of its own, less the mean of these. What a few gradients reach then moves
with all the others, and what is each row's own learns only what sets it apart.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor

from codechoir.errors import InputError
from codechoir.model.checkpoint import load_tensors, open_weights, save_tensors
from codechoir.model.config import OptimiserConfig, share_of

MASTER = "master."  # prefix of the masters among the state's tensors
_COMMON = "common."  # prefix of a packed weight's name: the part that its rows have in common
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
_CHUNK_BYTES = 2**27  # float32 gradients of bfloat16 weights that exist at a time


class MasterAdamW:
    """AdamW over the named parameters of a model; the parameters themselves may be bfloat16.

    The rows of those that `packed` names have a part in common, their mean, which moves at the learning rate by the sum
    of the rows' gradients; each row's own, its difference to the mean, moves at `own_rate` of it by the difference of
    its gradient to the gradients' mean.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        config: OptimiserConfig,
        *,
        packed: Collection[str] = (),
        own_rate: float = 1.0,
    ) -> None:
        self._parameters = dict(parameters)
        self._clip_norm = config.clip_norm
        self._masters: dict[str, nn.Parameter] = {}
        for name, parameter in parameters.items():
            master = parameter.detach().to(torch.float32)
            if name in packed:
                common = master.mean(dim=0)
                self._masters[_COMMON + name] = nn.Parameter(common)
                master = master - common
            self._masters[name] = nn.Parameter(master)
        self._chunks = {}
        for names in _chunked({name: self._masters[name] for name in parameters}):
            by_rate: dict[float, list[nn.Parameter]] = {}
            for name in self._with_common(names):
                by_rate.setdefault(own_rate if name in packed else 1.0, []).append(self._masters[name])
            self._chunks[names] = torch.optim.AdamW(
                [{"params": masters, "rate": rate} for rate, masters in by_rate.items()],
                lr=config.learning_rate,
                betas=(config.beta1, config.beta2),
                weight_decay=config.weight_decay,
                fused=True,
            )

    def step(self, learning_rate: float) -> float:
        """One update from the parameters' gradients, which are then cleared. Returns their norm before clipping.

        Where the norm is not finite no weight moves.
        """
        norm = self._norm()
        if not math.isfinite(norm):
            self._clear()
            return norm
        scale = self._clip_norm / (norm + 1e-6)  # as torch's clip_grad_norm_
        for names, adamw in self._chunks.items():
            for group in adamw.param_groups:
                group["lr"] = learning_rate * group["rate"]
            for name in names:
                parameter, master = self._parameters[name], self._masters[name]
                assert parameter.grad is not None, name
                master.grad = parameter.grad.to(torch.float32)
                parameter.grad = None
                if scale < 1:
                    master.grad.mul_(scale)
                if (common := self._masters.get(_COMMON + name)) is not None:
                    common.grad = master.grad.sum(dim=0)
                    master.grad.sub_(common.grad, alpha=1 / len(master.grad))
            adamw.step()
            adamw.zero_grad()
            self._round(names)
        return norm

    def discard(self) -> float:
        """Clears the gradients without an update. Returns their norm."""
        norm = self._norm()
        self._clear()
        return norm

    def _norm(self) -> float:
        gradients = [parameter.grad for parameter in self._parameters.values()]
        assert all(gradient is not None for gradient in gradients)
        norms = [_whole(torch.linalg.vector_norm(g, dtype=torch.float32)) for g in gradients if g is not None]
        return float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0

    def _clear(self) -> None:
        for parameter in self._parameters.values():
            parameter.grad = None

    def state(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Masters and moments, one whole tensor at a time. All processes must ask together."""
        yield from self.masters()
        for names, adamw in self._chunks.items():
            for name in self._with_common(names):
                for kind, value in adamw.state[self._masters[name]].items():
                    yield f"{kind}.{name}", _whole(value)

    def masters(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The masters alone, as `state` names them; of packed rows, what is their own and what is common apart."""
        for name, master in self._masters.items():
            yield f"{MASTER}{name}", _whole(master.detach())

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Takes up what `state` gave."""
        for names, adamw in self._chunks.items():
            for name in self._with_common(names):
                master = self._masters[name]
                master.data.copy_(_placed(tensors[f"{MASTER}{name}"], master))
                kinds = [kind for kind in _MOMENTS if f"{kind}.{name}" in tensors]
                adamw.state[master] = {kind: _placed(tensors[f"{kind}.{name}"], master) for kind in kinds}
            self._round(names)

    def save(self, path: Path, progress: Mapping[str, Any]) -> None:
        """Writes the state and `progress` (JSON) as one file, whole or not at all."""
        save_tensors(path, dict(self.state()), {"progress": json.dumps(progress)})

    def load(self, path: Path) -> dict[str, Any]:
        """Takes up what `save` wrote and returns its `progress`. Raises InputError where the file is damaged."""
        tensors, progress = read_state(path)
        self.restore(tensors)
        return progress

    def _with_common(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The masters of these parameters."""
        return (*names, *(_COMMON + name for name in names if _COMMON + name in self._masters))

    @torch.no_grad()
    def _round(self, names: tuple[str, ...]) -> None:
        for name in names:
            parameter, master = self._parameters[name], self._masters[name]
            if (common := self._masters.get(_COMMON + name)) is not None:
                parameter.copy_(master - master.mean(dim=0) + common)
            elif parameter.dtype != master.dtype:
                parameter.copy_(master)


def read_state(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors and the progress that were saved as one file. Raises InputError where it is missing or damaged."""
    try:
        tensors, metadata = load_tensors(path)
        return tensors, dict(json.loads(metadata["progress"]))
    except (InputError, KeyError, ValueError, TypeError):
        raise _unreadable(path) from None


def check_state(path: Path) -> None:
    """Raises InputError where the file of a saved state is missing or cut short, by its header alone."""
    try:
        open_weights(path.parent, path.stem)
    except InputError:
        raise _unreadable(path) from None


def _unreadable(path: Path) -> InputError:
    if not path.exists():
        return InputError("a checkpoint is missing", seen=path, next_step="run again")
    return InputError("a checkpoint is damaged", seen=path, next_step="remove it and run again")


def _chunked(masters: Mapping[str, nn.Parameter]) -> list[tuple[str, ...]]:
    """The names in runs of at most _CHUNK_BYTES, or of one."""
    chunks: list[list[str]] = []
    room = 0
    for name, master in masters.items():
        size = 4 * master.numel()
        if size > room:
            chunks.append([])
            room = _CHUNK_BYTES
        chunks[-1].append(name)
        room -= size
    return [tuple(chunk) for chunk in chunks]


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _placed(whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The tensor where `like` is; this process's part of it where `like` is sharded. Counts of steps stay whole."""
    moved = whole.to(like.device)
    if isinstance(like, DTensor) and moved.dim():
        return distribute_tensor(moved, like.device_mesh, like.placements)
    return moved


def learning_rate(step: int, num_steps: int, config: OptimiserConfig) -> float:
    """Linear warm-up, then down to `final_learning_rate` of the peak.

    By a cosine (SGDR, arXiv 1608.03983, eq. 5), by a line, or staying at the peak and falling by a line in the last
    steps (warm-up, stable, decay: MiniCPM, arXiv 2404.06395, eq. 1).
    """
    warmup = share_of(config.warmup, num_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    start = warmup
    if config.schedule == "warmup-stable-decay":
        start = max(warmup, num_steps - share_of(config.decay, num_steps))
    share = max(step - start, 0) / max(num_steps - start, 1)
    fallen = 0.5 * (1 - math.cos(math.pi * share)) if config.schedule == "cosine" else share
    return config.learning_rate * (1 - (1 - config.final_learning_rate) * fallen)
