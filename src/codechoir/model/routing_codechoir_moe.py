"""How the batch now in a composed model is routed: what its blocks read and its forward sets.

Copied into each composed folder with the modelling code, so it needs torch alone.

Shapes: B sequences, T tokens, N = B x T, E experts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum

import torch

_HASH_FACTOR = 2654435761  # Knuth's multiplicative hash, so that neighbouring token ids part


class Routing(StrEnum):
    """Who decides which experts a token goes to."""

    PROMPT = "prompt"  # the prompt router, once a sequence
    TOKEN = "token"  # each layer's linear router, each token
    FIXED = "fixed"  # the caller, once a sequence (the oracle, when the caller knows the language)
    UNIFORM = "uniform"  # all experts, equal weights
    HASH = "hash"  # the token's id alone (arXiv 2106.04426), a control


class Mixture:
    """Sequences that share a route: their expert or experts, the weights of these, and which rows they are."""

    def __init__(self, experts: Sequence[int], weights: Sequence[float], rows: Sequence[int]) -> None:
        self.experts, self.weights, self.rows = tuple(experts), tuple(weights), list(rows)


class Route:
    """The route of the batch now in the model; shared by all its blocks."""

    def __init__(self, routing: Routing, top_k: int) -> None:
        self.routing, self.top_k = Routing(routing), top_k
        self.through_backend = False  # send routes by sequence through the expert backend, too
        self.mixtures: list[Mixture] = []  # routes by sequence, and the same as tensors:
        self.weights_BE: torch.Tensor | None = None
        self.num_chosen = 1  # the most experts that a sequence has
        self.experts_N1: torch.Tensor | None = None  # hash routing
        self.mask_BT: torch.Tensor | None = None  # 1 where a token counts
        self.counts_BE: torch.Tensor | None = None  # token and hash routing: decisions so far, weighted
        self.pending: list[int] = []  # fixed routing: each sequence's expert, by the caller
        self.held = False  # the caller has set the routes of the sequences in the cache; forward sets none
        self.trace: list[torch.Tensor] | None = None  # token and hash routing: each layer's first choices (N), if asked

    def by_sequence(self, weights_BE: torch.Tensor) -> None:
        """Sets each sequence's weight of each expert, float32; an expert of weight 0 is not run."""
        self.weights_BE = weights_BE
        rows: dict[tuple[float, ...], list[int]] = {}
        for row, weights in enumerate(weights_BE.tolist()):
            rows.setdefault(tuple(weights), []).append(row)
        self.mixtures = []
        for weights, places in rows.items():
            chosen = [expert for expert, weight in enumerate(weights) if weight]
            self.mixtures.append(Mixture(chosen, [weights[expert] for expert in chosen], places))
        self.num_chosen = max(len(mixture.experts) for mixture in self.mixtures)

    def by_hash(self, input_ids: torch.Tensor, num_experts: int) -> None:
        """Sets each token's expert by its id alone."""
        self.experts_N1 = (input_ids.reshape(-1, 1) * _HASH_FACTOR >> 8) % num_experts

    def keep(self, rows: torch.Tensor) -> None:
        """Drops all sequences but `rows`, which take their order."""
        if self.weights_BE is not None:
            self.by_sequence(self.weights_BE[rows.to(self.weights_BE.device)])
        if self.counts_BE is not None:
            self.counts_BE = self.counts_BE[rows.to(self.counts_BE.device)]

    def join(self, other: Route) -> None:
        """Puts the sequences of `other`, routed alike, below these."""
        if self.weights_BE is not None and other.weights_BE is not None:
            self.by_sequence(torch.cat([self.weights_BE, other.weights_BE]))
        if self.counts_BE is not None and other.counts_BE is not None:
            self.counts_BE = torch.cat([self.counts_BE, other.counts_BE])

    @contextmanager
    def led_by(self, other: Route) -> Iterator[None]:
        """Holds the routes of `other`, one running batch among others, for the forward passes within."""
        own = dict(vars(self))
        vars(self).update(vars(other) | {"held": True})
        try:
            yield
        finally:
            vars(self).update(own)

    def shares(self, experts: Sequence[str]) -> list[dict[str, float]]:
        """For each sequence: expert -> share of the routing decisions so far."""
        decided_BE = self.weights_BE if self.counts_BE is None else self.counts_BE
        if decided_BE is None:
            return []
        shares_BE = decided_BE / decided_BE.sum(dim=1, keepdim=True).clamp_min(1e-9)
        rows = shares_BE.tolist()
        return [{name: round(share, 4) for name, share in zip(experts, row, strict=True) if share} for row in rows]


def top_k_in_training(
    logits_NE: torch.Tensor, top_k: int, bias_E: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixtral's rule with a gradient for every router: weights (N, K) and experts (N, K).

    A single weight is 1 and has the gradient of its probability (straight through, arXiv 1308.3432), since renormalised
    it would have none. `bias_E` is added to the probabilities for the choice alone (arXiv 2408.15664, eq. 3).
    """
    probabilities_NE = torch.softmax(logits_NE, dim=-1)
    scores_NE = probabilities_NE if bias_E is None else probabilities_NE + bias_E
    chosen_NK = scores_NE.topk(top_k, dim=-1).indices
    weights_NK = probabilities_NE.gather(-1, chosen_NK)
    if top_k == 1:
        return 1 + (weights_NK - weights_NK.detach()), chosen_NK
    return weights_NK / weights_NK.sum(dim=-1, keepdim=True), chosen_NK
