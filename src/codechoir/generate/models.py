"""The models that a run compares, each by its id, and how to load it.

Ids: base, trunk, universal, expert-LANG, soup (the experts' weight average), moe-prompt, moe-token-top1,
moe-token-top2, moe-oracle (each text goes to its own language's expert), moe-uniform (all experts, equal weights) and
moe-tuned (the tuned folder's token routing, with the experts a token that it was tuned for).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from codechoir.generate.config import TUNED, ModelChoice
from codechoir.model.checkpoint import load_model
from codechoir.model.moe import Routing, active_parameters, load_composed, open_composed

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
    tuned: Path | None = None

    def tokenizer(self, model: str) -> Path:
        """The folder of a model's tokenizer: the trunk's may have infilling tokens that the base's has not."""
        return self.base if model == "base" else self.trunk


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
        return _routed(folders.composed, *_ROUTINGS[model], dtype)
    if model == TUNED:
        assert folders.tuned, "the run has a tuned model"
        top_k = int(open_composed(folders.tuned).checkpoint.config["num_experts_per_tok"])
        return _routed(folders.tuned, Routing.TOKEN, top_k, dtype)
    if model == "soup":
        loaded = _average(list(folders.experts.values()), dtype)
    else:
        home = home_language(model)
        dense = {"base": folders.base, "trunk": folders.trunk, "universal": folders.universal}
        loaded = load_model(folders.experts[home] if home else dense[model], dtype)
    return LoadedModel(loaded, sum(parameter.numel() for parameter in loaded.parameters()))


def _routed(folder: Path, routing: Routing, top_k: int, dtype: torch.dtype) -> LoadedModel:
    active = active_parameters(open_composed(folder), routing, top_k)
    return LoadedModel(load_composed(folder, routing, top_k, dtype), active)


@torch.no_grad()
def _average(folders: Sequence[Path], dtype: torch.dtype) -> Any:
    """The dense model whose every weight is the mean of the folders' weights (model soups, arXiv 2203.05482)."""
    model = load_model(folders[0], torch.float32)
    # Sums are in float64, so that the mean of equal weights is that weight.
    totals = {name: parameter.double() for name, parameter in model.named_parameters()}
    for folder in folders[1:]:
        for name, parameter in load_model(folder, torch.float32).named_parameters():
            totals[name] += parameter
    for name, parameter in model.named_parameters():
        parameter.copy_(totals[name] / len(folders))
    return model.to(dtype)
