"""AdamW with float32 master weights, its learning-rate schedule, and its state on disk.

Where the model computes in bfloat16, updates are summed in float32 copies of the trained weights and the model's own
weights are their roundings. The whole state is one safetensors file, written atomically.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from codechoir.model.checkpoint import load_tensors, save_tensors
from codechoir.model.config import OptimiserConfig


class MasterAdamW:
    """AdamW over the named parameters of a model; the parameters themselves may be bfloat16."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], config: OptimiserConfig) -> None:
        self._parameters = dict(parameters)
        self._masters = {
            name: nn.Parameter(parameter.detach().to(torch.float32, copy=True))
            for name, parameter in parameters.items()
        }
        self._clip_norm = config.clip_norm
        self._adamw = torch.optim.AdamW(
            self._masters.values(),
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay,
            fused=True,
        )

    def step(self, learning_rate: float) -> float:
        """One update from the parameters' gradients, which are then cleared. Returns their norm before clipping."""
        for name, parameter in self._parameters.items():
            assert parameter.grad is not None, name
            self._masters[name].grad = parameter.grad.to(torch.float32)
            parameter.grad = None
        norm = nn.utils.clip_grad_norm_(self._masters.values(), self._clip_norm)
        for group in self._adamw.param_groups:
            group["lr"] = learning_rate
        self._adamw.step()
        self._adamw.zero_grad()
        self._round()
        return float(norm)

    def save(self, path: Path, progress: Mapping[str, Any]) -> None:
        """Writes masters, moments and `progress` (JSON) as one file, whole or not at all."""
        tensors = {f"master.{name}": master for name, master in self._masters.items()}
        for name, master in self._masters.items():
            for kind, value in self._adamw.state[master].items():
                tensors[f"{kind}.{name}"] = value
        save_tensors(path, tensors, {"progress": json.dumps(progress)})

    def load(self, path: Path) -> dict[str, Any]:
        """Takes up what `save` wrote and returns its `progress`."""
        tensors, metadata = load_tensors(path)
        for name, master in self._masters.items():
            master.data.copy_(tensors[f"master.{name}"])
            kinds = {kind for kind in ("step", "exp_avg", "exp_avg_sq") if f"{kind}.{name}" in tensors}
            self._adamw.state[master] = {kind: tensors[f"{kind}.{name}"].to(master.device) for kind in sorted(kinds)}
        self._round()
        return dict(json.loads(metadata["progress"]))

    @torch.no_grad()
    def _round(self) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(self._masters[name])


def learning_rate(step: int, num_steps: int, config: OptimiserConfig) -> float:
    """Linear warm-up, then a cosine down to `final_learning_rate` of the peak (SGDR, arXiv 1608.03983, eq. 5)."""
    warmup = math.ceil(config.warmup * num_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    share = (step - warmup) / max(num_steps - warmup, 1)
    low = config.final_learning_rate
    return config.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * share)))
