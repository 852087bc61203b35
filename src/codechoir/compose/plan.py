"""What will be composed, decided and checked before a byte moves.

In: the folders of a trunk and its experts, and the choices of a config. Out: a plan in which every tensor is accounted
for (which tensors will be written, from what, in which format and why), or an error that names the tensor, the shape
or the file that does not fit. Reads configs, tokenizers and headers, no weights: those are checked as they are read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from codechoir.compose.compatibility import compare_vocabularies, special_token_differences
from codechoir.compose.config import ComposeConfig, Shared
from codechoir.compose.experts import Expert, blended, generalist, open_expert
from codechoir.compose.prompt_routers import check_fallback
from codechoir.compose.texts import check_lengths
from codechoir.compose.trunk import Trunk, open_trunk
from codechoir.errors import ConfigError, IncompatibleModelError
from codechoir.languages import GENERALIST
from codechoir.model.checkpoint import model_config
from codechoir.model.families import context_length
from codechoir.model.inspection import build_on_meta
from codechoir.model.moe import (
    composed_config,
    mixtral_expert_name,
    mixtral_prefix,
    packed_parts,
    router_name,
)
from codechoir.model.streaming import PlannedTensor

# What Mixtral's and Qwen2-MoE's configs call as dense decoders do.
DENSE_SETTINGS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "rope_parameters",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "tie_word_embeddings",
    "attention_dropout",
)


class Form(StrEnum):
    """What the composed folder is to those who read it."""

    MIXTRAL = "mixtral"  # per-expert names, read by anything that reads Mixtral
    OWN = "codechoir_moe"  # the model class that is copied into the folder


class Part(StrEnum):
    """What a composed tensor is."""

    SHARED = "shared"
    EXPERTS = "experts"
    ROUTER = "router"


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor to be written. `sources` are the trunk's names that it is made of, one above the other."""

    tensor: PlannedTensor
    part: Part
    sources: tuple[str, ...] = ()
    expert: str | None = None  # the only expert in it; None: all of them, in order
    layer: int = -1


@dataclass(frozen=True, slots=True)
class Plan:
    """Models that fit together, and what they become. `experts` keeps the order that the experts will have."""

    trunk: Trunk
    experts: Mapping[str, Expert]
    layers: tuple[int, ...]  # those whose feed-forward becomes experts
    shared: Shared
    form: Form
    why: str  # that form
    config: Mapping[str, Any]  # the composed config.json
    outputs: tuple[Output, ...]  # in the order of writing, the routers last
    special_tokens: Mapping[str, Mapping[str, Any]]  # by expert, where they differ from the base's

    def feed_forward_names(self) -> list[str]:
        """The tensors that become experts."""
        return [name for layer in self.layers for name in self.trunk.family.feed_forward_names(layer)]

    def shared_names(self) -> list[str]:
        """The tensors that all experts share."""
        experts = set(self.feed_forward_names())
        return [name for name in self.trunk.specs if name not in experts]


def plan(trunk: Path, experts: Mapping[str, Path], config: ComposeConfig | None = None, *, fitted: bool = True) -> Plan:
    """Opens and compares all models by their headers. Raises IncompatibleModelError, and ConfigError for wrong choices.

    Where the routers will not be `fitted`, every token goes to all experts: the written top-k is their number.
    """
    config = config or ComposeConfig()
    if len(experts) + config.generalist < 2:
        raise IncompatibleModelError("a composed model needs at least two experts", seen=", ".join(experts) or "none")
    base = open_trunk(trunk)
    check_lengths(config, context_length(model_config(base.config, trunk)), is_fitted=fitted)
    opened = {language: open_expert(language, folder, base) for language, folder in experts.items()}
    if config.generalist:
        opened[GENERALIST] = generalist(base)
    check_fallback(list(opened), config)
    differences = {}
    for language, expert in opened.items():
        compare_vocabularies(trunk, expert.folder, language)
        if found := special_token_differences(trunk, expert.folder):
            differences[language] = found
    if differences and config.shared == "require-equal":
        language, found = next(iter(differences.items()))
        key, values = next(iter(found.items()))
        raise IncompatibleModelError(
            f"the {language} expert has other special tokens than the base",
            seen=f"{key} {values['expert']!r} in {opened[language].folder}",
            allowed=f"{values['base']!r}, as in {trunk}",
            next_step="to take the base's tokenizer for all, set shared to base or mean",
        )
    layers = chosen_layers(config.layers, base.decoder.num_layers)
    if config.own_share < 1:
        names = {name for layer in layers for name in base.family.feed_forward_names(layer)}
        opened = blended(opened, config.own_share, names)
    form, why = _form(base, layers)
    top_k = min(config.top_k, len(opened)) if fitted else len(opened)
    dense = base.config | {"dtype": _dtype(base)}
    if form is Form.MIXTRAL:
        written = mixtral_config(dense, len(opened), top_k)
        outputs = mixtral_outputs(base, opened, layers)
    else:
        written = composed_config(dense, base.family, tuple(opened), layers, top_k)
        outputs = own_outputs(base, opened, layers)
    return Plan(base, opened, layers, config.shared, form, why, written, outputs, differences)


def chosen_layers(text: str, num_layers: int) -> tuple[int, ...]:
    """The layers that `all` or a list of numbers and ranges (`4-11,15`, from 0) names. Raises ConfigError."""
    if text == "all":
        return tuple(range(num_layers))
    chosen: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last or last >= num_layers:
            raise ConfigError(
                "layers that the model does not have",
                seen=part,
                allowed=f"numbers and ranges from 0 to {num_layers - 1}",
            )
        chosen |= set(range(first, last + 1))
    return tuple(sorted(chosen))


def _dtype(trunk: Trunk) -> str:
    """The number format of the feed-forward weights, by torch's name."""
    return str(trunk.specs[trunk.family.feed_forward_names(0)[0]].dtype).removeprefix("torch.")


def _form(trunk: Trunk, layers: tuple[int, ...]) -> tuple[Form, str]:
    """Mixtral wherever it can say the whole model, else our own model class; and why."""
    family = trunk.family
    if family.native is None:
        traits = ["no gate"] * (family.gate is None) + ["biases"] * family.has_bias
        traits += [f"the activation {family.activation}"] * (family.activation != "silu")
        return Form.OWN, f"no native format fits {family.model_type}" + (
            f" (its feed-forward has {', '.join(traits)})" if traits else ""
        )
    if len(layers) < trunk.decoder.num_layers:
        return (
            Form.OWN,
            f"Mixtral has experts in every layer, here {len(layers)} of {trunk.decoder.num_layers} have them",
        )
    mixtral = build_on_meta(mixtral_config(trunk.config, 2, 1), "the composed config")
    places = {name: tuple(tensor.shape) for name, tensor in mixtral.state_dict().items()}
    for name, spec in trunk.specs.items():
        if not family.is_feed_forward(name) and places.get(name) != spec.shape:
            return Form.OWN, f"Mixtral has no place for {name}"
    return Form.MIXTRAL, f"Mixtral says all of {family.model_type}: every layer has experts, gated by SiLU, no biases"


def _shared_outputs(trunk: Trunk, layers: tuple[int, ...]) -> list[Output]:
    experts = {name for layer in layers for name in trunk.family.feed_forward_names(layer)}
    return [
        Output(PlannedTensor(name, spec.dtype, spec.shape), Part.SHARED, (name,))
        for name, spec in trunk.specs.items()
        if name not in experts
    ]


def mixtral_outputs(trunk: Trunk, experts: Mapping[str, Expert], layers: tuple[int, ...]) -> tuple[Output, ...]:
    outputs, routers = _shared_outputs(trunk, layers), []
    for layer in layers:
        for index, language in enumerate(experts):
            for source in trunk.family.feed_forward_names(layer):
                spec = trunk.specs[source]
                name = mixtral_expert_name(trunk.family, layer, index, source)
                tensor = PlannedTensor(name, spec.dtype, spec.shape)
                outputs.append(Output(tensor, Part.EXPERTS, (source,), language, layer))
        routers.append(_router(trunk, f"{mixtral_prefix(layer)}gate.weight", len(experts), layer))
    return (*outputs, *routers)


def own_outputs(trunk: Trunk, experts: Mapping[str, Expert], layers: tuple[int, ...]) -> tuple[Output, ...]:
    outputs, routers = _shared_outputs(trunk, layers), []
    for layer in layers:
        for packed, sources in packed_parts(trunk.family, layer).items():
            specs = [trunk.specs[source] for source in sources]
            shape = (len(experts), sum(spec.shape[0] for spec in specs), *specs[0].shape[1:])
            outputs.append(Output(PlannedTensor(packed, specs[0].dtype, shape), Part.EXPERTS, sources, None, layer))
        routers.append(_router(trunk, router_name(trunk.family, layer), len(experts), layer))
    return (*outputs, *routers)


def _router(trunk: Trunk, name: str, num_experts: int, layer: int) -> Output:
    dtype = trunk.specs[trunk.family.feed_forward_names(layer)[0]].dtype
    return Output(PlannedTensor(name, dtype, (num_experts, trunk.decoder.width)), Part.ROUTER, layer=layer)


def mixtral_config(dense: Mapping[str, Any], num_experts: int, top_k: int) -> dict[str, Any]:
    """The Mixtral config.json of a composed model.

    `dense` is a full config: what is left out would take Mixtral's defaults, which differ from Llama's. `head_dim` is
    always written: Mixtral would else derive it.
    """
    heads = int(dense["num_attention_heads"])
    return {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        **{key: dense[key] for key in DENSE_SETTINGS if key in dense},
        "head_dim": dense.get("head_dim") or int(dense["hidden_size"]) // heads,
        "sliding_window": dense.get("sliding_window"),
        "num_local_experts": num_experts,
        "num_experts_per_tok": min(top_k, num_experts),
        "output_router_logits": False,
        "dtype": dense.get("dtype") or "bfloat16",
    }
