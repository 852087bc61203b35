"""LoRA adapters as experts: PEFT folders, read without PEFT and merged tensor by tensor.

In: a folder with adapter_config.json and adapter_model.safetensors, and the base's tensors. Out: which of the base's
tensors the adapter changes, and each one merged. What cannot be merged exactly (other methods than LoRA, variants
that change the base as well, tensors that have no place in the base) is refused by name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from codechoir.errors import IncompatibleModelError, InputError
from codechoir.model.checkpoint import Checkpoint, open_weights
from codechoir.records import read_json

ADAPTER_CONFIG = "adapter_config.json"
_STEM = "adapter_model"
_PREFIX = "base_model.model."
# Settings that say nothing of the merged weights. Any other that is on is a variant that this module does not know.
_PLAIN = {
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "megatron_core",
    "modules_to_save",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_rslora",
}
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")  # the others change the base's weights, too


@dataclass(frozen=True, slots=True)
class LowRank:
    """One module's pair, by the adapter's names: W + scale * B A, transposed where the module keeps (in, out)."""

    a: str
    b: str
    scale: float
    transposed: bool


@dataclass(frozen=True, slots=True)
class Adapter:
    """A PEFT folder opened: what it does to which tensor of the base."""

    weights: Checkpoint
    pairs: Mapping[str, LowRank]  # the base's tensor -> its pair
    whole: Mapping[str, str]  # the base's tensor -> the adapter's tensor that takes its place

    def read(self, name: str, base: torch.Tensor) -> torch.Tensor:
        """The base's tensor with this adapter merged, in the base's number format (sums are taken in float32)."""
        if name in self.whole:
            return self.weights.read(self.whole[name])
        pair = self.pairs[name]
        wide = torch.promote_types(base.dtype, torch.float32)
        delta = self.weights.read(pair.b).to(wide) @ self.weights.read(pair.a).to(wide)
        return (base.to(wide) + (delta.T if pair.transposed else delta) * pair.scale).to(base.dtype)


def open_adapter(folder: Path, shapes: Mapping[str, tuple[int, ...]], rename: Callable[[str], str] = str) -> Adapter:
    """Opens a PEFT folder for a base with tensors of `shapes`. Raises IncompatibleModelError naming what has no place.

    `rename` turns a name that the base's tensors may have been stored under into the one that `shapes` has.
    """
    settings = read_json(folder / ADAPTER_CONFIG)
    if not isinstance(settings, dict):
        raise InputError("the adapter's config is not a mapping", seen=folder / ADAPTER_CONFIG)
    _check_method(settings, folder)
    weights = open_weights(folder, _STEM)
    held = weights.shapes()
    pairs: dict[str, LowRank] = {}
    whole: dict[str, str] = {}
    for name in held:
        module, sign, part = name.removeprefix(_PREFIX).rpartition(".lora_A.")
        if sign and part == "weight":
            pairs[rename(f"{module}.weight")] = _pair(name, module, settings, folder)
        elif not name.endswith(".lora_B.weight"):
            plain = name.removeprefix(_PREFIX).replace(".base_layer.", ".").replace(".modules_to_save.", ".")
            whole[rename(plain)] = name
    known = {tensor for pair in pairs.values() for tensor in (pair.a, pair.b)} | set(whole.values())
    for name in sorted(known ^ held.keys()):
        raise _no_place(name, folder, "the other half of its pair is missing")
    for target, name in whole.items():
        if shapes.get(target) != held[name]:
            raise _no_place(name, folder, f"the base has {target} {shapes.get(target, 'nowhere')}, not {held[name]}")
    for target, pair in pairs.items():
        made = (*held[pair.b][:1], *held[pair.a][1:])
        made = made[::-1] if pair.transposed else made
        if shapes.get(target) != made or held[pair.a][0] != held[pair.b][-1]:
            seen = f"{held[pair.b]} times {held[pair.a]}"
            raise _no_place(pair.a, folder, f"the base has {target} {shapes.get(target, 'nowhere')}, not {seen}")
    return Adapter(weights, pairs, whole)


def _check_method(settings: Mapping[str, Any], folder: Path) -> None:
    method = settings.get("peft_type", "LORA")
    if method != "LORA":
        raise IncompatibleModelError(
            "only LoRA adapters can be merged", seen=f"peft_type {method} in {folder}", allowed="LORA"
        )
    start = settings.get("init_lora_weights", True)
    if start not in _PLAIN_STARTS:
        raise IncompatibleModelError(
            "an adapter that changed the base's weights as it began cannot be merged into the base",
            seen=f"init_lora_weights {start} in {folder}",
            allowed="true, false, gaussian, eva, orthogonal",
            next_step="save it with PEFT's path_initial_model_for_weight_conversion, or merge it with PEFT first",
        )
    for key, value in settings.items():
        if key not in _PLAIN and value:
            raise IncompatibleModelError(
                "a variant of LoRA that cannot be merged exactly",
                seen=f"{key} {value!r:.80} in {folder}",
                allowed="plain LoRA, with rank-stabilised scaling, rank and alpha patterns, modules to save",
                next_step="merge it with PEFT first and give the merged model",
            )


def _pair(name: str, module: str, settings: Mapping[str, Any], folder: Path) -> LowRank:
    try:
        rank = int(_by_pattern(settings.get("rank_pattern"), module, settings["r"]))
        alpha = float(_by_pattern(settings.get("alpha_pattern"), module, settings["lora_alpha"]))
        divisor = math.sqrt(rank) if settings.get("use_rslora") else rank
        scale = alpha / divisor
    except (KeyError, TypeError, ValueError, ZeroDivisionError, re.error) as error:
        raise InputError(
            "the adapter's config does not tell its scaling", seen=f"{folder / ADAPTER_CONFIG}: {error}"
        ) from None
    return LowRank(name, name.replace(".lora_A.", ".lora_B."), scale, bool(settings.get("fan_in_fan_out")))


def _by_pattern(patterns: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """The value of the first pattern that a module's name ends with, as PEFT resolves its patterns."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def _no_place(name: str, folder: Path, why: str) -> IncompatibleModelError:
    return IncompatibleModelError(
        "a tensor of the adapter has no place in the base",
        seen=f"{name} in {folder}: {why}",
        allowed="pairs lora_A, lora_B of the base's linear modules, and whole tensors of the base",
        next_step="give the base that the adapter was trained on",
    )
