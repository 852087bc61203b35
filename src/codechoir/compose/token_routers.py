"""Token routers in closed form: ridge regression from what a router reads to the language label.

Each language's text goes through its own expert; at every layer the state that the layer's router reads is summed into
XᵀX and XᵀY, and one solve gives the router, without intercept (native formats have none). Temperatures are calibrated
by likelihood on sequences that the fit has not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.nn import functional

from codechoir.compose.config import ComposeConfig
from codechoir.console import Progress
from codechoir.model.moe import ExpertBlock, MoeForCausalLM

TEMPERATURES = tuple(2.0 ** (power / 2) for power in range(-12, 3))


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
