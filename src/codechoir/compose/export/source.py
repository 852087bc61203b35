"""A composed folder opened for export: every tensor by what it is, whichever form the folder has.

In: what the compose stage wrote. Out: shared tensors by the dense model's names, each expert's feed-forward tensors by
the dense names that they had, each layer's router. A tensor that is missing, or that nothing accounts for, is refused
by name before anything is written. Reads one expert's tensor at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from codechoir.compose.views import ExpertCheckpoint, view_of
from codechoir.errors import ConfigError, IncompatibleModelError, InputError
from codechoir.model.checkpoint import TensorSpec, full_config, model_config
from codechoir.model.families import Family
from codechoir.model.inspection import build_on_meta
from codechoir.model.moe import Composed, open_composed
from codechoir.model.names import names_of


@dataclass(slots=True)
class Source:
    """A composed model. `shared` are the tensors that no expert owns, by the dense model's names."""

    composed: Composed
    dense_config: Mapping[str, Any]  # defaults spelled out
    layers: tuple[int, ...]
    top_k: int
    shared: Mapping[str, TensorSpec]
    checkpoints: tuple[ExpertCheckpoint, ...]  # the experts as dense models, in their order
    _specs: Mapping[str, TensorSpec]

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.composed.checkpoint.folder

    @property
    def family(self) -> Family:
        """How the dense model keeps its feed-forward."""
        return self.composed.family

    @property
    def experts(self) -> tuple[str, ...]:
        """The experts' names, in their order."""
        return self.composed.experts

    @property
    def is_mixtral(self) -> bool:
        """Whether the folder has Mixtral's form, with a tensor an expert."""
        return self.composed.is_mixtral

    @property
    def num_layers(self) -> int:
        """The decoder's layers, with experts or without."""
        return int(model_config(self.dense_config, self.folder).num_hidden_layers)

    def expert_index(self, name: str | None) -> int:
        """The place of the expert of that name. Raises ConfigError."""
        if name not in self.experts:
            raise ConfigError(
                "no such expert in the model" if name else "name the expert to export",
                seen=f"{name or 'none named'} in {self.folder}",
                allowed=", ".join(self.experts),
                next_step="" if name else "add --expert NAME",
            )
        return self.experts.index(name)

    def expert_spec(self, dense_name: str) -> TensorSpec:
        """Number format and shape of one expert's tensor; all experts' are the same."""
        return self.checkpoints[0].spec_of[dense_name]

    def expert(self, index: int, dense_name: str) -> torch.Tensor:
        """One expert's tensor, by the name that it has in the dense model."""
        return self.checkpoints[index].read(dense_name)

    def router_spec(self, layer: int) -> TensorSpec:
        """Number format and shape of a layer's router, (experts, width)."""
        return self._specs[self.composed.router(layer)]

    def router(self, layer: int) -> torch.Tensor:
        """A layer's router."""
        return self.read(self.composed.router(layer))

    def read(self, name: str) -> torch.Tensor:
        """A tensor by its stored name; shared ones are stored by their dense names."""
        return self.composed.checkpoint.read(name)


def open_source(folder: Path) -> Source:
    """Opens a composed folder. Raises InputError or IncompatibleModelError naming the tensor that does not fit."""
    composed = open_composed(folder)
    checkpoint, family, layers = composed.checkpoint, composed.family, composed.layers()
    specs = checkpoint.specs()
    routed = composed.routed_names()
    dense = model_config(composed.dense_config, folder).to_dict() | {
        key: composed.dense_config[key] for key in ("architectures", "dtype") if composed.dense_config.get(key)
    }
    _account_for(folder, dense, family, layers, routed, specs)
    shared = {name: spec for name, spec in specs.items() if name not in routed}
    top_k = int(full_config(checkpoint).get("num_experts_per_tok") or 1)
    checkpoints = tuple(view_of(composed).checkpoints.values())
    return Source(composed, dense, layers, top_k, shared, checkpoints, specs)


def _account_for(
    folder: Path,
    dense: Mapping[str, Any],
    family: Family,
    layers: tuple[int, ...],
    routed: set[str],
    specs: Mapping[str, TensorSpec],
) -> None:
    """Every tensor of the folder has a place in the model, and every place has its tensor."""
    names = names_of(build_on_meta(dense, folder))
    replaced = {name for layer in layers for name in family.feed_forward_names(layer)}
    for name in sorted(specs.keys() - routed - (names.weights - replaced)):
        raise IncompatibleModelError("a tensor of the model has no place in it", seen=f"{name} in {folder}")
    for name in sorted((routed | names.weights) - replaced - names.tied.keys() - specs.keys()):
        raise InputError(
            "the composed weights are not whole", seen=f"{name} is missing in {folder}", next_step="compose again"
        )
