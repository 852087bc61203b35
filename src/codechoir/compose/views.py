"""A composed folder seen as the dense models that it holds, one an expert.

In: a composed folder of either form. Out: for each expert a checkpoint by the dense model's own names, read from where
the composed files have its tensors; the rows of a packed tensor alone are read, not the whole. So whatever works on
dense checkpoints (comparing, composing, proving) works on a composed model's experts without a copy of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from codechoir.compose.experts import Expert, Kind
from codechoir.compose.trunk import Trunk
from codechoir.errors import InputError
from codechoir.model.checkpoint import Checkpoint, TensorSpec
from codechoir.model.families import Decoder, decoder_of
from codechoir.model.inspection import build_on_meta
from codechoir.model.moe import (
    Composed,
    mixtral_expert_name,
    open_composed,
    packed_parts,
)
from codechoir.model.names import NamedTensors, Names, names_of


@dataclass(frozen=True, slots=True)
class Place:
    """Where a composed folder has an expert's tensor: a tensor, or an expert's rows of a packed one."""

    name: str
    expert: int = -1  # -1: the whole tensor
    first_row: int = 0
    num_rows: int = 0


@dataclass(frozen=True, slots=True)
class ExpertCheckpoint(Checkpoint):
    """One expert's dense model. `files` has the dense names; `places` say what they are in those files."""

    places: Mapping[str, Place]
    spec_of: Mapping[str, TensorSpec]

    def specs(self) -> dict[str, TensorSpec]:
        """Every tensor's number format and shape."""
        return dict(self.spec_of)

    def read(self, name: str) -> torch.Tensor:
        """One tensor, by its dense name. Raises InputError naming the file where it is damaged."""
        place, path = self.places[name], self.files[name]
        try:
            with safe_open(path, framework="pt") as tensors:
                if place.expert < 0:
                    whole: torch.Tensor = tensors.get_tensor(place.name)
                    return whole
                end = place.first_row + place.num_rows
                rows: torch.Tensor = tensors.get_slice(place.name)[
                    place.expert : place.expert + 1, place.first_row : end
                ]
                return rows[0].contiguous()
        except (SafetensorError, OSError) as error:
            raise InputError("the weights file is damaged", seen=f"{path}: {error}") from None


@dataclass(frozen=True, slots=True)
class ComposedView:
    """A composed folder, opened: `checkpoints` are its experts' dense models by name, in order."""

    composed: Composed
    names: Names
    decoder: Decoder
    checkpoints: Mapping[str, ExpertCheckpoint]

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.composed.checkpoint.folder

    @property
    def is_mixtral(self) -> bool:
        """Whether it has Mixtral's per-expert names."""
        return self.composed.is_mixtral

    def tensors(self, expert: str) -> NamedTensors:
        """An expert's dense model by its class's names, which are those of the view."""
        checkpoint = self.checkpoints[expert]
        return NamedTensors(checkpoint, {name: name for name in checkpoint.files}, checkpoint.files)

    def trunk(self, expert: str) -> Trunk:
        """An expert's dense model as a base: its shared weights are the composed model's."""
        dense, family = self.composed.dense_config, self.composed.family
        specs = {name: spec for name, spec in self.checkpoints[expert].specs().items() if name not in self.names.tied}
        return Trunk(self.tensors(expert), dense, family, self.decoder, self.names, specs)

    def expert(self, name: str, trunk: Trunk) -> Expert:
        """An expert as compose takes it: feed-forward weights of its own, the rest the trunk's."""
        tensors = self.tensors(name)
        family, layers = self.composed.family, self.composed.layers()
        own = {each for layer in layers for each in family.feed_forward_names(layer)}
        files = {each: path for each, path in tensors.files.items() if each in own}
        return Expert(name, Kind.FEED_FORWARD, self.folder, trunk, files, tensors)

    def router(self, layer: int) -> torch.Tensor:
        """A layer's token router (E, D), as written."""
        return self.composed.checkpoint.read(self.composed.router(layer))


def view_composed(folder: Path) -> ComposedView:
    """Opens a composed folder. Raises InputError where it is none, or lacks a tensor that its sidecar tells of."""
    return view_of(open_composed(folder))


def view_of(composed: Composed) -> ComposedView:
    """The view of a composed folder that is open. Raises InputError as `view_composed` does."""
    folder = composed.checkpoint.folder
    names = names_of(build_on_meta(composed.dense_config, folder))
    specs = composed.checkpoint.specs()
    checkpoints = {name: _checkpoint(composed, specs, number) for number, name in enumerate(composed.experts)}
    return ComposedView(composed, names, decoder_of(composed.dense_config, folder), checkpoints)


def _checkpoint(composed: Composed, specs: Mapping[str, TensorSpec], expert: int) -> ExpertCheckpoint:
    held = composed.checkpoint.files
    places, spec_of = {}, {}
    for layer in composed.layers():
        if composed.is_mixtral:
            found = _mixtral_places(composed, layer, expert)
        else:
            found = _own_places(composed, specs, layer, expert)
        for dense_name, place in found.items():
            if place.name not in specs:
                raise InputError(
                    "the composed weights do not fit the routing sidecar",
                    seen=f"{place.name} is missing in {composed.checkpoint.folder}",
                    next_step="compose again",
                )
            spec = specs[place.name]
            shape = (place.num_rows, *spec.shape[2:]) if place.expert >= 0 else spec.shape
            places[dense_name], spec_of[dense_name] = place, TensorSpec(spec.dtype, shape)
    routed = composed.routed_names()
    for name, spec in specs.items():
        if name not in routed:
            places[name], spec_of[name] = Place(name), spec
    files = {name: held[place.name] for name, place in places.items()}
    return ExpertCheckpoint(composed.checkpoint.folder, composed.dense_config, files, places, spec_of)


def _mixtral_places(composed: Composed, layer: int, expert: int) -> dict[str, Place]:
    family = composed.family
    return {name: Place(mixtral_expert_name(family, layer, expert, name)) for name in family.feed_forward_names(layer)}


def _own_places(composed: Composed, specs: Mapping[str, TensorSpec], layer: int, expert: int) -> dict[str, Place]:
    places = {}
    for packed, parts in packed_parts(composed.family, layer).items():
        num_rows = specs[packed].shape[1] // len(parts) if packed in specs else 0
        for number, part in enumerate(parts):
            places[part] = Place(packed, expert, number * num_rows, num_rows)
    return places
