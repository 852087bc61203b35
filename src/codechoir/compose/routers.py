"""Routers in closed form: ridge regression from what a router reads to the language label.

Token routers: each language's text goes through its own expert; at every layer the state that the layer's router reads
is summed into XᵀX and XᵀY, and one solve gives the router, without intercept (native formats have none). Prompt router:
ridge in the dual form over bags of tokens of prefixes of many lengths. Temperatures are calibrated by likelihood on
sequences that the fit has not seen.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.nn import functional

from codechoir.compose.config import ComposeConfig
from codechoir.console import Progress
from codechoir.model.moe import ExpertBlock, MoeForCausalLM
from codechoir.model.prompt_router import PromptRouter, bag_of_tokens

TEMPERATURES = tuple(2.0 ** (power / 2) for power in range(-12, 3))
PREFIX_LENGTHS = (16, 32, 64, 128, 256, 512)


@dataclass(frozen=True, slots=True)
class TokenRouters:
    """One router a layer, the temperature already divided in, and how it did on the calibration sequences."""

    weights: tuple[torch.Tensor, ...]  # (E, D) each
    temperatures: tuple[float, ...]
    accuracies: tuple[float, ...]


def fit_token_routers(
    model: MoeForCausalLM,
    fit: Mapping[str, torch.Tensor],
    calibration: Mapping[str, torch.Tensor],
    config: ComposeConfig,
) -> TokenRouters:
    """Fits every layer's router. `model` routes FIXED; `fit` and `calibration` hold (N, T) token ids an expert."""
    blocks = _blocks(model)
    num_experts, width = blocks[0].router.shape
    moments_DD = [torch.zeros(width, width, device=model.device) for _ in blocks]
    targets_DE = [torch.zeros(width, num_experts, device=model.device) for _ in blocks]

    def add(layer: int, expert: int, x_ND: torch.Tensor) -> None:
        moments_DD[layer].addmm_(x_ND.T, x_ND)
        targets_DE[layer][:, expert] += x_ND.sum(dim=0)

    _run(model, fit, "fit token routers", add)
    weights_ED = [_ridge(moment, target, config.ridge).T for moment, target in zip(moments_DD, targets_DE, strict=True)]
    losses = torch.zeros(len(blocks), len(TEMPERATURES))
    right, seen = torch.zeros(len(blocks)), 0

    def calibrate(layer: int, expert: int, x_ND: torch.Tensor) -> None:
        nonlocal seen
        logits_NE = x_ND @ weights_ED[layer].T
        label_N = torch.full((len(x_ND),), expert, device=x_ND.device)
        for index, temperature in enumerate(TEMPERATURES):
            losses[layer, index] += float(functional.cross_entropy(logits_NE / temperature, label_N, reduction="sum"))
        right[layer] += int((logits_NE.argmax(dim=-1) == expert).sum())
        seen += len(x_ND) if layer == 0 else 0

    _run(model, calibration, "calibrate token routers", calibrate)
    temperatures = [TEMPERATURES[int(row.argmin())] for row in losses]
    return TokenRouters(
        tuple(weight / temperature for weight, temperature in zip(weights_ED, temperatures, strict=True)),
        tuple(temperatures),
        tuple(round(float(count) / seen, 4) for count in right),
    )


def _ridge(moments_DD: torch.Tensor, targets_DE: torch.Tensor, penalty: float) -> torch.Tensor:
    """(XᵀX + λI)⁻¹XᵀY in float64, λ being `penalty` times the mean diagonal; float32, shape (D, E)."""
    moments = moments_DD.double().cpu()
    moments.diagonal().add_(penalty * moments.diagonal().mean())
    solved: torch.Tensor = torch.linalg.solve(moments, targets_DE.double().cpu())
    return solved.float().to(moments_DD.device)


@torch.no_grad()
def _run(
    model: MoeForCausalLM,
    sequences: Mapping[str, torch.Tensor],
    label: str,
    use: Callable[[int, int, torch.Tensor], None],
) -> None:
    """Runs each expert over its sequences; `use(layer, expert, x_ND)` gets the float32 states that the routers read."""
    expert = 0
    with (
        _router_inputs(model, lambda layer, x_BTD: use(layer, expert, x_BTD.flatten(0, 1).float())),
        Progress(label, sum(tokens.numel() for tokens in sequences.values()), "tokens") as bar,
    ):
        for name in model.experts:
            expert = model.experts.index(name)
            for tokens_BT in torch.split(sequences[name], 2):
                model.fix_routes([name] * len(tokens_BT))
                model(tokens_BT.to(model.device), use_cache=False, logits_to_keep=1)
                bar.advance(tokens_BT.numel())


@contextmanager
def _router_inputs(model: MoeForCausalLM, use: Callable[[int, torch.Tensor], None]) -> Iterator[None]:
    handles = []
    for layer, block in enumerate(_blocks(model)):

        def hook(_: torch.nn.Module, inputs: tuple[torch.Tensor], layer: int = layer) -> None:
            use(layer, inputs[0])

        handles.append(block.register_forward_pre_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _blocks(model: MoeForCausalLM) -> list[ExpertBlock]:
    return [module for module in model.modules() if isinstance(module, ExpertBlock)]


def fit_prompt_router(
    documents: Mapping[str, Sequence[torch.Tensor]], vocabulary: int, config: ComposeConfig
) -> PromptRouter:
    """Fits on the documents' token ids (1-d tensors), by expert; every fifth document calibrates the temperature."""
    fit: list[tuple[int, torch.Tensor]] = []
    held: list[tuple[int, torch.Tensor]] = []
    rng = random.Random(config.seed)
    for expert, tokens in enumerate(documents.values()):
        for number, document in enumerate(tokens):
            (held if number % 5 == 4 else fit).extend((expert, prefix) for prefix in _prefixes(document, rng))
    features = bag_of_tokens([prefix for _, prefix in fit], vocabulary)
    gram_NN = _gram(features)
    gram_NN.diagonal().add_(config.prompt_ridge * len(fit) / len(documents))
    labels_N = torch.tensor([expert for expert, _ in fit])
    # Targets are +1 and -1, and languages weigh the same however many prefixes each has.
    targets_NE = functional.one_hot(labels_N, len(documents)).float() * 2 - 1
    weight_VE = torch.sparse.mm(features.T, torch.linalg.solve(gram_NN, targets_NE))
    scores_ME = torch.sparse.mm(bag_of_tokens([prefix for _, prefix in held], vocabulary), weight_VE)
    held_M = torch.tensor([expert for expert, _ in held])
    losses = [float(functional.cross_entropy(scores_ME / temperature, held_M)) for temperature in TEMPERATURES]
    return PromptRouter(weight_VE.contiguous(), TEMPERATURES[losses.index(min(losses))], config.prefix_tokens)


def _prefixes(document: torch.Tensor, rng: random.Random) -> Iterator[torch.Tensor]:
    """A document's beginning, and a stretch from its inside, each of a random length."""
    yield document[: rng.choice(PREFIX_LENGTHS)]
    start = rng.randrange(len(document))
    yield document[start : start + rng.choice(PREFIX_LENGTHS)]


def _gram(features: torch.Tensor) -> torch.Tensor:
    """FFᵀ of a sparse (N, V) matrix, dense; summed over slices of columns to bound memory."""
    indices, values = features.indices(), features.values()
    num_rows, num_columns = features.shape
    gram_NN = torch.zeros(num_rows, num_rows)
    for start in range(0, num_columns, 4096):
        inside = (indices[1] >= start) & (indices[1] < start + 4096)
        if inside.any():
            block = torch.zeros(num_rows, 4096)
            block[indices[0, inside], indices[1, inside] - start] = values[inside]
            gram_NN.addmm_(block, block.T)
    return gram_NN
