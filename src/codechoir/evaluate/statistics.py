"""Estimators and their uncertainty: pass@k, ratios of sums, the bootstrap, and paired tests, all clustered.

A unit is a document, a gap or a problem. A cluster is what makes units alike: the package of documents, or the problem
that is set in several languages. Clusters are drawn, or exchanged, as wholes, since units within one are no independent
witnesses. Intervals are widened for few clusters; below six or so they are a little too narrow all the same, and the
permutation test is not.
Pure functions of numbers. Knows nothing of models, files or languages' names. Undefined is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_EXACT_CLUSTERS = 16  # 2^16 exchanges are counted at once
_DRAWN_AT_ONCE = 1024
_TIE = 1e-9  # relative: what rounding may move a sum by
_POWER, _LEVEL = 0.8, 0.05


@dataclass(frozen=True, slots=True)
class Sums:
    """One model's units of one language: its value is sum(numerators) / sum(denominators)."""

    keys: tuple[str, ...]
    clusters: tuple[str, ...]  # (units,)
    numerators: Floats  # (units,)
    denominators: Floats  # (units,)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Paired:
    """A paired difference by clusters, over one language or the mean of several."""

    contributions: Floats  # (clusters,): they sum to the difference
    residuals: Floats  # (clusters,): what is left when each unit's expected share is taken away, scaled by their number


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


def resample(strata: Mapping[str, Sequence[str]], resamples: int, seed: Sequence[int]) -> dict[str, Floats]:
    """Bootstrap weights, (resamples, units) for each stratum, given the cluster of each unit.

    Clusters are drawn whole and with replacement, one fewer than there are, by which the variance comes out right (Rao
    and Wu 1988, J. Am. Stat. Assoc. 83, 231-241). Strata that share a cluster (languages that share problems) are drawn
    from together, so that a cluster has one weight in all of them; strata that share none keep their own number.
    """
    rng = np.random.default_rng(list(seed))
    weights: dict[str, Floats] = {}
    for names in _connected(strata):
        clusters = sorted({cluster for name in names for cluster in strata[name]})
        place = {cluster: index for index, cluster in enumerate(clusters)}
        drawn = _draw(rng, len(clusters), resamples)
        weights |= {name: drawn[:, [place[cluster] for cluster in strata[name]]] for name in names}
    return weights


def _connected(strata: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """The strata in groups: two that share a cluster, directly or through others, are in one."""
    groups: list[tuple[list[str], set[str]]] = []
    for name, clusters in strata.items():
        names, held = [name], set(clusters)
        apart = []
        for other in groups:
            if held.isdisjoint(other[1]):
                apart.append(other)
            else:
                names, held = [*other[0], *names], held | other[1]
        groups = [*apart, (names, held)]
    return [names for names, _ in groups]


def degrees_of_freedom(strata: Mapping[str, Sequence[str]]) -> int:
    """How many clusters there are, less one for each group of strata that share some; given each unit's cluster.

    0 where such a group has but one: it says nothing of how far its own value may be off, and so nothing of a mean that
    it is part of.
    """
    counts = [len({each for name in names for each in strata[name]}) for names in _connected(strata)]
    return sum(counts) - len(counts) if min(counts, default=0) > 1 else 0


def _draw(rng: np.random.Generator, count: int, resamples: int) -> Floats:
    if count == 0:
        return np.zeros((resamples, 0))
    return rng.multinomial(max(1, count - 1), np.full(count, 1.0 / count), size=resamples).astype(np.float64)


def ratio(sums: Sums, weights: Floats | None = None) -> Floats:
    """The value, shape (1,), or with weights (resamples, units) the value of each resample, shape (resamples,)."""
    drawn = np.ones((1, len(sums.keys))) if weights is None else weights
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient: Floats = (drawn @ sums.numerators) / (drawn @ sums.denominators)
    return quotient


def estimate(value: Floats, resampled: Floats, freedom: int) -> Estimate:
    """The 95% interval around a value: percentiles, as far out as Student's t with `freedom` degrees has its own.

    Hesterberg's expanded percentiles (What Teachers Should Know about the Bootstrap, arXiv 1411.5279). No interval
    without freedom. A resample in which a stratum went empty has no value and is left out.
    """
    defined = resampled[np.isfinite(resampled)]
    if freedom < 1 or len(defined) == 0:
        return Estimate(_finite(value), math.nan, math.nan)
    beyond = NormalDist().cdf(-student_quantile(freedom))
    low, high = np.quantile(defined, [beyond, 1 - beyond])
    return Estimate(_finite(value), float(low), float(high))


def rate_bounds(value: float, num_clusters: int) -> tuple[float, float]:
    """The exact 95% interval of a rate that is 0 in all clusters, or 1 in all (Clopper and Pearson 1934)."""
    least = (_LEVEL / 2) ** (1 / num_clusters)
    return (0.0, 1.0 - least) if value == 0 else (least, 1.0)


def student_quantile(freedom: int) -> float:
    """What the absolute value of Student's t stays under with a chance of 95%."""
    low, high = 0.0, 13.0  # of one degree it is 12.7
    while high - low > _TIE:
        middle = (low + high) / 2
        low, high = (middle, high) if _student_within(middle, freedom) < 1 - _LEVEL else (low, middle)
    return high


def _student_within(bound: float, freedom: int) -> float:
    """The chance that |t| <= bound: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4."""
    angle = math.atan2(bound, math.sqrt(freedom))
    is_odd = freedom % 2 == 1
    term = math.cos(angle) if is_odd else 1.0
    total = 0.0
    for power in range(1 + is_odd, freedom, 2):
        total += term
        term *= power / (power + 1) * math.cos(angle) ** 2
    inner = math.sin(angle) * total
    return 2 / math.pi * (angle + inner) if is_odd else inner


def _finite(value: Floats) -> float:
    return float(value[0]) if np.isfinite(value[0]) else math.nan


def paired(strata: Sequence[tuple[Sums, Floats]]) -> Paired:
    """The difference of two models by clusters: the mean over `strata` of sum(numerators - others) / sum(denominators).

    Each stratum is one language: a model's sums, and the other side's numerators of the same units and denominators.
    A residual is that of a ratio estimator (Cochran, Sampling Techniques, 3rd edition, chapter 6), summed within a
    cluster: unit i of stratum s adds (d_i - D_s x_i) / (X_s S), with x its denominator and D_s the stratum's value,
    times sqrt(G / (G - 1)) for the G clusters of the stratum and of those that share some with it.
    """
    named = {str(place): sums.clusters for place, (sums, _) in enumerate(strata)}
    factors: dict[str, float] = {}
    for names in _connected(named):
        clusters = {each for name in names for each in named[name]}
        factors |= dict.fromkeys(clusters, math.sqrt(len(clusters) / max(1, len(clusters) - 1)))
    totals: dict[str, float] = {}
    rests: dict[str, float] = {}
    for sums, others in strata:
        differences = sums.numerators - others
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = differences / (sums.denominators.sum() * len(strata))
            sizes = sums.denominators / sums.denominators.sum()
            residuals = shares - shares.sum() * sizes
        for cluster, share, residual in zip(sums.clusters, shares, residuals, strict=True):
            totals[cluster] = totals.get(cluster, 0.0) + float(share)
            rests[cluster] = rests.get(cluster, 0.0) + factors[cluster] * float(residual)
    names = sorted(totals)
    return Paired(np.array([totals[name] for name in names]), np.array([rests[name] for name in names]))


def permutation_p(contributions: Floats, permutations: int, seed: Sequence[int]) -> float:
    """The two-sided p-value of a sum of paired differences, were the two models alike: a sign-flip test on clusters.

    If the models were alike, exchanging them within any cluster would change nothing but that cluster's sign. The
    p-value is the share of all 2^G exchanges whose sum is at least as far from 0 as the one seen; it is counted exactly
    up to 16 clusters that differ (Fisher, The Design of Experiments, 1935, section 21), else estimated from m random
    ones as (b + 1) / (m + 1), which is a valid test itself (Phipson and Smyth 2010, arXiv 1603.05766). Clusters without
    a difference change no sum. NaN for fewer than two clusters, or where a contribution is undefined.
    """
    if len(contributions) < 2 or not np.isfinite(contributions).all():
        return math.nan
    moving = contributions[contributions != 0]
    least = abs(float(moving.sum())) - _TIE * float(np.abs(moving).sum())
    if len(moving) <= _EXACT_CLUSTERS:
        sums = np.zeros(1)
        for each in moving:
            sums = np.concatenate((sums + each, sums - each))
        return float((np.abs(sums) >= least).mean())
    rng = np.random.default_rng(list(seed))
    as_far = 0
    for start in range(0, permutations, _DRAWN_AT_ONCE):
        rows = min(_DRAWN_AT_ONCE, permutations - start)
        signs = 1.0 - 2.0 * rng.integers(0, 2, size=(rows, len(moving)), dtype=np.int8)
        as_far += int((np.abs(signs @ moving) >= least).sum())
    return (as_far + 1) / (permutations + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, in the given order (Holm 1979, Scand. J. Statist. 6, 65-70).

    The i-th smallest of m becomes the largest of (m - j + 1) p_(j) over j <= i, at most 1: comparing it with a level
    keeps the chance of any false claim among the m below that level. Undefined ones stay so and do not count.
    """
    order = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    adjusted = [math.nan] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        adjusted[place] = largest
    return adjusted


def standard_error(residuals: Floats) -> float:
    """The standard error of a paired difference from its clusters' residuals r: sqrt(sum r^2). NaN for fewer than two.

    Miller, Adding Error Bars to Evals (arXiv 2411.00640), sections 2.2 and 4.2, for sums over clusters that may differ
    in size; the residuals hold the correction for the clusters' number.
    """
    return math.sqrt(float((residuals**2).sum())) if len(residuals) > 1 else math.nan


def detectable(error: float, num_clusters: int, num_tests: int = 1) -> float:
    """The minimum detectable effect: (z_0.975 + z_0.8) standard errors of the paired difference, about 2.8.

    A true difference of this size gives p < 0.05 (two-sided) with a chance of 80%: the power analysis of Miller, arXiv
    2411.00640, section 5, solved for the effect. Of several tests the level is the least of Holm's, 0.05 by their
    number. Takes the normal distribution for granted, so is optimistic for few clusters; NaN for so few that the
    sign-flip test finds no difference, however large, and where nothing was seen to vary.
    """
    level = _LEVEL / num_tests
    if error == 0 or 2.0 ** (1 - num_clusters) > level:
        return math.nan
    normal = NormalDist()
    return (normal.inv_cdf(1 - level / 2) + normal.inv_cdf(_POWER)) * error
