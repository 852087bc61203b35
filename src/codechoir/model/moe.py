"""Composed folders: how they are told, read and loaded.

A composed folder has one of two forms. Where Mixtral can say all of the model, it is a Mixtral checkpoint with a tensor
an expert, which plain transformers and others load. Every other model is a `codechoir_moe` checkpoint: the dense
model's own names, the experts packed, the modelling files beside them. Both have the sidecar `routing.json` and
`routing.safetensors`, and both load as `CodechoirMoeForCausalLM`, which transformers' Auto classes know once this
module is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from codechoir.artifacts import write_json
from codechoir.errors import InputError
from codechoir.model.checkpoint import (
    Checkpoint,
    copy_config,
    load_tensors,
    model_config,
    open_checkpoint,
    save_tensors,
)
from codechoir.model.configuration_codechoir_moe import SPECIAL_TOKENS, CodechoirMoeConfig
from codechoir.model.families import Family, family_of
from codechoir.model.modeling_codechoir_moe import (
    AUTO_MAP,
    CodechoirMoeForCausalLM,
    ExpertBlock,
    Experts,
    copy_modelling_files,
)
from codechoir.model.prompt_router import ROUTING_JSON, ROUTING_TENSORS, PromptRouter
from codechoir.model.routing_codechoir_moe import Route, Routing
from codechoir.records import read_json

__all__ = [
    "ROUTING_JSON",
    "Composed",
    "ExpertBlock",
    "Experts",
    "MoeForCausalLM",
    "Route",
    "Routing",
    "active_parameters",
    "assemble",
    "composed_config",
    "copy_modelling_files",
    "dense_from_tensors",
    "is_router",
    "load_composed",
    "mixtral_prefix",
    "open_composed",
    "packed_parts",
    "write_routing",
]

MoeForCausalLM = CodechoirMoeForCausalLM
MODEL_TYPE = CodechoirMoeConfig.model_type
_ROUTER = "router.weight"
_MIXTRAL = {"gate": "w1", "down": "w2", "up": "w3"}

AutoConfig.register(MODEL_TYPE, CodechoirMoeConfig, exist_ok=True)
AutoModelForCausalLM.register(CodechoirMoeConfig, CodechoirMoeForCausalLM, exist_ok=True)


@dataclass(frozen=True, slots=True)
class Composed:
    """A composed folder opened for reading. `moe_layers` is None where all layers hold experts."""

    checkpoint: Checkpoint
    dense_config: dict[str, Any]
    family: Family
    experts: tuple[str, ...]
    prompt_router: PromptRouter
    moe_layers: tuple[int, ...] | None = None

    def layers(self) -> tuple[int, ...]:
        """The layers that hold experts."""
        if self.moe_layers is not None:
            return self.moe_layers
        return tuple(range(int(model_config(self.dense_config, self.checkpoint.folder).num_hidden_layers)))

    @property
    def is_mixtral(self) -> bool:
        """Whether the folder has Mixtral's form, with a tensor an expert; else it is of our own class."""
        return bool(self.checkpoint.config.get("model_type") != MODEL_TYPE)

    def router(self, layer: int) -> str:
        """The stored name of a layer's router."""
        return f"{mixtral_prefix(layer)}gate.weight" if self.is_mixtral else router_name(self.family, layer)

    def routed_names(self) -> set[str]:
        """The stored names of all experts' tensors and of the routers."""
        found: set[str] = set()
        for layer in self.layers():
            found.add(self.router(layer))
            if not self.is_mixtral:
                found |= packed_parts(self.family, layer).keys()
                continue
            for name in self.family.feed_forward_names(layer):
                found |= {mixtral_expert_name(self.family, layer, each, name) for each in range(len(self.experts))}
        return found


def open_composed(folder: Path) -> Composed:
    """Opens what compose wrote. Raises InputError where the sidecar is missing or damaged."""
    checkpoint = open_checkpoint(folder)
    routing = read_json(folder / ROUTING_JSON)
    tensors, _ = load_tensors(folder / ROUTING_TENSORS)
    try:
        dense_config, experts = routing["dense_config"], tuple(routing["experts"])
        router = PromptRouter.restore(routing["prompt_router"], tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "the routing sidecar is damaged", seen=f"{folder / ROUTING_JSON}: {error}", next_step="compose again"
        ) from None
    if checkpoint.config.get("model_type") != MODEL_TYPE:
        return Composed(checkpoint, dense_config, family_of(dense_config, folder), experts, router)
    try:
        told = checkpoint.config["feed_forward"]
        family = Family.restore(str(dense_config["model_type"]), told)
        layers = tuple(map(int, checkpoint.config["moe_layers"]))
        if tuple(checkpoint.config["experts"]) != experts:
            raise ValueError(f"experts {checkpoint.config['experts']}, but {list(experts)} in {ROUTING_JSON}")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "the composed config is damaged", seen=f"{folder / 'config.json'}: {error}", next_step="compose again"
        ) from None
    return Composed(checkpoint, dense_config, family, experts, router, layers)


def write_routing(folder: Path, dense_config: dict[str, Any], experts: Sequence[str], router: PromptRouter) -> None:
    """Writes the sidecar beside a composed checkpoint."""
    save_tensors(folder / ROUTING_TENSORS, router.tensors(), {"format": "pt"})
    write_json(
        folder / ROUTING_JSON,
        {"experts": list(experts), "dense_config": dense_config, "prompt_router": router.settings()},
    )


def composed_config(
    dense_config: Mapping[str, Any],
    family: Family,
    experts: Sequence[str],
    moe_layers: Sequence[int],
    top_k: int,
) -> dict[str, Any]:
    """The config.json of a `codechoir_moe` folder. `dense_config` is a full one, with its number format."""
    return {
        "architectures": [CodechoirMoeForCausalLM.__name__],
        "auto_map": dict(AUTO_MAP),
        "model_type": MODEL_TYPE,
        "dense_config": dict(dense_config),
        "experts": list(experts),
        "moe_layers": list(moe_layers),
        "feed_forward": family.describe(),
        "num_experts_per_tok": min(top_k, len(experts)),
        **{name: dense_config.get(name) for name in SPECIAL_TOKENS},
        "tie_word_embeddings": bool(dense_config.get("tie_word_embeddings", False)),
        "dtype": dense_config.get("dtype") or "bfloat16",
    }


def packed_parts(family: Family, layer: int) -> dict[str, tuple[str, ...]]:
    """A layer's packed experts: name -> the dense tensors whose rows, one after another, are each expert's slice.

    So slice E of `....experts.gate_up_proj` (E, 2I, D) is `torch.cat` of expert E's gate and up weights.
    """
    prefix = family.feed_forward_prefix(layer)
    first = ("up_proj", (family.up,)) if family.gate is None else ("gate_up_proj", (family.gate, family.up))
    kinds = (("", "weight"), ("_bias", "bias")) if family.has_bias else (("", "weight"),)
    return {
        f"{prefix}experts.{packed}{suffix}": tuple(f"{prefix}{module}.{kind}" for module in modules)
        for packed, modules in (first, ("down_proj", (family.down,)))
        for suffix, kind in kinds
    }


def router_name(family: Family, layer: int) -> str:
    """The name of a layer's token router in a `codechoir_moe` checkpoint."""
    return f"{family.feed_forward_prefix(layer)}{_ROUTER}"


def is_router(name: str) -> bool:
    """Whether a weight of a `codechoir_moe` checkpoint is a token router."""
    return name.endswith(_ROUTER)


def mixtral_prefix(layer: int) -> str:
    """The prefix of a layer's router and experts in a Mixtral checkpoint."""
    return f"model.layers.{layer}.block_sparse_moe."


def mixtral_expert_name(family: Family, layer: int, expert: int, dense_name: str) -> str:
    """The Mixtral name of an expert's tensor that in the dense model is `dense_name`."""
    module = dense_name.removeprefix(family.feed_forward_prefix(layer)).removesuffix(".weight")
    role = next(role for role in _MIXTRAL if getattr(family, role) == module)
    return f"{mixtral_prefix(layer)}experts.{expert}.{_MIXTRAL[role]}.weight"


def active_parameters(composed: Composed, routing: Routing, top_k: int) -> int:
    """How many parameters one token passes: shared ones, its experts', and token routers where used."""
    sizes = {name: torch.Size(shape).numel() for name, shape in composed.checkpoint.shapes().items()}
    prefixes = [composed.family.feed_forward_prefix(layer) for layer in composed.layers()]
    routers = expert_weights = 0
    for name, size in sizes.items():
        if name.endswith(("block_sparse_moe.gate.weight", ".router.weight")):
            routers += size
        elif ".block_sparse_moe.experts." in name or any(name.startswith(f"{prefix}experts.") for prefix in prefixes):
            expert_weights += size
    shared, one_expert = sum(sizes.values()) - routers - expert_weights, expert_weights // len(composed.experts)
    num_experts = {Routing.UNIFORM: len(composed.experts), Routing.TOKEN: top_k}.get(routing, 1)
    return shared + num_experts * one_expert + (routers if routing is Routing.TOKEN else 0)


def load_composed(folder: Path, routing: Routing, top_k: int, dtype: torch.dtype) -> MoeForCausalLM:
    """The composed model of a folder, on the CPU, in evaluation mode, on the eager expert backend."""
    composed = open_composed(folder)
    return _build(composed, set(composed.checkpoint.files), composed.checkpoint.read, Route(routing, top_k), dtype)


def assemble(composed: Composed, tensors: dict[str, torch.Tensor], route: Route, dtype: torch.dtype) -> MoeForCausalLM:
    """Builds the model from tensors by the names of either form; `tensors` is emptied."""
    return _build(composed, set(tensors), tensors.pop, route, dtype)


def _build(
    composed: Composed, names: set[str], take: Callable[[str], torch.Tensor], route: Route, dtype: torch.dtype
) -> MoeForCausalLM:
    """Packs Mixtral's tensors as they are read, so that memory holds the model and one expert's tensor more."""
    tensors = {}
    if any(".block_sparse_moe." in name for name in names):
        _check_names(composed, names)
        for layer in composed.layers():
            for packed, parts in packed_parts(composed.family, layer).items():
                tensors[packed] = _packed(composed, layer, parts, take, dtype)
            tensors[router_name(composed.family, layer)] = take(f"{mixtral_prefix(layer)}gate.weight").to(dtype)
        names = {name for name in names if ".block_sparse_moe." not in name}
    tensors |= {name: take(name).to(dtype) for name in sorted(names)}
    settings = composed_config(composed.dense_config, composed.family, composed.experts, composed.layers(), route.top_k)
    config = CodechoirMoeConfig(**settings, experts_implementation="eager")
    model: CodechoirMoeForCausalLM = _from_tensors(CodechoirMoeForCausalLM, config, tensors, dtype)
    model.name_or_path = str(composed.checkpoint.folder)
    model.prompt_router = composed.prompt_router
    model.set_routing(route.routing, route.top_k)
    return model


def _packed(
    composed: Composed, layer: int, parts: Sequence[str], take: Callable[[str], torch.Tensor], dtype: torch.dtype
) -> torch.Tensor:
    """All experts' slices of one packed tensor, from a tensor an expert and part."""
    packed: torch.Tensor | None = None
    for expert in range(len(composed.experts)):
        row = 0
        for part in parts:
            given = take(mixtral_expert_name(composed.family, layer, expert, part))
            if packed is None:
                shape = (len(composed.experts), len(parts) * given.shape[0], *given.shape[1:])
                packed = torch.empty(shape, dtype=dtype)
            packed[expert, row : row + len(given)] = given
            row += len(given)
    assert packed is not None
    return packed


def _check_names(composed: Composed, names: set[str]) -> None:
    """Every layer must hold the router and the experts that the sidecar tells of, and no others."""
    declared = {
        f"{mixtral_prefix(layer)}{part}.weight"
        for layer in composed.layers()
        for part in ("gate", *(f"experts.{i}.w{j}" for i in range(len(composed.experts)) for j in (1, 2, 3)))
    }
    for name in sorted(declared ^ {name for name in names if ".block_sparse_moe." in name}):
        raise InputError(
            "the composed weights do not fit the routing sidecar",
            seen=f"{name} is {'missing' if name in declared else 'unknown'} in {composed.checkpoint.folder}",
            next_step="compose again",
        )


def dense_from_tensors(config: dict[str, Any], tensors: dict[str, torch.Tensor], dtype: torch.dtype) -> Any:
    """A dense transformers causal LM that takes `tensors` as its weights. Missing or unknown names are refused."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    known = model_config(copy_config(config), "the model's config")
    return _from_tensors(MODEL_FOR_CAUSAL_LM_MAPPING[type(known)], known, tensors, dtype)


def _from_tensors(kind: Any, config: Any, tensors: dict[str, torch.Tensor], dtype: torch.dtype) -> Any:
    """A model of transformers that takes `tensors` as its weights; what no checkpoint holds, transformers computes."""
    model, loaded = kind.from_pretrained(
        None, config=config, state_dict=tensors, dtype=dtype, ignore_mismatched_sizes=True, output_loading_info=True
    )
    misfits = {
        "missing": sorted(loaded["missing_keys"]),
        "unknown": sorted(loaded["unexpected_keys"]),
        "of another shape": sorted(name for name, *_ in loaded["mismatched_keys"]),
    }
    if any(misfits.values()):
        told = "; ".join(f"{what}: {', '.join(names[:3])}" for what, names in misfits.items() if names)
        raise InputError("the weights do not fit the model's config", seen=told)
    model.requires_grad_(requires_grad=False)
    return model.eval()
