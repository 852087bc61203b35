"""What each safetensors target is made of: its config.json, and its tensors by name with the way to read each.

In: a composed model. Out: a plan that a streaming writer follows, or an error that says what the target cannot hold.
Names and configs are those that transformers' released model classes read; no class of ours is needed but for `hf`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from codechoir.compose.export.source import Source
from codechoir.compose.plan import DENSE_SETTINGS, mixtral_config
from codechoir.errors import IncompatibleModelError
from codechoir.model.checkpoint import TensorSpec
from codechoir.model.inspection import build_on_meta
from codechoir.model.moe import composed_config, mixtral_expert_name, mixtral_prefix, packed_parts, router_name
from codechoir.model.streaming import PlannedTensor

SHARED_EXPERT_ROWS = 64  # divisible by the blocks of quantised formats and by the usual numbers of devices
Values = Callable[[], torch.Tensor | Iterable[torch.Tensor]]


@dataclass(frozen=True, slots=True)
class Target:
    """A folder to be written: tensors in the order of writing, and where each one's values come from."""

    config: Mapping[str, Any]
    tensors: tuple[PlannedTensor, ...]
    values: Mapping[str, Values]


class _Draft:
    """A target's tensors as they are added."""

    def __init__(self, source: Source) -> None:
        self._tensors: list[PlannedTensor] = []
        self._values: dict[str, Values] = {}
        for name, spec in source.shared.items():
            self.add(name, spec, partial(source.read, name))

    def add(self, name: str, spec: TensorSpec, values: Values) -> None:
        self._tensors.append(PlannedTensor(name, spec.dtype, spec.shape))
        self._values[name] = values

    def done(self, config: Mapping[str, Any]) -> Target:
        return Target(config, tuple(self._tensors), self._values)


def plan_mixtral(source: Source) -> Target:
    """Mixtral with a tensor an expert, as vLLM and llama.cpp's converter read it."""
    if not source.is_mixtral:
        raise cannot(source, "mixtral", _not_mixtral(source))
    dense = dict(source.dense_config)
    config = mixtral_config(dense, len(source.experts), source.top_k)
    _require_places(source, config, "mixtral")
    draft = _Draft(source)
    for layer in source.layers:
        for dense_name in source.family.feed_forward_names(layer):
            for index in range(len(source.experts)):
                name = mixtral_expert_name(source.family, layer, index, dense_name)
                values = partial(source.expert, index, dense_name)
                draft.add(name, source.expert_spec(dense_name), values)
        draft.add(f"{mixtral_prefix(layer)}gate.weight", source.router_spec(layer), partial(source.router, layer))
    return draft.done(config)


def plan_qwen2_moe(source: Source) -> Target:
    """Qwen2-MoE. Its shared expert is a narrow one of zeros, which adds exactly nothing to any token."""
    if source.family.model_type != "qwen2":
        raise cannot(source, "qwen2_moe", f"its experts are of the family {source.family.model_type}, not qwen2")
    if missing := source.num_layers - len(source.layers):
        raise cannot(source, "qwen2_moe", f"{missing} of {source.num_layers} layers have no experts")
    if source.dense_config.get("use_sliding_window"):
        raise cannot(source, "qwen2_moe", "it uses a sliding window, which Qwen2-MoE gives to other layers")
    config = _qwen2_moe_config(source)
    _require_places(source, config, "qwen2_moe")
    draft = _Draft(source)
    width = int(source.dense_config["hidden_size"])
    for layer in source.layers:
        prefix = source.family.feed_forward_prefix(layer)
        for dense_name in source.family.feed_forward_names(layer):
            spec = source.expert_spec(dense_name)
            for index in range(len(source.experts)):
                name = f"{prefix}experts.{index}.{dense_name.removeprefix(prefix)}"
                draft.add(name, spec, partial(source.expert, index, dense_name))
        draft.add(f"{prefix}gate.weight", source.router_spec(layer), partial(source.router, layer))
        dtype = source.router_spec(layer).dtype
        for module, shape in (
            ("shared_expert.gate_proj", (SHARED_EXPERT_ROWS, width)),
            ("shared_expert.up_proj", (SHARED_EXPERT_ROWS, width)),
            ("shared_expert.down_proj", (width, SHARED_EXPERT_ROWS)),
            ("shared_expert_gate", (1, width)),
        ):
            zeros = partial(torch.zeros, shape, dtype=dtype)
            draft.add(f"{prefix}{module}.weight", TensorSpec(dtype, shape), zeros)
    return draft.done(config)


def plan_dense(source: Source, expert: str | None) -> Target:
    """One expert as the plain dense model that it was."""
    index, draft = source.expert_index(expert), _Draft(source)
    for layer in source.layers:
        for name in source.family.feed_forward_names(layer):
            draft.add(name, source.expert_spec(name), partial(source.expert, index, name))
    return draft.done(source.dense_config)


def plan_own(source: Source) -> Target:
    """Our own model class's form, whatever the source's."""
    dense, family = dict(source.dense_config), source.family
    draft, num_experts = _Draft(source), len(source.experts)
    for layer in source.layers:
        for packed, parts in packed_parts(family, layer).items():
            specs = [source.expert_spec(part) for part in parts]
            shape = (num_experts, sum(spec.shape[0] for spec in specs), *specs[0].shape[1:])
            draft.add(packed, TensorSpec(specs[0].dtype, shape), partial(_pack, source, parts))
        draft.add(router_name(family, layer), source.router_spec(layer), partial(source.router, layer))
    dense.setdefault("dtype", str(source.router_spec(source.layers[0]).dtype).removeprefix("torch."))
    return draft.done(composed_config(dense, family, source.experts, source.layers, source.top_k))


def cannot(source: Source, target: str, why: str) -> IncompatibleModelError:
    """The refusal of a target that cannot hold the model."""
    return IncompatibleModelError(
        f"the model cannot be exported as {target}",
        seen=f"{source.folder}: {why}",
        next_step="hf keeps everything, dense takes one expert",
    )


def _not_mixtral(source: Source) -> str:
    """Why a model of our own form is none of Mixtral's."""
    family, config = source.family, source.dense_config
    if missing := source.num_layers - len(source.layers):
        return f"{missing} of {source.num_layers} layers have no experts, Mixtral's all have"
    if biases := sorted(name for name in source.shared if name.endswith(".bias")):
        return f"Mixtral has no place for {biases[0]}"
    if family.has_bias:
        return "its feed-forward has biases, Mixtral's has none"
    if family.gate is None or family.activation != "silu":
        return (
            f"its feed-forward is {family.activation}, {'gated' if family.gate else 'not gated'}; Mixtral's is SwiGLU"
        )
    return f"Mixtral does not compute what {config['model_type']} does"


def _require_places(source: Source, config: Mapping[str, Any], target: str) -> None:
    """What no expert owns has a place of its shape in the target's model class, so that nothing is dropped."""
    places = {name: tuple(tensor.shape) for name, tensor in build_on_meta(config, target).state_dict().items()}
    for name, spec in source.shared.items():
        if places.get(name) != spec.shape:
            raise cannot(source, target, f"it has no place for {name} {spec.shape}")


def _qwen2_moe_config(source: Source) -> dict[str, Any]:
    dense = source.dense_config
    kept = (*DENSE_SETTINGS, "head_dim", "layer_types")
    return {
        "architectures": ["Qwen2MoeForCausalLM"],
        "model_type": "qwen2_moe",
        **{key: dense[key] for key in kept if key in dense},
        "qkv_bias": True,
        "use_sliding_window": False,
        "num_experts": len(source.experts),
        "num_experts_per_tok": source.top_k,
        "norm_topk_prob": True,
        "moe_intermediate_size": dense["intermediate_size"],
        "shared_expert_intermediate_size": SHARED_EXPERT_ROWS,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "output_router_logits": False,
        "dtype": dense.get("dtype") or "bfloat16",
    }


def _pack(source: Source, parts: tuple[str, ...]) -> Iterable[torch.Tensor]:
    for index in range(len(source.experts)):
        yield torch.cat([source.expert(index, part) for part in parts])[None]
