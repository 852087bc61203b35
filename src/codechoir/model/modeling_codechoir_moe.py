"""The composed model: any dense decoder of transformers whose feed-forward modules are blocks of experts.

The decoder around a block is the dense model's own code, so a sequence that stays with one expert gets that expert's
logits at that expert's cost. How the route reaches the layers: all blocks of a model hold one `Route`, which the
model's forward sets before the first layer runs; a backward pass that computes layers anew (gradient checkpointing)
finds it unchanged, as long as it comes before the next forward pass. Copied into each composed folder with the files
it imports, so it needs torch and transformers alone.

Shapes: B sequences, T tokens, N = B x T, D width, I inner width, E experts, K experts a token, V vocabulary.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import GenerationMixin, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.integrations import use_experts_implementation
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from .configuration_codechoir_moe import CodechoirMoeConfig
from .prompt_router import PromptRouter, find_prompt_router, save_prompt_router
from .routing_codechoir_moe import Mixture, Route, Routing, top_k_in_training


class Experts(nn.Module):
    """The packed weights of a layer's experts. A child's decorator tells transformers' backends how they are packed."""

    gated = True
    biased = False
    act_fn: Any
    gate_up_proj: torch.Tensor  # (E, 2I, D), where gated
    up_proj: torch.Tensor  # (E, I, D), where not
    down_proj: torch.Tensor  # (E, D, I)
    gate_up_proj_bias: torch.Tensor
    up_proj_bias: torch.Tensor
    down_proj_bias: torch.Tensor

    def __init__(self, config: Any, width: int, inner: int) -> None:
        super().__init__()
        self.num_experts = len(config.experts)
        self.intermediate_dim, self.hidden_dim = inner, width
        self.act_fn = ACT2FN[config.feed_forward["activation"]]
        rows = {"gate_up_proj": (2 * inner, width)} if self.gated else {"up_proj": (inner, width)}
        for name, shape in (rows | {"down_proj": (width, inner)}).items():
            self.register_parameter(name, nn.Parameter(torch.empty(self.num_experts, *shape)))
            if self.biased:
                self.register_parameter(f"{name}_bias", nn.Parameter(torch.zeros(self.num_experts, shape[0])))

    @torch.no_grad()
    def reset_parameters(self, std: float) -> None:
        """Random weights, no biases: for a model that is not loaded."""
        for name, parameter in self.named_parameters():
            if name.endswith("_bias"):
                parameter.zero_()
            else:
                parameter.normal_(std=std)

    def one(self, x: torch.Tensor, expert: int) -> torch.Tensor:
        """One expert's output for all of `x` (..., D): the dense module's operations, one for one."""
        down_bias = self.down_proj_bias[expert] if self.biased else None
        if self.gated:
            # unbind and chunk rather than indexing: their gradients are gathered once, not once an expert
            gate, up = self.gate_up_proj.unbind(0)[expert].chunk(2)
            gate_bias, up_bias = self.gate_up_proj_bias[expert].chunk(2) if self.biased else (None, None)
            inner = self.act_fn(functional.linear(x, gate, gate_bias)) * functional.linear(x, up, up_bias)
        else:
            bias = self.up_proj_bias[expert] if self.biased else None
            inner = self.act_fn(functional.linear(x, self.up_proj.unbind(0)[expert], bias))
        return functional.linear(inner, self.down_proj.unbind(0)[expert], down_bias)

    def mixed(self, x: torch.Tensor, mixture: Mixture) -> torch.Tensor:
        """The weighted sum of a mixture's outputs for all of `x`."""
        experts, weights = mixture.experts, mixture.weights
        if len(experts) == 1 and weights[0] == 1:
            return self.one(x, experts[0])
        mixed = self.one(x, experts[0]) * weights[0]
        for expert, weight in zip(experts[1:], weights[1:], strict=True):
            mixed = mixed + self.one(x, expert) * weight
        return mixed

    def forward(
        self, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
    ) -> torch.Tensor:
        """The "eager" backend: (N, D), each token's experts (N, K) and their weights (N, K), to (N, D)."""
        num_tokens, top_k = top_k_index.shape
        if num_tokens == 1:  # a decoding step
            pairs = zip(top_k_index[0].tolist(), top_k_weights[0], strict=True)
            done = [self.one(hidden_states, expert) * weight for expert, weight in pairs]
            return torch.stack(done).sum(dim=0).to(hidden_states.dtype)
        chosen = top_k_index.reshape(-1)
        order = chosen.argsort(stable=True)
        places = order // top_k
        counts = torch.bincount(chosen, minlength=self.num_experts).tolist()
        parts = torch.split(hidden_states[places], counts)
        done_ND = torch.cat([self.one(part, expert) for expert, part in enumerate(parts) if len(part)])
        weighted_ND = (done_ND * top_k_weights.reshape(-1)[order, None]).to(hidden_states.dtype)
        return torch.zeros_like(hidden_states).index_add_(0, places, weighted_ND)


def _takes_mixtures(experts: type[Experts]) -> type[Experts]:
    """Lets a call name experts for all of its input, which needs no backend. A call, so that accelerate's hooks run."""
    by_token: Any = experts.forward

    def forward(self: Experts, x: torch.Tensor, *routes: torch.Tensor, mixture: Mixture | None = None) -> torch.Tensor:
        given: torch.Tensor = by_token(self, x, *routes) if mixture is None else self.mixed(x, mixture)
        return given

    experts.forward = forward  # type: ignore[assignment]
    return experts


@_takes_mixtures
@use_experts_implementation
class GatedExperts(Experts):
    """down(act(gate(x)) * up(x))."""


@_takes_mixtures
@use_experts_implementation(has_bias=True)
class GatedBiasedExperts(Experts):
    """The same with biases."""

    biased = True


@_takes_mixtures
@use_experts_implementation(has_gate=False)
class PlainExperts(Experts):
    """down(act(up(x)))."""

    gated = False


@_takes_mixtures
@use_experts_implementation(has_gate=False, has_bias=True)
class PlainBiasedExperts(Experts):
    """The same with biases."""

    gated = False
    biased = True


_EXPERTS = {
    (True, False): GatedExperts,
    (True, True): GatedBiasedExperts,
    (False, False): PlainExperts,
    (False, True): PlainBiasedExperts,
}


class Router(nn.Module):
    """A layer's token router: linear, without intercept."""

    def __init__(self, num_experts: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_experts, width))

    def forward(self, x_ND: torch.Tensor) -> torch.Tensor:
        """Logits (N, E)."""
        return functional.linear(x_ND, self.weight)


class ExpertBlock(nn.Module):
    """Stands in a layer's feed-forward place: the packed experts and the layer's token router."""

    def __init__(self, config: Any, dense: nn.Module, route: Route) -> None:
        super().__init__()
        told = config.feed_forward
        up: Any = dense.get_submodule(told["up"])
        inner, width = up.weight.shape
        self.router = Router(len(config.experts), width)
        self.experts = _EXPERTS[told["gate"] is not None, bool(told["has_bias"])](config, width, inner)
        self.route = route
        self.choice_bias_E: torch.Tensor | None = None  # in training alone

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The routed feed-forward output, shaped as the input (..., D)."""
        route = self.route
        if route.routing is Routing.TOKEN or route.routing is Routing.HASH:
            x_ND = x.reshape(-1, x.shape[-1])
            weights_NK, chosen_NK = self._top_k(x_ND) if route.routing is Routing.TOKEN else self._hashed(x_ND)
            if not self.training:  # gradient checkpointing would count twice
                self._count(weights_NK, chosen_NK)
            routed: torch.Tensor = self.experts(x_ND, chosen_NK, weights_NK).view_as(x)
            return routed
        if route.through_backend or torch.compiler.is_compiling():
            return self._through_backend(x)
        if len(route.mixtures) == 1:
            whole: torch.Tensor = self.experts(x, mixture=route.mixtures[0])
            return whole
        assert route.weights_BE is not None
        x_BTD = x.view(len(route.weights_BE), -1, x.shape[-1])
        out_BTD = torch.empty_like(x_BTD)
        for mixture in route.mixtures:
            out_BTD[mixture.rows] = self.experts(x_BTD[mixture.rows], mixture=mixture)
        return out_BTD.view_as(x)

    def _top_k(self, x_ND: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mixtral's rule (arXiv 2401.04088, section 2.1): softmax, top-k, renormalised."""
        if self.training and self.route.top_k == 1:
            # The weight is 1 wherever a token goes: what teaches the router is untrue of its input.
            x_ND = x_ND.detach()
        logits_NE = self.router(x_ND).float()
        if self.training:
            return top_k_in_training(logits_NE, self.route.top_k, self.choice_bias_E)
        if self.route.top_k == 1:  # renormalised, a single weight is 1
            chosen_N1 = logits_NE.argmax(dim=-1, keepdim=True)
            return torch.ones(chosen_N1.shape, device=x_ND.device), chosen_N1
        probabilities_NE = torch.softmax(logits_NE, dim=-1)
        weights_NK, chosen_NK = probabilities_NE.topk(self.route.top_k, dim=-1)
        return weights_NK / weights_NK.sum(dim=-1, keepdim=True), chosen_NK

    def _hashed(self, x_ND: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.route.experts_N1 is not None
        chosen_N1 = self.route.experts_N1.to(x_ND.device)
        return torch.ones(chosen_N1.shape, device=x_ND.device), chosen_N1

    def _through_backend(self, x: torch.Tensor) -> torch.Tensor:
        """Routes by sequence as routes by token: what a compiled graph can hold, whichever the experts."""
        assert self.route.weights_BE is not None
        weights_BK, chosen_BK = self.route.weights_BE.to(x.device).topk(self.route.num_chosen, dim=-1)
        x_ND = x.reshape(-1, x.shape[-1])
        repeats = len(x_ND) // len(weights_BK)
        weights_NK, chosen_NK = (t.repeat_interleave(repeats, dim=0) for t in (weights_BK, chosen_BK))
        routed: torch.Tensor = self.experts(x_ND, chosen_NK, weights_NK).view_as(x)
        return routed

    def _count(self, weights_NK: torch.Tensor, chosen_NK: torch.Tensor) -> None:
        counts_BE = self.route.counts_BE
        assert counts_BE is not None
        with torch.no_grad():
            weights_NK, chosen_NK = weights_NK.to(counts_BE.device), chosen_NK.to(counts_BE.device)
            if self.route.trace is not None:
                self.route.trace.append(chosen_NK[:, 0])
            if self.route.mask_BT is not None:
                weights_NK = weights_NK * self.route.mask_BT.reshape(-1, 1)
            shares_BX = weights_NK.reshape(len(counts_BE), -1)
            counts_BE.scatter_add_(1, chosen_NK.reshape(len(counts_BE), -1), shares_BX.to(counts_BE.dtype))


class CodechoirMoeForCausalLM(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """A composed model. Its parameters keep the dense model's names; each MoE layer has `experts` and a `router`.

    `prompt_router` is read from the sidecar beside the weights when it is first needed.
    """

    config_class = CodechoirMoeConfig
    supports_gradient_checkpointing = True
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True

    def __init__(self, config: CodechoirMoeConfig) -> None:
        super().__init__(config)
        dense = MODEL_FOR_CAUSAL_LM_MAPPING[type(config.dense_config)](config.dense_config)
        self.route = Route(Routing(config.routing), config.num_experts_per_tok)
        layers = dense.get_submodule(config.feed_forward["layers"])
        for number in config.moe_layers:
            module = config.feed_forward["module"]
            block = ExpertBlock(config, layers[number].get_submodule(module), self.route)
            layers[number].set_submodule(module, block)
        # One set of children for both, so that parameters have the dense model's names and its forward sees what is
        # loaded, moved, tied or replaced here. The dense model itself is no child.
        self.__dict__["_modules"] = dense._modules
        self.__dict__["dense"] = dense
        self.base_model_prefix = dense.base_model_prefix
        self._tied_weights_keys = dense._tied_weights_keys
        self._prompt_router: PromptRouter | None = None
        self._mask_BT: torch.Tensor | None = None
        self.post_init()
        for module in self.modules():
            if isinstance(module, Experts) and not module.down_proj.is_meta:
                module.reset_parameters(getattr(config.dense_config, "initializer_range", 0.02))

    @property
    def experts(self) -> tuple[str, ...]:
        """The experts' names."""
        return tuple(self.config.experts)

    @property
    def prompt_router(self) -> PromptRouter:
        """The prompt router. Raises OSError where the model's folder has no sidecar."""
        if self._prompt_router is None:
            self._prompt_router = find_prompt_router(self.name_or_path)
        return self._prompt_router

    @prompt_router.setter
    def prompt_router(self, router: PromptRouter) -> None:
        self._prompt_router = router

    def set_routing(self, routing: str, top_k: int = 1) -> None:
        """Chooses how the next batches are routed."""
        self.route.routing, self.route.top_k = Routing(routing), top_k

    def fix_routes(self, experts: Sequence[str]) -> None:
        """Fixed routing: the expert of each sequence of the next batches, or one for all."""
        self.route.pending = [self.experts.index(expert) for expert in experts]

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: Any = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        labels: torch.Tensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> Any:
        """transformers' output. The route is chosen when a batch begins and kept while its cache grows."""
        self._begin(input_ids, kwargs.get("inputs_embeds"), attention_mask, past_key_values)
        return self.dense(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            labels=labels,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )

    def keep(self, rows: torch.Tensor) -> None:
        """Drops all sequences of the batch but `rows`, as the caller does with its cache."""
        self.route.keep(rows)

    def shares(self) -> list[dict[str, float]]:
        """For each sequence of the batch: expert -> share of the routing decisions so far."""
        return self.route.shares(self.experts)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def _begin(self, input_ids: Any, embeddings: Any, mask: Any, cache: Any) -> None:
        """Sets the route before the layers run."""
        route, given = self.route, input_ids if input_ids is not None else embeddings
        num_sequences, num_tokens = given.shape[:2]
        # generate() turns the mask into four dimensions for some caches; the padding is in what it got itself.
        mask_BT = mask if mask is None or _is_padding_mask(mask) else self._mask_BT
        route.mask_BT = None if mask_BT is None else mask_BT[:, -num_tokens:]
        if route.routing is Routing.HASH:
            route.by_hash(input_ids, len(self.experts))
        if route.held or (cache is not None and int(cache.get_seq_length()) > 0):
            return
        route.weights_BE = route.counts_BE = None
        if route.routing is Routing.TOKEN or route.routing is Routing.HASH:
            route.counts_BE = torch.zeros(num_sequences, len(self.experts), device=given.device)
            return
        if route.routing is Routing.UNIFORM:
            weights_BE = torch.full((num_sequences, len(self.experts)), 1 / len(self.experts))
        elif route.routing is Routing.FIXED:
            weights_BE = self._fixed(num_sequences)
        else:
            weights_BE = self._prompted(input_ids, mask_BT)
        route.by_sequence(weights_BE.to(given.device))

    def _fixed(self, num_sequences: int) -> torch.Tensor:
        pending = self.route.pending
        if not pending or num_sequences % len(pending):
            raise ValueError(f"fixed routing: {len(pending)} experts for {num_sequences} sequences; call fix_routes")
        # generate() repeats each prompt for num_return_sequences or num_beams
        chosen = torch.tensor(pending).repeat_interleave(num_sequences // len(pending))
        return functional.one_hot(chosen, len(self.experts)).float()

    def _prompted(self, input_ids_BT: torch.Tensor, mask_BT: torch.Tensor | None) -> torch.Tensor:
        if input_ids_BT is None:
            raise ValueError("prompt routing reads token ids; with embeddings alone choose another routing")
        prefixes = list(input_ids_BT)
        if mask_BT is not None:
            prefixes = [row[mask.bool()] for row, mask in zip(input_ids_BT, mask_BT, strict=True)]
        return self.prompt_router.routes(prefixes)

    def prepare_inputs_for_generation(
        self, input_ids: torch.Tensor, attention_mask: Any = None, inputs_embeds: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        """As the dense model does it."""
        self._mask_BT = (
            attention_mask if isinstance(attention_mask, torch.Tensor) and attention_mask.ndim == 2 else None
        )
        prepared: dict[str, Any] = self.dense.prepare_inputs_for_generation(
            input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds, **kwargs
        )
        return prepared

    def get_input_embeddings(self) -> nn.Module:
        """As the dense model does it."""
        embeddings: nn.Module = self.dense.get_input_embeddings()
        return embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """As the dense model does it."""
        self.dense.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module | None:
        """As the dense model does it."""
        embeddings: nn.Module | None = self.dense.get_output_embeddings()
        return embeddings

    def set_output_embeddings(self, value: nn.Module) -> None:
        """As the dense model does it."""
        self.dense.set_output_embeddings(value)

    def train(self, mode: bool = True) -> CodechoirMoeForCausalLM:
        """Sets the mode of the dense model, too, which is no child."""
        super().train(mode)
        if "dense" in self.__dict__:
            self.dense.training = mode
        return self

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """As transformers does it, with the files that let others load the folder: modelling code and sidecar."""
        self.config.auto_map = AUTO_MAP
        super().save_pretrained(save_directory, **kwargs)
        copy_modelling_files(Path(save_directory))
        try:
            router = self.prompt_router
        except OSError:
            return  # a model that never had one
        save_prompt_router(Path(save_directory), self.experts, self.config.dense_config.to_dict(), router)


def _is_padding_mask(mask: Any) -> bool:
    return isinstance(mask, torch.Tensor) and mask.ndim == 2


AUTO_MAP = {
    "AutoConfig": "configuration_codechoir_moe.CodechoirMoeConfig",
    "AutoModelForCausalLM": "modeling_codechoir_moe.CodechoirMoeForCausalLM",
}
MODELLING_FILES = (
    "configuration_codechoir_moe.py",
    "modeling_codechoir_moe.py",
    "prompt_router.py",
    "routing_codechoir_moe.py",
)


def copy_modelling_files(folder: Path) -> None:
    """Copies this file and those that it imports into a model folder, for `trust_remote_code`."""
    here = Path(__file__)
    for name in MODELLING_FILES:
        if (folder / name).resolve() != (here.parent / name).resolve():
            shutil.copyfile(here.parent / name, folder / name)
