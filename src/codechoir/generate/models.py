"""The models that a run compares, each by its id, and how to load it.

Ids: base, trunk, universal, expert-LANG, soup (the experts' weight average), moe-prompt, moe-token-top1,
moe-token-top2, moe-oracle (each text goes to its own language's expert) and moe-uniform (all experts, equal weights).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from codechoir.generate.config import ModelChoice
from codechoir.model.checkpoint import load_model, open_checkpoint
from codechoir.model.moe import Routing, active_parameters, dense_from_tensors, load_composed, open_composed

_ROUTINGS: dict[str, tuple[Routing, int]] = {
    "moe-prompt": (Routing.PROMPT, 1),
    "moe-token-top1": (Routing.TOKEN, 1),
    "moe-token-top2": (Routing.TOKEN, 2),
    "moe-oracle": (Routing.FIXED, 1),
    "moe-uniform": (Routing.UNIFORM, 1),
}


@dataclass(frozen=True, slots=True)
class Folders:
    """Where the run's models lie."""

    base: Path
    trunk: Path
    universal: Path
    experts: Mapping[str, Path]  # language -> folder
    composed: Path

    @property
    def tokenizer(self) -> Path:
        """The folder whose tokenizer all these models share."""
        return self.base


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to run, and how many parameters one token passes."""

    model: Any
    active_parameters: int


def model_ids(choices: Sequence[ModelChoice], languages: Sequence[str]) -> list[str]:
    """The ids that `choices` name, `experts` spelled out by language."""
    return [
        id
        for choice in choices
        for id in ([f"expert-{language}" for language in languages] if choice == "experts" else [choice])
    ]


def home_language(model: str) -> str | None:
    """The language of an expert's id; None for any other model."""
    return model.removeprefix("expert-") if model.startswith("expert-") else None


def is_oracle(model: str) -> bool:
    """Whether the caller must tell this model each text's language."""
    return model == "moe-oracle"


def load(model: str, folders: Folders, dtype: torch.dtype) -> LoadedModel:
    """Loads a model by its id."""
    if model in _ROUTINGS:
        routing, top_k = _ROUTINGS[model]
        active = active_parameters(open_composed(folders.composed), routing, top_k)
        return LoadedModel(load_composed(folders.composed, routing, top_k, dtype), active)
    if model == "soup":
        loaded = _average(list(folders.experts.values()), dtype)
    else:
        home = home_language(model)
        dense = {"base": folders.base, "trunk": folders.trunk, "universal": folders.universal}
        loaded = load_model(folders.experts[home] if home else dense[model], dtype)
    return LoadedModel(loaded, sum(parameter.numel() for parameter in loaded.parameters()))


def _average(folders: Sequence[Path], dtype: torch.dtype) -> Any:
    """The dense model whose every weight is the mean of the folders' weights (model soups, arXiv 2203.05482)."""
    checkpoints = [open_checkpoint(folder) for folder in folders]
    tensors: dict[str, torch.Tensor] = {}
    for name in checkpoints[0].files:
        total = checkpoints[0].read(name).double()  # so that the mean of equal weights is that weight
        for checkpoint in checkpoints[1:]:
            total += checkpoint.read(name)
        tensors[name] = (total / len(checkpoints)).to(dtype)
    return dense_from_tensors(checkpoints[0].config, tensors, dtype)
