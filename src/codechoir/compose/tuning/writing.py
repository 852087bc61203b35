"""From tuned weights to a composed folder in the source's form.

In: the source, and the tuned weights by the running model's names. Out: the same tensors in the same names, number
formats and shard sizes; what was not tuned is the source's, bit for bit. Sidecars go along. Memory holds the tuned
weights and one tensor more.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from codechoir.compose.config import TuneConfig
from codechoir.compose.moments import MOMENTS_JSON, MOMENTS_TENSORS
from codechoir.model.licences import copy_licence_files
from codechoir.model.moe import (
    Composed,
    copy_modelling_files,
    is_router,
    mixtral_expert_name,
    packed_parts,
    router_name,
)
from codechoir.model.prompt_router import ROUTING_JSON, ROUTING_TENSORS
from codechoir.model.streaming import PlannedTensor, plan_shards, write_streaming


@dataclass(frozen=True, slots=True)
class Slice:
    """Where a written tensor is in the running model: a parameter, or an expert's rows of a packed one."""

    parameter: str
    expert: int = -1  # -1: the whole parameter
    part: int = 0
    num_parts: int = 1

    def of(self, parameter: torch.Tensor) -> torch.Tensor:
        """Its rows, a view."""
        if self.expert < 0:
            return parameter
        num_rows = parameter.shape[1] // self.num_parts
        return parameter[self.expert, self.part * num_rows : (self.part + 1) * num_rows]


def tuned_slices(composed: Composed, config: TuneConfig) -> dict[str, Slice]:
    """What tuning moves: each written tensor's name, and where the running model has it."""
    found: dict[str, Slice] = {}
    for layer in composed.layers():
        if config.moves_routers:
            found[composed.router(layer)] = Slice(router_name(composed.family, layer))
        for packed, parts in packed_parts(composed.family, layer).items() if config.moves_experts else ():
            if not composed.is_mixtral:
                found[packed] = Slice(packed)
                continue
            for expert in range(len(composed.experts)):
                for number, part in enumerate(parts):
                    name = mixtral_expert_name(composed.family, layer, expert, part)
                    found[name] = Slice(packed, expert, number, len(parts))
    return found


def write_tuned(
    composed: Composed, tuned: Mapping[str, torch.Tensor], slices: Mapping[str, Slice], top_k: int, out: Path
) -> None:
    """Writes the model with the `tuned` parameters, or with none the source's own weights, into the folder `out`.

    The moments that routers are solved from go along unless experts have moved: they tell what the routers read then.
    """
    source = composed.checkpoint
    specs = source.specs()
    names = sorted(specs, key=lambda name: (str(source.files[name]), name))
    sizes: dict[Path, int] = {}
    planned = []
    for name in names:
        planned.append(PlannedTensor(name, specs[name].dtype, specs[name].shape))
        sizes[source.files[name]] = sizes.get(source.files[name], 0) + planned[-1].num_bytes

    def read(name: str) -> torch.Tensor:
        if name in slices and slices[name].parameter in tuned:
            return slices[name].of(tuned[slices[name].parameter]).to(specs[name].dtype)
        return source.read(name)

    moved_experts = not all(map(is_router, tuned))
    sidecars = (ROUTING_JSON, ROUTING_TENSORS) + (() if moved_experts else (MOMENTS_JSON, MOMENTS_TENSORS))
    for name in sidecars:
        if (source.folder / name).exists():
            shutil.copyfile(source.folder / name, out / name)
    copy_licence_files(source.folder, out)
    if not composed.is_mixtral:
        copy_modelling_files(out)
    config = source.config | {"num_experts_per_tok": top_k}
    write_streaming(out, config, plan_shards(planned, max(sizes.values())), read, source.folder)
