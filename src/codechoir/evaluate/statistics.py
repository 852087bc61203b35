"""Estimators and their uncertainty: pass@k, ratios of sums, and the bootstrap over documents or problems.

Pure functions of numbers. Knows nothing of models, files or languages' names. Undefined is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sums:
    """One model's units (documents or problems) of one language: its value is sum(numerators) / sum(denominators)."""

    keys: tuple[str, ...]
    numerators: Floats  # (units,)
    denominators: Floats  # (units,)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95% percentile interval, from `count` units."""

    value: float
    low: float
    high: float
    count: int


def pass_at_k(num_samples: int, num_passed: int, k: int) -> float:
    """The unbiased probability that one of k completions passes: 1 - C(n-c, k) / C(n, k).

    Chen et al., Evaluating Large Language Models Trained on Code (arXiv 2107.03374), equation 1, in exact integers.
    NaN where n < k, since n completions say nothing of k > n.
    """
    if not 0 <= num_passed <= num_samples or k < 1:
        raise ValueError(f"no such counts: n={num_samples}, c={num_passed}, k={k}")
    if num_samples < k:
        return math.nan
    return 1.0 - math.comb(num_samples - num_passed, k) / math.comb(num_samples, k)


def resample(
    strata: Mapping[str, Sequence[str]], resamples: int, seed: Sequence[int], *, shared: bool
) -> dict[str, Floats]:
    """Bootstrap weights, (resamples, units) for each stratum: how often each unit is drawn.

    With `shared`, units of one key in several strata (one problem in several languages) are drawn together, as a
    cluster; else each stratum is drawn by itself.
    """
    rng = np.random.default_rng(list(seed))
    if not shared:
        return {name: _draw(rng, len(keys), resamples) for name, keys in strata.items()}
    clusters = sorted({key for keys in strata.values() for key in keys})
    place = {key: index for index, key in enumerate(clusters)}
    weights = _draw(rng, len(clusters), resamples)
    return {name: weights[:, [place[key] for key in keys]] for name, keys in strata.items()}


def _draw(rng: np.random.Generator, count: int, resamples: int) -> Floats:
    if count == 0:
        return np.zeros((resamples, 0))
    return rng.multinomial(count, np.full(count, 1.0 / count), size=resamples).astype(np.float64)


def ratio(sums: Sums, weights: Floats | None = None) -> Floats:
    """The value, shape (1,), or with weights (resamples, units) the value of each resample, shape (resamples,)."""
    drawn = np.ones((1, len(sums.keys))) if weights is None else weights
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient: Floats = (drawn @ sums.numerators) / (drawn @ sums.denominators)
    return quotient


def estimate(value: Floats, resampled: Floats, count: int) -> Estimate:
    """The 95% percentile interval around a value. Fewer than two units have no interval."""
    defined = resampled[np.isfinite(resampled)]
    if count < 2 or len(defined) == 0:
        return Estimate(_finite(value), math.nan, math.nan, count)
    low, high = np.percentile(defined, [2.5, 97.5])
    return Estimate(_finite(value), float(low), float(high), count)


def _finite(value: Floats) -> float:
    return float(value[0]) if np.isfinite(value[0]) else math.nan
