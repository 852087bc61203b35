import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.evaluate.statistics import Sums, estimate, pass_at_k, ratio, resample


@pytest.mark.parametrize("n", range(1, 8))
def test_pass_at_k_is_the_share_of_subsets_with_a_solution(n):
    for passed, k in itertools.product(range(n + 1), range(1, n + 1)):
        samples = [True] * passed + [False] * (n - passed)
        subsets = list(itertools.combinations(samples, k))
        assert pass_at_k(n, passed, k) == pytest.approx(sum(map(any, subsets)) / len(subsets), abs=1e-15)


def published(n, c, k):
    """The numerically stable form printed in the Codex paper, figure 3."""
    return 1.0 if n - c < k else 1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1))


@given(st.integers(1, 200), st.data())
def test_pass_at_k_is_the_published_formula(n, data):
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    assert pass_at_k(n, c, k) == pytest.approx(published(n, c, k), abs=1e-12)


def test_pass_at_k_is_undefined_for_fewer_samples_than_k():
    assert math.isnan(pass_at_k(1, 1, 2))
    for impossible in [(2, 3, 1), (2, -1, 1), (2, 1, 0)]:
        with pytest.raises(ValueError, match="no such counts"):
            pass_at_k(*impossible)


def sums(numerators, denominators=None):
    values = np.asarray(numerators, dtype=np.float64)
    below = np.ones(len(values)) if denominators is None else np.asarray(denominators, dtype=np.float64)
    return Sums(tuple(str(index) for index in range(len(values))), values, below)


def test_a_ratio_is_of_sums_not_a_mean_of_ratios():
    assert ratio(sums([1, 9], [1, 3])) == [10 / 4]
    weights = np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    assert list(ratio(sums([1, 9], [1, 3]), weights)) == [1.0, 3.0, 2.5]


def test_the_interval_is_that_of_the_central_limit_theorem():
    values = np.random.default_rng(7).normal(3.0, 2.0, 400)
    units = sums(values)
    weights = resample({"x": units.keys}, 4000, [1], shared=False)["x"]
    result = estimate(ratio(units), ratio(units, weights), 400)
    error = values.std() / math.sqrt(400)
    assert result.value == pytest.approx(values.mean())
    assert result.low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert result.high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


@given(st.integers(1, 30), st.integers(0, 5), st.booleans())
def test_every_resample_draws_as_many_units_as_there_are(count, seed, shared):
    keys = [str(index) for index in range(count)]
    weights = resample({"x": keys, "y": keys}, 100, [seed], shared=shared)
    assert (weights["x"].sum(axis=1) == count).all()
    again = resample({"x": keys, "y": keys}, 100, [seed], shared=shared)
    assert (weights["x"] == again["x"]).all() and (weights["y"] == again["y"]).all()
    assert (weights["x"] == weights["y"]).all() or not shared


def test_shared_units_are_drawn_together_by_key_and_others_apart():
    strata = {"x": ["a", "b", "c"], "y": ["c", "a"]}
    weights = resample(strata, 200, [0], shared=True)
    assert (weights["x"][:, [2, 0]] == weights["y"]).all()
    apart = resample(strata, 200, [0], shared=False)
    assert (apart["y"].sum(axis=1) == 2).all() and (apart["x"][:, [2, 0]] != apart["y"]).any()


def test_undefined_is_nan():
    one = sums([5.0])
    alone = estimate(ratio(one), ratio(one, np.ones((100, 1))), 1)
    assert alone.value == 5.0 and math.isnan(alone.low) and math.isnan(alone.high)
    assert math.isnan(estimate(ratio(sums([1.0], [0.0])), np.array([]), 1).value)
    assert math.isnan(estimate(ratio(sums([])), np.array([]), 0).value)
