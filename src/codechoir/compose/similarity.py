"""How alike a composed model's experts are, layer by layer.

In: a composed folder, opened. Out: for each layer with experts the cosine of any two experts' feed-forward weights, and
of their differences from the experts' mean. Weights are close to 1 for experts of one base, so the differences tell:
E experts that have nothing in common but their base have differences with a cosine of -1 / (E - 1). One tensor of all
experts is in memory at a time.

Shapes: E experts, W weights of one tensor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from codechoir.compose.views import ComposedView


@dataclass(frozen=True, slots=True)
class LayerSimilarity:
    """One layer. Cosines are (E, E), rows and columns in the experts' order; None where a vector is zero.

    `spread` is each expert's distance from the mean, as a share of the mean's length.
    """

    layer: int
    weights: tuple[tuple[float | None, ...], ...]
    differences: tuple[tuple[float | None, ...], ...]
    spread: tuple[float, ...]


def similarities(view: ComposedView) -> list[LayerSimilarity]:
    """Every layer with experts, in order."""
    return [_layer(view, layer) for layer in view.composed.layers()]


def _layer(view: ComposedView, layer: int) -> LayerSimilarity:
    checkpoints = list(view.checkpoints.values())
    num_experts = len(checkpoints)
    gram_EE = torch.zeros(num_experts, num_experts, dtype=torch.float64)
    centred_EE, mean_square = torch.zeros_like(gram_EE), 0.0
    for name in view.composed.family.feed_forward_names(layer):
        weights_EW = torch.stack([checkpoint.read(name).flatten().float() for checkpoint in checkpoints])
        gram_EE += (weights_EW @ weights_EW.T).double()
        mean_W = weights_EW.mean(dim=0)
        mean_square += float(mean_W.square().sum(dtype=torch.float64))
        weights_EW -= mean_W  # before the products: their difference would be lost in rounding
        centred_EE += (weights_EW @ weights_EW.T).double()
    spread_E = (centred_EE.diagonal() / mean_square).sqrt() if mean_square else centred_EE.diagonal() * float("nan")
    return LayerSimilarity(
        layer, _cosines(gram_EE), _cosines(centred_EE), tuple(round(float(share), 6) for share in spread_E)
    )


def _cosines(gram_EE: torch.Tensor) -> tuple[tuple[float | None, ...], ...]:
    lengths_E = gram_EE.diagonal().sqrt()
    cosines_EE = gram_EE / torch.outer(lengths_E, lengths_E)  # 0 / 0 is not a number
    return tuple(
        tuple(None if math.isnan(cosine) else round(cosine, 6) for cosine in row) for row in cosines_EE.tolist()
    )
