"""Token routers in closed form: ridge regression from what a router reads to the language label.

Each language's text goes through its own expert; at every layer with experts the state that the layer's router reads
is summed into the language's moments, and one solve gives the router, without intercept (native formats have none).
Temperatures are calibrated by likelihood on sequences that the fit has not seen. An expert without text, as the
generalist is, gets a router row of zeros: a token goes to it where no language has a score above 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from codechoir.compose.config import ComposeConfig
from codechoir.compose.layerwise import reading_by_layer, skeleton
from codechoir.compose.moments import Gathering, Sums, solve
from codechoir.compose.weights import Weights
from codechoir.console import Progress
from codechoir.model.device import compute_device

TEMPERATURES = tuple(2.0 ** (power / 2) for power in range(-12, 3))
_TOKENS_AT_ONCE = {"cpu": 2**13, "cuda": 2**15}  # a forward pass reads all weights, so it should be long

Use = Callable[[int, torch.Tensor], None]  # position among the layers with experts, float32 states (N, D)
States = Callable[[str, torch.Tensor, Use], None]  # language, tokens (N, T), what to do with the states


@dataclass(frozen=True, slots=True)
class TokenRouters:
    """One router a layer, the temperature already divided in, and how it did on the calibration sequences.

    `sums` are each language's moments, from which routers can be solved again for other choices of languages.
    """

    weights: tuple[torch.Tensor, ...]  # (E, D) each
    temperatures: tuple[float, ...]
    accuracies: tuple[float, ...]
    sums: Mapping[str, Sums]
    ridge: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """What sequences that a fit has not seen tell of routers, by layer."""

    temperatures: tuple[float, ...]
    accuracies: tuple[float, ...]  # over all tokens
    accuracy_by_language: Mapping[str, tuple[float, ...]]


def fit_token_routers(
    states: States,
    experts: Sequence[str],
    fit: Mapping[str, torch.Tensor],
    calibration: Mapping[str, torch.Tensor],
    config: ComposeConfig,
) -> TokenRouters:
    """Fits every layer's router over `experts`; `fit` and `calibration` hold (N, T) token ids a language."""
    sums = gather_sums(states, experts, fit)
    weights = solve(sums, experts, config.ridge)
    found = calibrate(states, experts, weights, calibration)
    return TokenRouters(cooled(weights, found.temperatures), found.temperatures, found.accuracies, sums, config.ridge)


def gather_sums(states: States, experts: Sequence[str], fit: Mapping[str, torch.Tensor]) -> dict[str, Sums]:
    """The moments of each language that there are sequences of, each as its own expert runs over them."""
    sums: dict[str, Sums] = {}
    with _progress("fit token routers", fit) as bar:
        for name in experts:
            if name in fit:
                gathering = Gathering()
                for tokens_NT in in_batches(fit[name]):
                    states(name, tokens_NT, gathering.add)
                    bar.advance(tokens_NT.numel())
                sums[name] = gathering.sums()
    return sums


def calibrate(
    states: States, experts: Sequence[str], weights: Sequence[torch.Tensor], sequences: Mapping[str, torch.Tensor]
) -> Calibration:
    """Finds each layer's likeliest temperature, and how often the right expert has the largest score."""
    device = compute_device()
    losses = torch.zeros(len(weights), len(TEMPERATURES), device=device)
    right = {name: torch.zeros(len(weights), device=device) for name in sequences}
    with _progress("calibrate token routers", sequences) as bar:
        for expert, name in enumerate(experts):
            if name not in sequences:
                continue

            def use(layer: int, x_ND: torch.Tensor, expert: int = expert, name: str = name) -> None:
                logits_NE = x_ND @ weights[layer].to(x_ND.device).T
                label_N = torch.full((len(x_ND),), expert, device=x_ND.device)
                for index, temperature in enumerate(TEMPERATURES):
                    losses[layer, index] += functional.cross_entropy(logits_NE / temperature, label_N, reduction="sum")
                right[name][layer] += (logits_NE.argmax(dim=-1) == expert).sum()

            for tokens_NT in in_batches(sequences[name]):
                states(name, tokens_NT, use)
                bar.advance(tokens_NT.numel())
    total = sum(tokens.numel() for tokens in sequences.values())
    losses, right = losses.cpu(), {name: counts.cpu() for name, counts in right.items()}
    return Calibration(
        tuple(TEMPERATURES[int(row.argmin())] for row in losses),
        tuple(round(float(count) / total, 4) for count in sum(right.values(), torch.zeros(len(weights)))),
        {
            name: tuple(round(float(count) / sequences[name].numel(), 4) for count in counts)
            for name, counts in right.items()
        },
    )


def cooled(weights: Sequence[torch.Tensor], temperatures: Sequence[float]) -> tuple[torch.Tensor, ...]:
    """The routers with their temperatures divided in."""
    return tuple(weight / temperature for weight, temperature in zip(weights, temperatures, strict=True))


def in_batches(tokens_NT: torch.Tensor) -> Sequence[torch.Tensor]:
    """The sequences in batches of as many tokens as a pass should have."""
    size = max(1, _TOKENS_AT_ONCE[compute_device().type] // tokens_NT.shape[1])
    batches: Sequence[torch.Tensor] = torch.split(tokens_NT, size)
    return batches


def _progress(label: str, sequences: Mapping[str, torch.Tensor]) -> Progress:
    return Progress(label, sum(tokens.numel() for tokens in sequences.values()), "tokens")


class ExpertStates:
    """What the routers read as each expert, dense, runs over tokens; one layer of it is in memory at a time."""

    def __init__(self, weights: Weights, dtype: torch.dtype) -> None:
        self.weights, self.dtype = weights, dtype
        self._model: Any = None  # a skeleton, which holds no weights between calls

    @torch.no_grad()
    def __call__(self, language: str, tokens_NT: torch.Tensor, use: Use) -> None:
        """Runs one expert over the tokens."""
        plan = self.weights.plan
        family, expert = plan.trunk.family, plan.experts[language]
        shared = set(plan.shared_names())

        def read(name: str) -> torch.Tensor:
            return self.weights.shared(name) if name in shared else expert.read(name)

        model = self._model = self._model or skeleton(plan.trunk.config)
        handles = []
        for position, layer in enumerate(plan.layers):

            def hook(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...], position: int = position) -> None:
                use(position, inputs[0].flatten(0, 1).float())

            module = model.get_submodule(f"{family.layers}.{layer}.{family.feed_forward}")
            handles.append(module.register_forward_pre_hook(hook))
        try:
            with reading_by_layer(model, family.layers, read, (compute_device(), self.dtype), head=False):
                model.base_model(input_ids=tokens_NT.to(compute_device()), use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
