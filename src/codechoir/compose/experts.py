"""Experts as users have them: full checkpoints, feed-forward weights alone, LoRA adapters, or the base itself.

In: a folder and the trunk that it belongs to. Out: an `Expert`, which gives any of the trunk's tensors as this expert
has it, or an error that names the file and the tensor that do not fit. Experts can be drawn toward their average
(interpolated weights hold better on text unlike the training's: WiSE-FT, arXiv 2109.01903). Reads headers here; weights
when asked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache, reduce
from pathlib import Path

import torch

from codechoir.compose.adapters import ADAPTER_CONFIG, Adapter, open_adapter
from codechoir.compose.compatibility import compare_configs
from codechoir.compose.trunk import Trunk
from codechoir.errors import IncompatibleModelError
from codechoir.languages import GENERALIST
from codechoir.model.checkpoint import open_checkpoint, open_weights
from codechoir.model.names import NamedTensors, named

_AVERAGES_KEPT = 6  # a layer's feed-forward tensors, with biases: one expert's are written after the other's


class Kind(StrEnum):
    """What an expert's folder holds."""

    CHECKPOINT = "checkpoint"  # all of the model's tensors
    FEED_FORWARD = "feed-forward"  # these alone; the rest is the base's
    ADAPTER = "adapter"  # LoRA, to be merged into the base
    BASE = "base"  # the base itself, as the generalist


@dataclass(frozen=True, slots=True)
class Blend:
    """How the tensors of `names` are mixed: `own_share` of the expert's own, the rest the average of all `experts`."""

    own_share: float
    experts: tuple[Expert, ...]  # as trained
    names: Collection[str]
    average: Callable[[str], torch.Tensor]  # of all experts, in float32 or wider


@dataclass(frozen=True, slots=True)
class Expert:
    """One expert, opened. `files` are the tensors that it has its own version of, and where each lies."""

    language: str
    kind: Kind
    folder: Path
    trunk: Trunk
    files: Mapping[str, Path]
    weights: NamedTensors | None = None
    adapter: Adapter | None = None
    blend: Blend | None = None

    def read(self, name: str) -> torch.Tensor:
        """A tensor of the trunk as this expert is to have it: as trained, or blended (sums are taken in float32)."""
        own = self.trained(name)
        if self.blend is None or name not in self.blend.names:
            return own
        return torch.lerp(self.blend.average(name), _wide(own), self.blend.own_share).to(own.dtype)

    def trained(self, name: str) -> torch.Tensor:
        """A tensor of the trunk as training left it: this expert's own, merged, or the trunk's."""
        if name not in self.files:
            return self.trunk.tensors.read(name)
        if self.adapter:
            return self.adapter.read(name, self.trunk.tensors.read(name))
        assert self.weights
        return self.weights.read(name)

    def second_names(self) -> dict[str, str]:
        """Tied tensors that the folder nevertheless holds: the second name -> the weight that it must equal."""
        held = self.weights.files if self.weights else {}
        return {name: first for name, first in self.trunk.names.tied.items() if name in held}


def generalist(trunk: Trunk) -> Expert:
    """The trunk's own feed-forward weights as an expert."""
    return Expert(GENERALIST, Kind.BASE, trunk.folder, trunk, {})


def blended(experts: Mapping[str, Expert], own_share: float, names: Collection[str]) -> dict[str, Expert]:
    """The experts with the tensors of `names` drawn toward their average, in which each weighs the same.

    The generalist is not trained on a language: it has no part in the average, and stays as it is.
    """
    trained = tuple(expert for name, expert in experts.items() if name != GENERALIST)

    @lru_cache(_AVERAGES_KEPT)
    def average(name: str) -> torch.Tensor:
        return reduce(torch.add, (_wide(expert.trained(name)) for expert in trained)) / len(trained)

    blend = Blend(own_share, trained, names, average)
    return {name: each if name == GENERALIST else replace(each, blend=blend) for name, each in experts.items()}


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def open_expert(language: str, folder: Path, trunk: Trunk) -> Expert:
    """Opens whatever `folder` holds. Raises IncompatibleModelError or InputError, naming file and tensor."""
    if (folder / ADAPTER_CONFIG).exists():
        adapter = open_adapter(folder, {name: spec.shape for name, spec in trunk.specs.items()}, trunk.names.of)
        held = {name: adapter.weights.files[pair.b] for name, pair in adapter.pairs.items()}
        held |= {name: adapter.weights.files[tensor] for name, tensor in adapter.whole.items()}
        return Expert(language, Kind.ADAPTER, folder, trunk, held, adapter=adapter)
    bare = folder.is_dir() and not (folder / "config.json").exists()
    checkpoint = open_weights(folder) if bare else open_checkpoint(folder)
    if not bare:
        compare_configs(trunk.config, checkpoint, language)
    weights = named(checkpoint, trunk.names)
    family = trunk.family
    feed_forward_only = all(family.is_feed_forward(name) for name in weights.files)
    if bare and not feed_forward_only:
        other = next(name for name in sorted(weights.files) if not family.is_feed_forward(name))
        raise IncompatibleModelError(
            f"the {language} expert is neither a model folder nor feed-forward weights alone",
            seen=f"{other} in {weights.files[other]}, and no config.json",
            allowed="a Hugging Face folder, feed-forward weights alone, or a PEFT adapter",
        )
    files = {name: path for name, path in weights.files.items() if name in trunk.specs}
    _check_tensors(weights, language, trunk, family_only=feed_forward_only)
    kind = Kind.FEED_FORWARD if feed_forward_only else Kind.CHECKPOINT
    return Expert(language, kind, folder, trunk, files, weights)


def _check_tensors(weights: NamedTensors, language: str, trunk: Trunk, *, family_only: bool) -> None:
    theirs = weights.specs()
    for name in theirs:
        if name not in trunk.specs and name not in trunk.names.tied and not trunk.names.is_computed(name):
            raise IncompatibleModelError(
                f"the {language} expert has other tensors than the base",
                seen=f"{name} only in the expert: {weights.files[name]}",
            )
    for name, spec in trunk.specs.items():
        if name not in theirs:
            if family_only and not trunk.family.is_feed_forward(name):
                continue
            raise IncompatibleModelError(
                f"the {language} expert has other tensors than the base",
                seen=f"{name} only in the base, not in {weights.folder}",
            )
        if theirs[name].shape != spec.shape:
            raise IncompatibleModelError(
                f"a tensor of the {language} expert has another shape",
                seen=f"{name} {theirs[name].shape} in {weights.files[name]}",
                allowed=str(spec.shape),
            )
        if trunk.family.is_feed_forward(name) and theirs[name].dtype != spec.dtype:
            raise IncompatibleModelError(
                f"the {language} expert keeps its weights in another number format than the base",
                seen=f"{name} {theirs[name].dtype} in {weights.files[name]}",
                allowed=f"{spec.dtype}, as in {trunk.tensors.files[name]}",
                next_step="save base and experts in one number format",
            )
