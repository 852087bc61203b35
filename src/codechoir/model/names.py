"""A checkpoint's tensors by the names that their model class has for them, as transformers would rename them.

Older releases stored some under other names (GPT-NeoX's `embed_out`, a bare decoder without its prefix). Knows which
names the class has, what it ties, and what it computes itself; reads no weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from codechoir.model.checkpoint import Checkpoint, TensorSpec

# Masks and rotary frequencies that older releases of transformers stored, and that are computed now.
_COMPUTED_ONCE_STORED = (r"\.attn\.(causal_mask|masked_bias)$", r"\.rotary_emb\.inv_freq$")


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one model class under one config."""

    weights: frozenset[str]
    tied: Mapping[str, str]  # second name -> the weight that it is tied to
    computed: frozenset[str]  # buffers that no checkpoint need hold
    ignorable: tuple[str, ...]  # patterns of names that are passed over when a checkpoint is loaded
    renamings: tuple[Any, ...]  # transformers' WeightRenaming
    prefix: str  # of the decoder in the causal LM

    def of(self, stored: str) -> str:
        """The class's name for a stored one; the stored one itself where the class has no place for it."""
        if stored in self.weights:
            return stored
        renamed = stored
        for renaming in self.renamings:
            renamed = renaming.rename_source_key(renamed)[0]
        return next((name for name in (renamed, f"{self.prefix}.{stored}") if name in self.weights), stored)

    def is_computed(self, name: str) -> bool:
        """Whether a stored tensor is one that the model computes itself."""
        return name in self.computed or any(re.search(pattern, name) for pattern in self.ignorable)


def names_of(model: Any) -> Names:
    """The names of a model, which may be on the meta device."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming

    weights = frozenset(model.state_dict())
    return Names(
        weights,
        _tied(model),
        frozenset(name for name, _ in model.named_buffers()) - weights,
        (*(getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()), *_COMPUTED_ONCE_STORED),
        tuple(each for each in get_model_conversion_mapping(model) if type(each) is WeightRenaming),
        model.base_model_prefix,
    )


def _tied(model: Any) -> dict[str, str]:
    """The weights that are one parameter: second name -> first name."""
    first: dict[int, str] = {}
    tied = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in first:
            tied[name] = first[id(parameter)]
        first.setdefault(id(parameter), name)
    return tied


@dataclass(frozen=True, slots=True)
class NamedTensors:
    """A checkpoint read by its class's names."""

    checkpoint: Checkpoint
    stored: Mapping[str, str]  # the class's name -> the stored one
    files: Mapping[str, Path]  # the class's name -> its file

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.checkpoint.folder

    def specs(self) -> dict[str, TensorSpec]:
        """Every tensor's number format and shape, from the headers alone."""
        specs = self.checkpoint.specs()
        return {name: specs[stored] for name, stored in self.stored.items()}

    def read(self, name: str) -> torch.Tensor:
        """One tensor."""
        return self.checkpoint.read(self.stored[name])


def named(checkpoint: Checkpoint, names: Names) -> NamedTensors:
    """The checkpoint's tensors by the names of the class."""
    stored = {names.of(name): name for name in checkpoint.files}
    return NamedTensors(checkpoint, stored, {name: checkpoint.files[held] for name, held in stored.items()})
