"""Sampling: published sample sizes, a textbook's allocation, brute force, and simulated coverage of the interval."""

import itertools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.data.config import SamplingConfig
from codechoir.data.corpus.sampling import (
    RANKS,
    Cluster,
    Stratum,
    cluster_size,
    correlation,
    neyman,
    sample_plan,
    sample_rank,
)
from codechoir.errors import ConfigError

VALUES = st.lists(st.lists(st.floats(-50, 50), min_size=1, max_size=6), min_size=1, max_size=6)


def config(**values: Any) -> SamplingConfig:
    return SamplingConfig.parse(values, "test")


def stratum(*values: list[float], language: str = "python") -> Stratum:
    return Stratum(language, tuple(map(Cluster.of, values)))


def flat(num_files: int, deviation: float = 0.0) -> Stratum:
    """`num_files` files, each in a repository of its own, whose quantity has about this standard deviation."""
    half = num_files // 2
    return stratum(*[[-deviation]] * half, *[[deviation]] * (num_files - half))


@pytest.mark.parametrize(
    ("precision", "confidence", "expected"),
    # the usual tables at 95% for a population without end, and 1.645^2/4/0.05^2 and 2.576^2/4/0.05^2
    [(0.05, 0.95, 385), (0.02, 0.95, 2401), (0.01, 0.95, 9604), (0.05, 0.90, 271), (0.05, 0.99, 664)],
)
def test_the_size_for_an_endless_population_is_the_tables(precision: float, confidence: float, expected: int) -> None:
    (plan,) = sample_plan([stratum([0.0] * 10**6)], config(precision=precision, confidence=confidence, rho=0))
    assert math.ceil(plan.n0) == expected
    assert plan.design_effect == 1
    assert plan.allocated == plan.chosen == plan.required <= expected


@pytest.mark.parametrize(
    ("num_files", "expected"),
    # Krejcie and Morgan (1970), table 1: 5%, 95%, p = 0.5
    [(100, 80), (500, 217), (1000, 278), (3000, 341), (10000, 370), (50000, 381)],
)
def test_the_finite_population_correction_gives_the_published_table(num_files: int, expected: int) -> None:
    (plan,) = sample_plan([stratum([0.0] * num_files)], config(rho=0))
    assert abs(plan.required - expected) <= 1  # the table rounds to the nearest
    assert plan.reached <= 0.05


def test_every_step_can_be_followed_by_hand() -> None:
    # 300 files in 30 repositories of 10; deff = 1 + 9 * 0.2 = 2.8; 384.146 * 2.8 = 1075.61; N = 300
    (plan,) = sample_plan([stratum(*[[0.0] * 10] * 30)], config(rho=0.2))
    assert plan.z == pytest.approx(1.959964, abs=1e-6)
    assert plan.n0 == pytest.approx(384.1459, abs=1e-4)
    assert (plan.num_files, plan.num_repositories, plan.cluster_size) == (300, 30, 10)
    assert plan.design_effect == pytest.approx(2.8)
    assert plan.inflated == pytest.approx(1075.608, abs=1e-3)
    assert plan.finite == pytest.approx(1 / (1 + 1074.608 / 300), abs=1e-6)
    assert plan.required == 235  # 234.75


def test_large_repositories_weigh_by_their_files() -> None:
    assert cluster_size(stratum([0] * 90, *[[0]] * 10).clusters) == pytest.approx((90 * 90 + 10) / 100)
    assert cluster_size(()) == 1


def test_an_empty_language_gets_nothing_and_no_precision() -> None:
    empty, full = sample_plan([Stratum("java", ()), stratum([1.0], [2.0])], config(total=5))
    assert (empty.num_files, empty.required, empty.chosen) == (0, 0, 0) and math.isnan(empty.reached)
    assert (full.chosen, full.reached) == (2, 0)


def test_one_repository_tells_no_correlation_and_speaks_for_itself() -> None:
    (plan,) = sample_plan([stratum([1.0, 5.0] * 5000)], config())
    assert math.isnan(plan.rho)
    assert (plan.design_effect, plan.required) == (1, 370)


@given(VALUES)
def test_the_correlation_is_that_of_an_analysis_of_variance(values: list[list[float]]) -> None:
    found = correlation(stratum(*values).clusters)
    everything = np.concatenate(values)
    if len(values) < 2:
        assert math.isnan(found)
        return
    if len(everything) == len(values):
        assert found == 0
        return
    # the table in numpy, from the values themselves
    sizes = np.array([len(group) for group in values])
    msb = sum(len(group) * (np.mean(group) - everything.mean()) ** 2 for group in values) / (len(values) - 1)
    msw = sum(((np.array(group) - np.mean(group)) ** 2).sum() for group in values) / (len(everything) - len(values))
    m0 = (len(everything) - (sizes**2).sum() / len(everything)) / (len(values) - 1)
    if msb + (m0 - 1) * msw > 1e-6:
        assert found == pytest.approx(np.clip((msb - msw) / (msb + (m0 - 1) * msw), 0, 1), abs=1e-5)
    assert 0 <= found <= 1


@given(VALUES)
def test_the_deviation_is_numpys(values: list[list[float]]) -> None:
    everything = np.concatenate(values)
    expected = everything.std(ddof=1) if len(everything) > 1 else 0
    assert stratum(*values).deviation == pytest.approx(expected, abs=1e-5)


def test_the_correlation_of_simulated_repositories_is_found() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(2, 40, 400)
    values = [list(rng.normal(rng.normal(0, math.sqrt(0.3)), math.sqrt(0.7), size)) for size in sizes]
    assert correlation(stratum(*values).clusters) == pytest.approx(0.3, abs=0.05)


def test_a_textbooks_neyman_allocation() -> None:
    # Scheaffer, Mendenhall, Ott, Elementary Survey Sampling: viewers in two towns and a rural area, N = 155, 62, 93,
    # standard deviations 5, 15, 10: N S = 775, 930, 930, so the shares are 0.294, 0.353, 0.353
    strata = [flat(155, 5), flat(62, 15), flat(93, 10)]
    allocation = neyman(strata, 58)
    assert sum(allocation) == 58
    assert allocation == pytest.approx([17.06, 20.47, 20.47], abs=1)


@given(
    st.lists(st.tuples(st.integers(0, 12), st.floats(0, 9)), min_size=1, max_size=3),
    st.integers(0, 30),
)
def test_no_other_division_in_whole_files_has_less_variance(sizes: list[tuple[int, float]], more: int) -> None:
    strata = [flat(*size) for size in sizes]
    total = sum(size > 0 for size, _ in sizes) + more
    found = neyman(strata, max(1, total))

    def variance(counts: tuple[int, ...]) -> float:
        return sum(
            (one.num_files * one.deviation) ** 2 / count for one, count in zip(strata, counts, strict=True) if count
        )

    taken = min(total, sum(size for size, _ in sizes))
    choices = [range(min(1, size), size + 1) for size, _ in sizes]
    possible = [counts for counts in itertools.product(*choices) if sum(counts) == taken]
    assert found in possible
    assert variance(found) <= min(map(variance, possible)) * (1 + 1e-9)


@given(st.lists(st.tuples(st.integers(1, 40), st.floats(0, 9)), min_size=1, max_size=4), st.integers(4, 60))
def test_a_larger_total_takes_from_no_language(sizes: list[tuple[int, float]], total: int) -> None:
    strata = [flat(*size) for size in sizes]
    smaller, larger = neyman(strata, total), neyman(strata, total + 1)
    assert all(before <= after for before, after in zip(smaller, larger, strict=True))


def test_without_deviation_the_files_count() -> None:
    assert neyman([flat(300), flat(100)], 40) == (30, 10)


def test_a_total_without_a_file_for_each_language_is_refused() -> None:
    with pytest.raises(ConfigError, match="leaves a language without a file") as caught:
        sample_plan([flat(3), flat(3), Stratum("java", ())], config(total=1))
    assert "2 or more" in caught.value.allowed


@pytest.mark.parametrize("rho", [-0.1, 1.5, "guess"])
def test_a_correlation_out_of_range_is_refused(rho: object) -> None:
    with pytest.raises(ConfigError, match="rho"):
        config(rho=rho)


def coverage(num_clusters: int, size: int, rho: float, precision: float) -> float:
    """How often p lies within `precision` of the share in so many whole repositories; p = 0.5, beta-binomial."""
    rng = np.random.default_rng(1)
    strength = (1 - rho) / (2 * rho)  # a beta(a, a) in which two draws of one repository correlate by rho
    shares = rng.binomial(size, rng.beta(strength, strength, (4000, num_clusters))).mean(axis=1) / size
    return float((np.abs(shares - 0.5) <= precision).mean())


def test_the_interval_covers_as_stated_with_the_design_effect_and_not_without() -> None:
    size, rho = 20, 0.3
    (plan,) = sample_plan([stratum(*[[0.0] * size] * 20000)], config(precision=0.04, rho=rho))
    assert coverage(math.ceil(plan.required / size), size, rho, 0.04) == pytest.approx(0.95, abs=0.015)
    assert coverage(math.ceil(plan.n0 / size), size, rho, 0.04) < 0.65


def smallest(keys: Iterable[str], seed: int, count: int) -> set[str]:
    """The keys that a sample of this size takes."""
    return set(sorted(keys, key=lambda key: (sample_rank(seed, key), key))[:count])


def test_files_chosen_by_rank_cover_at_least_as_stated() -> None:
    # A corpus of 60 repositories out of many, and of it the files of smallest rank: the error against all repositories.
    rng = np.random.default_rng(2)
    keys = [f"repository-{number // 12}/{number % 12}" for number in range(720)]
    (plan,) = sample_plan([stratum(*[[0.0] * 12] * 60)], config(precision=0.1, rho=0.2))
    hits = 0
    for seed in range(200):
        chosen = smallest(keys, seed, plan.chosen)
        assert len(chosen) == plan.chosen
        labels = dict(zip(keys, (rng.random(720) < np.repeat(rng.beta(2, 2, 60), 12)).tolist(), strict=True))
        hits += abs(sum(labels[key] for key in chosen) / plan.chosen - 0.5) <= 0.1
    assert hits / 200 >= 0.93


@given(st.sets(st.text(max_size=5), max_size=20), st.sets(st.text(max_size=5), max_size=20), st.integers(0, 9))
def test_files_added_move_no_other(old: set[str], added: set[str], seed: int) -> None:
    for count in (0, 1, 5):
        before, after = smallest(old, seed, count), smallest(old | added, seed, count)
        assert after & old <= before
        assert len(before - after) <= len(added - old)
    assert sorted(old, key=lambda key: sample_rank(seed, key)) == [
        key for key in sorted(old | added, key=lambda key: sample_rank(seed, key)) if key in old
    ]


def test_ranks_are_as_documented_and_even() -> None:
    # printf '0:repo/a.py' | sha256sum
    assert f"{sample_rank(0, 'repo/a.py'):016x}" == "3a888ff9ea281589"
    ranks = [sample_rank(3, f"file-{number}") / RANKS for number in range(4000)]
    counts, _ = np.histogram(ranks, bins=10, range=(0, 1))
    assert ((counts - 400) ** 2 / 400).sum() < 27.9  # chi-squared, 9 degrees of freedom, p = 0.001
    assert sample_rank(4, "file-0") != sample_rank(3, "file-0")
