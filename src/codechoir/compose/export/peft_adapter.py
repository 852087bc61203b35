"""One expert as a LoRA adapter of its base, in PEFT's format.

In: a composed model, an expert, and the base's feed-forward weights: the generalist's where the model has one, else a
base folder whose other weights are the composed model's. Out: a pair of matrices a linear layer, by singular value
decomposition of what the expert changed. Without a rank the change must be of low rank itself, as that of an expert
which came as an adapter is; with a rank the change is cut to it, and what is lost is told. Biases that changed cannot
be told by such pairs and are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from codechoir.artifacts import write_json
from codechoir.compose.adapters import ADAPTER_CONFIG
from codechoir.compose.export.source import Source
from codechoir.compose.export.targets import cannot
from codechoir.compose.trunk import Trunk, open_trunk
from codechoir.errors import ConfigError
from codechoir.languages import GENERALIST
from codechoir.model.checkpoint import save_tensors
from codechoir.model.moe import dense_from_tensors

WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."


@dataclass(frozen=True, slots=True)
class AdapterPlan:
    """What an adapter will be made from. `base` is None where the generalist is the base."""

    source: Source
    expert: int
    rank: int | None
    base: Trunk | None

    def base_feed_forward(self, name: str) -> torch.Tensor:
        """The base's own version of a feed-forward tensor."""
        if self.base is not None:
            return self.base.tensors.read(name)
        return self.source.expert(self.source.experts.index(GENERALIST), name)

    def base_model(self) -> Any:
        """The dense base in float32, for the adapter to be put on."""
        source = self.source
        tensors = {name: source.read(name).to(torch.float32) for name in source.shared}
        for layer in source.layers:
            for name in source.family.feed_forward_names(layer):
                tensors[name] = self.base_feed_forward(name).to(torch.float32)
        return dense_from_tensors(dict(source.dense_config), tensors, torch.float32)


def plan_peft(source: Source, expert: str | None, rank: int | None, base: Path | None) -> AdapterPlan:
    """Checks what headers tell. Raises ConfigError or IncompatibleModelError."""
    index = source.expert_index(expert)
    if expert == GENERALIST:
        raise cannot(source, "peft", "the generalist is the base itself, which an adapter would not change")
    if base is None:
        if GENERALIST not in source.experts:
            raise ConfigError(
                "an adapter needs the base that it changes, and the model has no generalist",
                seen=", ".join(source.experts),
                next_step="add --base FOLDER",
            )
        return AdapterPlan(source, index, rank, None)
    trunk = open_trunk(base)
    shapes = {name: spec.shape for name, spec in source.shared.items()}
    for layer in source.layers:
        shapes |= {name: source.expert_spec(name).shape for name in source.family.feed_forward_names(layer)}
    for name in sorted(shapes.keys() | trunk.specs.keys()):
        held = trunk.specs[name].shape if name in trunk.specs else "nowhere"
        if shapes.get(name) != held:
            raise cannot(source, "peft", f"the base {base} has {name} {held}, the model {shapes.get(name, 'nowhere')}")
    return AdapterPlan(source, index, rank, trunk)


def write_adapter(plan: AdapterPlan, folder: Path) -> dict[str, Any]:
    """Writes the adapter and returns its figures. Raises IncompatibleModelError where it cannot be one."""
    source = plan.source
    _require_same_shared(plan)
    pairs: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    lost, where = 0.0, ""
    for layer in source.layers:
        for name in source.family.feed_forward_names(layer):
            own, base = source.expert(plan.expert, name), plan.base_feed_forward(name)
            if name.endswith(".bias"):
                if not torch.equal(own, base):
                    raise cannot(source, "peft", f"{name} differs from the base's, and no pair of matrices tells that")
                continue
            module = name.removesuffix(".weight")
            pairs[module], share = _factorised(plan, name, own, base)
            if share > lost:
                lost, where = share, name
    rank = max(max(b.shape[1] for b, _ in pairs.values()), 1)
    tensors = {}
    for module, (b, a) in pairs.items():
        tensors[f"{_PREFIX}{module}.lora_A.weight"] = torch.nn.functional.pad(a, (0, 0, 0, rank - len(a)))
        tensors[f"{_PREFIX}{module}.lora_B.weight"] = torch.nn.functional.pad(b, (0, rank - b.shape[1]))
    save_tensors(folder / WEIGHTS, tensors, {"format": "pt"})
    write_json(folder / ADAPTER_CONFIG, _config(plan, rank, sorted(pairs)))
    return {"rank": rank, "truncated": plan.rank is not None, "largest_share_lost": lost, "lost_in": where}


def _factorised(
    plan: AdapterPlan, name: str, own: torch.Tensor, base: torch.Tensor
) -> tuple[tuple[torch.Tensor, torch.Tensor], float]:
    """B, A with B A the change, and the share of the change (Frobenius norm) that they leave out."""
    change = own.to(torch.float64) - base.to(torch.float64)
    left, values, right = torch.linalg.svd(change, full_matrices=False)
    rank = plan.rank or _rank(own, values)
    if plan.rank is None and rank * sum(change.shape) >= change.numel():
        raise cannot(
            plan.source,
            "peft",
            f"the expert's change of {name} has rank {rank} of {len(values)}: no adapter is smaller "
            "(a stated --rank cuts it, and the loss is told)",
        )
    rank = min(rank, len(values))
    root = values[:rank].sqrt()
    whole = float(values.norm())
    lost = float(values[rank:].norm()) / whole if whole else 0.0
    pair = ((left[:, :rank] * root).to(torch.float32), (root[:, None] * right[:rank]).to(torch.float32))
    return pair, lost


def _rank(weights: torch.Tensor, values: torch.Tensor) -> int:
    """How many singular values stand out of what rounding the weights to their number format makes.

    Rounding errors are like independent noise: the largest singular value of such a matrix is near its deviation times
    the sum of the roots of both sides (random matrix theory, Bai-Yin). The bound is three times that.
    """
    deviation = torch.finfo(weights.dtype).eps * float(weights.to(torch.float64).square().mean().sqrt()) / 12**0.5
    noise = 3 * deviation * sum(side**0.5 for side in weights.shape)
    return int((values > noise).sum())


def _require_same_shared(plan: AdapterPlan) -> None:
    if plan.base is None:
        return
    for name in plan.source.shared:
        if not torch.equal(plan.source.read(name), plan.base.tensors.read(name)):
            raise cannot(plan.source, "peft", f"{name} is not the base's in {plan.base.folder}")


def _config(plan: AdapterPlan, rank: int, modules: list[str]) -> Mapping[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(plan.base.folder) if plan.base else None,
        "r": rank,
        "lora_alpha": rank,  # a scale of one
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
        "target_modules": modules,
    }
