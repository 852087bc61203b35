"""The composed model: any dense decoder whose feed-forward modules are replaced by blocks of experts.

The block around a feed-forward module is left as it is, so a sequence that stays with one expert costs what the dense
model costs and gives that expert's logits. How the route reaches the layers: all blocks of a model hold one `Route`,
which the model's forward sets before the first layer runs. Reads a composed folder: a Mixtral checkpoint, which plain
transformers loads too, and the sidecar `routing.json` and `routing.safetensors`.

Shapes: B sequences, T tokens, D width, E experts, K experts a token, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from torch import nn

from codechoir.artifacts import write_json
from codechoir.errors import InputError
from codechoir.model.checkpoint import Checkpoint, copy_config, load_tensors, open_checkpoint, save_tensors
from codechoir.model.families import Family, family_of
from codechoir.model.prompt_router import PromptRouter
from codechoir.records import read_json

ROUTING_JSON = "routing.json"
ROUTING_TENSORS = "routing.safetensors"


class Routing(StrEnum):
    """Who decides which experts a token goes to."""

    PROMPT = "prompt"  # the prompt router, once a sequence
    TOKEN = "token"  # each layer's linear router, each token
    FIXED = "fixed"  # the caller, once a sequence (the oracle, when the caller knows the language)
    UNIFORM = "uniform"  # all experts, equal weights


@dataclass(slots=True)
class Route:
    """The route of the batch now in the model; shared by all its blocks."""

    routing: Routing
    top_k: int
    experts_B: torch.Tensor | None = None  # prompt and fixed routing: each sequence's expert
    mask_BT: torch.Tensor | None = None  # 1 where a token counts
    counts_BE: torch.Tensor | None = None  # token routing: decisions so far, weighted
    pending: list[int] | None = field(default=None)  # fixed routing: the next batch's experts, by the caller


class ExpertBlock(nn.Module):
    """Stands in a layer's feed-forward place: the experts' feed-forward modules and the layer's token router."""

    def __init__(self, experts: Sequence[nn.Module], router_ED: torch.Tensor, route: Route) -> None:
        super().__init__()
        self.experts = nn.ModuleList(experts)
        self.router = nn.Parameter(router_ED, requires_grad=False)
        self.route = route

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        """The routed feed-forward output, shaped as the input."""
        if self.route.routing is Routing.UNIFORM:
            mixed: torch.Tensor = torch.stack([expert(x_BTD) for expert in self.experts]).mean(dim=0)
            return mixed
        return self._by_token(x_BTD) if self.route.routing is Routing.TOKEN else self._by_sequence(x_BTD)

    def _by_sequence(self, x_BTD: torch.Tensor) -> torch.Tensor:
        assert self.route.experts_B is not None
        chosen = self.route.experts_B.tolist()
        if len(set(chosen)) == 1:
            whole: torch.Tensor = self.experts[chosen[0]](x_BTD)
            return whole
        out_BTD = torch.empty_like(x_BTD)
        for expert in sorted(set(chosen)):
            rows = self.route.experts_B == expert
            out_BTD[rows] = self.experts[expert](x_BTD[rows])
        return out_BTD

    def _by_token(self, x_BTD: torch.Tensor) -> torch.Tensor:
        """Mixtral's rule (arXiv 2401.04088, section 2.1): softmax, top-k, renormalised, weighted sum."""
        x_ND = x_BTD.flatten(0, 1)
        probabilities_NE = torch.softmax(nn.functional.linear(x_ND, self.router).float(), dim=-1)
        weights_NK, chosen_NK = probabilities_NE.topk(self.route.top_k, dim=-1)
        weights_NK = weights_NK / weights_NK.sum(dim=-1, keepdim=True)
        out_ND = torch.zeros_like(x_ND)
        for index, expert in enumerate(self.experts):
            tokens, places = torch.where(chosen_NK == index)
            if len(tokens):
                share = weights_NK[tokens, places, None].to(x_ND.dtype)
                out_ND.index_add_(0, tokens, expert(x_ND[tokens]) * share)
        self._count(x_BTD, weights_NK, chosen_NK)
        return out_ND.view_as(x_BTD)

    def _count(self, x_BTD: torch.Tensor, weights_NK: torch.Tensor, chosen_NK: torch.Tensor) -> None:
        shares_NE = torch.zeros(len(chosen_NK), len(self.experts), device=x_BTD.device)
        shares_NE.scatter_(1, chosen_NK, weights_NK)
        shares_BTE = shares_NE.view(*x_BTD.shape[:2], -1)
        if self.route.mask_BT is not None:
            shares_BTE = shares_BTE * self.route.mask_BT[..., None]
        assert self.route.counts_BE is not None
        self.route.counts_BE += shares_BTE.sum(dim=1)


class MoeForCausalLM(nn.Module):
    """A composed model with one of the routings. Called as a transformers causal LM is."""

    def __init__(self, dense: Any, experts: Sequence[str], prompt_router: PromptRouter, route: Route) -> None:
        super().__init__()
        self.dense = dense
        self.experts = tuple(experts)
        self.prompt_router = prompt_router
        self.route = route

    @property
    def config(self) -> Any:
        """The dense decoder's config."""
        return self.dense.config

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.dense.device
        return device

    def fix_routes(self, experts: Sequence[str]) -> None:
        """Fixed routing: the expert of each sequence of the next batch."""
        self.route.pending = [self.experts.index(expert) for expert in experts]

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        **more: Any,
    ) -> Any:
        """transformers' output. The route is chosen when a batch begins and kept while its cache grows."""
        if past_key_values is None or past_key_values.get_seq_length() == 0:
            self._begin(input_ids, attention_mask)
        self.route.mask_BT = None if attention_mask is None else attention_mask[:, -input_ids.shape[1] :]
        return self.dense(input_ids=input_ids, attention_mask=attention_mask, past_key_values=past_key_values, **more)

    def keep(self, rows: torch.Tensor) -> None:
        """Drops all sequences of the batch but `rows`, as the caller does with its cache."""
        if self.route.experts_B is not None:
            self.route.experts_B = self.route.experts_B[rows]
        if self.route.counts_BE is not None:
            self.route.counts_BE = self.route.counts_BE[rows]

    def shares(self) -> list[dict[str, float]]:
        """For each sequence of the batch: expert -> share of the routing decisions so far."""
        if self.route.counts_BE is not None:
            shares_BE = self.route.counts_BE / self.route.counts_BE.sum(dim=1, keepdim=True).clamp_min(1e-9)
            rows = shares_BE.tolist()
            return [
                {name: round(share, 4) for name, share in zip(self.experts, row, strict=True) if share} for row in rows
            ]
        assert self.route.experts_B is not None
        return [{self.experts[index]: 1.0} for index in self.route.experts_B.tolist()]

    def _begin(self, input_ids_BT: torch.Tensor, attention_mask_BT: torch.Tensor | None) -> None:
        route, num_sequences = self.route, len(input_ids_BT)
        route.experts_B = route.counts_BE = None
        if route.routing is Routing.FIXED:
            assert route.pending is not None and len(route.pending) == num_sequences, "call fix_routes first"
            route.experts_B = torch.tensor(route.pending, device=input_ids_BT.device)
        elif route.routing is Routing.PROMPT:
            mask_BT = torch.ones_like(input_ids_BT) if attention_mask_BT is None else attention_mask_BT
            prefixes = [row[mask.bool()] for row, mask in zip(input_ids_BT, mask_BT, strict=True)]
            route.experts_B = self.prompt_router.probabilities(prefixes).argmax(dim=-1).to(input_ids_BT.device)
        else:
            route.counts_BE = torch.zeros(num_sequences, len(self.experts), device=input_ids_BT.device)
            if route.routing is Routing.UNIFORM:
                route.counts_BE += 1


@dataclass(frozen=True, slots=True)
class Composed:
    """A composed folder opened for reading."""

    checkpoint: Checkpoint
    dense_config: dict[str, Any]
    family: Family
    experts: tuple[str, ...]
    prompt_router: PromptRouter


def open_composed(folder: Path) -> Composed:
    """Opens what compose wrote. Raises InputError where the sidecar is missing or damaged."""
    checkpoint = open_checkpoint(folder)
    routing = read_json(folder / ROUTING_JSON)
    tensors, _ = load_tensors(folder / ROUTING_TENSORS)
    try:
        dense_config, experts = routing["dense_config"], tuple(routing["experts"])
        router = PromptRouter(
            tensors["prompt_router.weight"],
            tensors["prompt_router.words"],
            routing["prompt_router"]["temperature"],
            routing["prompt_router"]["prefix_tokens"],
        )
    except (KeyError, TypeError) as error:
        raise InputError(
            "the routing sidecar is damaged", seen=f"{folder / ROUTING_JSON}: {error}", next_step="compose again"
        ) from None
    return Composed(checkpoint, dense_config, family_of(dense_config, folder), experts, router)


def write_routing(folder: Path, dense_config: dict[str, Any], experts: Sequence[str], router: PromptRouter) -> None:
    """Writes the sidecar beside a composed checkpoint."""
    save_tensors(
        folder / ROUTING_TENSORS,
        {"prompt_router.weight": router.weight_FE, "prompt_router.words": router.words_V},
        {"format": "pt"},
    )
    write_json(
        folder / ROUTING_JSON,
        {
            "experts": list(experts),
            "dense_config": dense_config,
            "prompt_router": {"temperature": router.temperature, "prefix_tokens": router.prefix_tokens},
        },
    )


def active_parameters(composed: Composed, routing: Routing, top_k: int) -> int:
    """How many parameters one token passes: shared ones, its experts', and token routers where used."""
    sizes = {name: torch.Size(shape).numel() for name, shape in composed.checkpoint.shapes().items()}
    routers = sum(size for name, size in sizes.items() if name.endswith("block_sparse_moe.gate.weight"))
    one_expert = sum(size for name, size in sizes.items() if ".block_sparse_moe.experts.0." in name)
    shared = sum(sizes.values()) - routers - one_expert * len(composed.experts)
    num_experts = {Routing.UNIFORM: len(composed.experts), Routing.TOKEN: top_k}.get(routing, 1)
    return shared + num_experts * one_expert + (routers if routing is Routing.TOKEN else 0)


def load_composed(folder: Path, routing: Routing, top_k: int, dtype: torch.dtype) -> MoeForCausalLM:
    """The composed model of a folder, on the CPU, in evaluation mode."""
    composed = open_composed(folder)
    tensors = {name: tensor.to(dtype) for name, tensor in composed.checkpoint.items()}
    return assemble(composed, tensors, Route(routing, top_k), dtype)


def assemble(composed: Composed, tensors: dict[str, torch.Tensor], route: Route, dtype: torch.dtype) -> MoeForCausalLM:
    """Builds the model from tensors by their Mixtral names; `tensors` is emptied."""
    family, num_layers = composed.family, int(composed.dense_config["num_hidden_layers"])
    _check_names(composed, num_layers, tensors)
    experts: list[list[dict[str, torch.Tensor]]] = []
    routers = []
    for layer in range(num_layers):
        prefix = mixtral_prefix(layer)
        routers.append(tensors.pop(f"{prefix}gate.weight"))
        experts.append(
            [
                {
                    f"{module}.weight": tensors.pop(f"{prefix}experts.{index}.{short}.weight")
                    for short, module in (("w1", family.gate), ("w2", family.down), ("w3", family.up))
                }
                for index in range(len(composed.experts))
            ]
        )
        for name, tensor in experts[layer][0].items():
            tensors[family.feed_forward_prefix(layer) + name] = tensor
    dense = dense_from_tensors(composed.dense_config, tensors, dtype)
    for layer, module in enumerate(dense.get_submodule(family.layers)):
        first = getattr(module, family.feed_forward)
        blocks = [first, *(_with_weights(first, weights) for weights in experts[layer][1:])]
        setattr(module, family.feed_forward, ExpertBlock(blocks, routers[layer], route))
    return MoeForCausalLM(dense, composed.experts, composed.prompt_router, route).eval()


def _check_names(composed: Composed, num_layers: int, tensors: Mapping[str, torch.Tensor]) -> None:
    """Every layer must hold the router and the experts that the sidecar tells of, and no others."""
    declared = {
        f"{mixtral_prefix(layer)}{part}.weight"
        for layer in range(num_layers)
        for part in ("gate", *(f"experts.{i}.w{j}" for i in range(len(composed.experts)) for j in (1, 2, 3)))
    }
    held = {name for name in tensors if ".block_sparse_moe." in name}
    for name in sorted(declared ^ held):
        raise InputError(
            "the composed weights do not fit the routing sidecar",
            seen=f"{name} is {'missing' if name in declared else 'unknown'} in {composed.checkpoint.folder}",
            next_step="compose again",
        )


def dense_from_tensors(config: dict[str, Any], tensors: dict[str, torch.Tensor], dtype: torch.dtype) -> Any:
    """A dense transformers causal LM that takes `tensors` as its weights. Missing or unknown names are refused."""
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = copy_config(config)
    kind = AutoConfig.for_model(settings.pop("model_type"), **settings)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(kind, dtype=dtype)
    _, unexpected = model.load_state_dict(tensors, strict=False, assign=True)
    model.tie_weights()
    model.requires_grad_(requires_grad=False)
    absent = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    if absent or unexpected:
        raise InputError(
            "the weights do not fit the model's config",
            seen=f"missing: {', '.join(absent[:3]) or 'none'}; unknown: {', '.join(unexpected[:3]) or 'none'}",
        )
    _fill_buffers(model, kind)
    return model.eval()


def _fill_buffers(model: Any, config: Any) -> None:
    """Computes what no checkpoint holds (rotary frequencies) by building its module anew, off the meta device."""
    for name, module in list(model.named_modules()):
        if any(buffer.is_meta for buffer in module.buffers(recurse=False)):
            model.set_submodule(name, type(module)(config))


def _with_weights(like: nn.Module, weights: dict[str, torch.Tensor]) -> nn.Module:
    """A feed-forward module of the same kind as `like` with other weights; `like`'s own are not copied."""
    memo = {id(parameter): parameter for parameter in like.parameters()}
    module = copy.deepcopy(like, memo)
    for name, tensor in weights.items():
        owner, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(owner), leaf, nn.Parameter(tensor, requires_grad=False))
    return module


def mixtral_prefix(layer: int) -> str:
    """The prefix of a layer's router and experts in a Mixtral checkpoint."""
    return f"model.layers.{layer}.block_sparse_moe."
