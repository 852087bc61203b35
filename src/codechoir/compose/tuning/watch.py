"""What the token routers of a running composed model say and choose, taken by hooks; the model's outputs stay.

Shapes: L layers with experts, N tokens, E experts, K experts a token.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from codechoir.model.moe import ExpertBlock


class Watch:
    """The decisions of the latest forward passes under token routing, by layer."""

    def __init__(self, model: Any) -> None:
        self.blocks = [module for module in model.modules() if isinstance(module, ExpertBlock)]
        self.logits: list[torch.Tensor] = []  # (N, E) a layer
        self.chosen: list[torch.Tensor] = []  # (N, K) a layer

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Takes what is decided within; what was taken before is forgotten."""
        self.logits, self.chosen = [], []
        handles = []
        for block in self.blocks:
            handles.append(block.router.register_forward_hook(self._take_logits))
            handles.append(block.experts.register_forward_pre_hook(self._take_chosen))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _take_logits(self, _: torch.nn.Module, __: tuple[torch.Tensor, ...], logits_NE: torch.Tensor) -> None:
        self.logits.append(logits_NE)

    def _take_chosen(self, _: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        self.chosen.append(given[1])

    def counts(self) -> torch.Tensor:
        """How often each layer chose each expert, (L, E), on the CPU."""
        num_experts = self.logits[0].shape[-1]
        return torch.stack([torch.bincount(each.flatten(), minlength=num_experts) for each in self.chosen]).cpu()
