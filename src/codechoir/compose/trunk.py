"""The model that experts branched from, opened: what each of its tensors is for.

In: a Hugging Face folder. Out: its full config, its family, and every tensor's part: a weight of the model, a second
name of one (tied embeddings), or a value that the model computes itself. A tensor that the model class has no place
for is refused by name, and so is a weight that is missing. Reads headers, no weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codechoir.errors import IncompatibleModelError
from codechoir.model.checkpoint import TensorSpec, full_config, open_checkpoint
from codechoir.model.families import Decoder, Family, decoder_of, family_of
from codechoir.model.inspection import build_on_meta
from codechoir.model.names import NamedTensors, Names, named, names_of


@dataclass(frozen=True, slots=True)
class Trunk:
    """`specs` are the model's weights by name, without second names and computed values."""

    tensors: NamedTensors
    config: dict[str, Any]  # defaults spelled out
    family: Family
    decoder: Decoder
    names: Names
    specs: Mapping[str, TensorSpec]

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.tensors.folder


def open_trunk(folder: Path) -> Trunk:
    """Opens a base model. Raises IncompatibleModelError naming what has no place in its model class."""
    checkpoint = open_checkpoint(folder)
    config = full_config(checkpoint)
    family = family_of(checkpoint.config, folder)
    names = names_of(build_on_meta(config, folder))
    tensors = named(checkpoint, names)
    specs = tensors.specs()
    for name in specs:
        if name not in names.weights and not names.is_computed(name):
            raise _refused("the base holds a tensor that its model class has no place for", f"{name} in {folder}")
    for name in sorted(names.weights - names.tied.keys() - specs.keys()):
        raise _refused("the base lacks a tensor of its model class", f"{name} in {folder}")
    decoder = decoder_of(config, folder)
    weights = {name: spec for name, spec in specs.items() if name in names.weights and name not in names.tied}
    for layer in range(decoder.num_layers):
        declared = set(family.feed_forward_names(layer))
        for name in sorted(declared ^ {name for name in weights if name.startswith(family.feed_forward_prefix(layer))}):
            raise _refused(
                f"a feed-forward tensor is not as the family {family.model_type} has it",
                f"{name} is {'missing' if name in declared else 'unknown'} in {folder}",
            )
    return Trunk(tensors, config, family, decoder, names, weights)


def _refused(what: str, seen: str) -> IncompatibleModelError:
    return IncompatibleModelError(what, seen=seen)
