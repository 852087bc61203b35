"""Estimators against enumeration, published formulas and simulation."""

import itertools
import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.evaluate.statistics import (
    Sums,
    degrees_of_freedom,
    detectable,
    estimate,
    holm,
    paired,
    pass_at_k,
    permutation_p,
    rate_bounds,
    ratio,
    resample,
    standard_error,
    student_quantile,
)


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


def sums(numerators, denominators=None, clusters=None):
    values = np.asarray(numerators, dtype=np.float64)
    below = np.ones(len(values)) if denominators is None else np.asarray(denominators, dtype=np.float64)
    keys = tuple(str(index) for index in range(len(values)))
    return Sums(keys, keys if clusters is None else tuple(clusters), values, below)


def test_a_ratio_is_of_sums_not_a_mean_of_ratios():
    assert ratio(sums([1, 9], [1, 3])) == [10 / 4]
    weights = np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    assert list(ratio(sums([1, 9], [1, 3]), weights)) == [1.0, 3.0, 2.5]


def test_the_interval_is_that_of_the_central_limit_theorem():
    values = np.random.default_rng(7).normal(3.0, 2.0, 400)
    units = sums(values)
    weights = resample({"x": units.clusters}, 4000, [1])["x"]
    result = estimate(ratio(units), ratio(units, weights), 399)
    error = values.std() / math.sqrt(400)
    assert result.value == pytest.approx(values.mean())
    assert result.low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert result.high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


@given(st.integers(1, 30), st.integers(0, 5))
def test_every_resample_draws_one_cluster_fewer_than_there_are(count, seed):
    keys = [str(index) for index in range(count)]
    weights = resample({"x": keys, "y": keys}, 100, [seed])
    assert (weights["x"].sum(axis=1) == max(1, count - 1)).all()
    again = resample({"x": keys, "y": keys}, 100, [seed])
    assert (weights["x"] == again["x"]).all() and (weights["y"] == again["y"]).all()
    assert (weights["x"] == weights["y"]).all()


def test_units_of_a_cluster_are_drawn_together_within_and_across_strata():
    strata = {"x": ["a", "b", "a"], "y": ["c", "a"], "z": ["d", "e", "f"]}
    weights = resample(strata, 500, [0])
    assert (weights["x"][:, 0] == weights["x"][:, 2]).all()
    assert (weights["x"][:, 0] == weights["y"][:, 1]).all()
    # x and y share clusters, so a, b and c are drawn from together; z keeps its own number
    assert (weights["x"][:, 0] + weights["x"][:, 1] + weights["y"][:, 0] == 2).all()
    assert (weights["z"].sum(axis=1) == 2).all()
    assert (weights["y"].sum(axis=1) != 1).any()


def test_strata_that_are_joined_by_a_third_are_drawn_from_together():
    weights = resample({"x": ["a"], "y": ["b"], "z": ["b", "a"]}, 200, [0])
    assert (weights["x"][:, 0] + weights["y"][:, 0] == 1).all()
    assert (weights["x"][:, 0] != weights["y"][:, 0]).any()


def test_undefined_is_nan():
    one = sums([5.0])
    alone = estimate(ratio(one), ratio(one, np.ones((100, 1))), 0)
    assert alone.value == 5.0 and math.isnan(alone.low) and math.isnan(alone.high)
    assert math.isnan(estimate(ratio(sums([1.0], [0.0])), np.array([]), 1).value)
    assert math.isnan(estimate(ratio(sums([])), np.array([]), 0).value)
    nothing = paired([(sums([1.0, 1.0], [0.0, 0.0]), np.zeros(2))])
    assert math.isnan(permutation_p(nothing.contributions, 100, [0]))
    assert math.isnan(permutation_p(np.array([1.0]), 100, [0]))
    assert math.isnan(permutation_p(np.array([1.0, math.nan]), 100, [0]))
    assert math.isnan(standard_error(np.array([1.0])))
    assert math.isnan(detectable(math.nan, 60))
    assert math.isnan(detectable(0.0, 60))


def enumerated(values):
    """The two-sided p-value by definition: every exchange, one by one."""
    seen = abs(sum(values))
    exchanges = list(itertools.product((1, -1), repeat=len(values)))
    return sum(abs(sum(s * v for s, v in zip(signs, values, strict=True))) >= seen for signs in exchanges) / len(
        exchanges
    )


@given(st.lists(st.integers(-6, 6), min_size=2, max_size=9))
def test_few_clusters_are_counted_exactly(values):
    assert permutation_p(np.array(values, dtype=np.float64), 100, [0]) == enumerated(values)
    # a scale that floats cannot hold exactly makes no tie into a difference
    assert permutation_p(np.array(values) * 0.1 / 3, 100, [0]) == enumerated(values)


@pytest.mark.parametrize(("better", "worse", "equal"), [(5, 0, 100), (9, 2, 40), (12, 12, 3), (30, 14, 0)])
def test_on_yes_or_no_it_is_the_exact_mcnemar_test(better, worse, equal):
    values = np.array([1.0] * better + [-1.0] * worse + [0.0] * equal)
    n, k = better + worse, min(better, worse)
    exact = min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)  # binomial, two-sided
    error = 4 * math.sqrt(exact * (1 - exact) / 20_000)
    found = permutation_p(values, 20_000, [3])
    assert found == pytest.approx(exact, abs=1e-12 if n <= 16 else error)


def test_a_random_exchange_is_never_impossible():
    values = np.ones(40)  # of 2^40 exchanges two are as far from 0
    assert permutation_p(values, 999, [0]) == 1 / 1000
    assert permutation_p(values, 999, [0]) == permutation_p(values, 999, [0])
    assert permutation_p(np.zeros(40), 999, [0]) == 1.0


@pytest.mark.parametrize("clusters", [7, 40])
def test_alike_models_are_told_apart_no_more_often_than_the_level(clusters):
    rng = np.random.default_rng(5)
    trials = 400
    # heavy tails and unequal clusters, which a t-test would not bear
    values = rng.standard_t(2, size=(trials, clusters)) * rng.exponential(size=clusters)
    rejected = sum(permutation_p(each, 199, [number]) <= 0.05 for number, each in enumerate(values))
    assert rejected / trials <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closure_of_bonferroni(values):
    """By definition: a claim's adjusted p is the largest Bonferroni p of the families that it belongs to."""
    families = [
        family for size in range(1, len(values) + 1) for family in itertools.combinations(range(len(values)), size)
    ]
    for place, found in enumerate(holm(values)):
        expected = max(min(1.0, len(f) * min(values[i] for i in f)) for f in families if place in f)
        assert found == pytest.approx(expected)


def test_holm_leaves_undefined_values_out():
    assert holm([]) == []
    found = holm([0.01, math.nan, 0.04])
    assert found[0] == pytest.approx(0.02) and math.isnan(found[1]) and found[2] == pytest.approx(0.04)


@st.composite
def comparisons(draw):
    """Strata of a paired comparison, whose clusters may recur."""
    strata = []
    for _ in range(draw(st.integers(1, 3))):
        count = draw(st.integers(1, 6))
        numbers = st.lists(st.integers(0, 9), min_size=count, max_size=count)
        sizes = draw(st.lists(st.integers(1, 9), min_size=count, max_size=count))
        clusters = draw(st.lists(st.sampled_from("abcd"), min_size=count, max_size=count))
        strata.append((sums(draw(numbers), sizes, clusters), np.array(draw(numbers), dtype=np.float64)))
    return strata


@given(comparisons())
def test_the_contributions_sum_to_the_difference_and_the_residuals_to_nothing(strata):
    found = paired(strata)
    values = [(sum(a.numerators) - sum(b)) / sum(a.denominators) for a, b in strata]
    assert found.contributions.sum() == pytest.approx(np.mean(values))
    assert found.residuals.sum() == pytest.approx(0)
    assert len(found.contributions) == len({cluster for a, _ in strata for cluster in a.clusters})


def test_the_standard_error_is_the_usual_one_where_every_unit_is_a_cluster():
    values = np.random.default_rng(3).normal(size=50)
    found = standard_error(paired([(sums(values), np.zeros(50))]).residuals)
    assert found == pytest.approx(values.std(ddof=1) / math.sqrt(50))


def clustered(rng, clusters, languages):
    """Paired differences with a common part a problem, (problems, languages); their true mean is 0."""
    return rng.normal(size=(clusters, 1)) + 0.5 * rng.normal(size=(clusters, languages))


def strata_of(values):
    names = [f"p{number}" for number in range(len(values))]
    return [(sums(column, clusters=names), np.zeros(len(values))) for column in values.T]


def test_the_standard_error_is_that_of_the_bootstrap_and_of_repetition():
    rng = np.random.default_rng(11)
    means = [clustered(rng, 80, 4).mean() for _ in range(400)]
    values = clustered(rng, 80, 4)
    found = standard_error(paired(strata_of(values)).residuals)
    weights = resample({str(i): a.clusters for i, (a, _) in enumerate(strata_of(values))}, 2000, [1])
    resampled = np.mean([ratio(a, weights[str(i)]) for i, (a, _) in enumerate(strata_of(values))], axis=0)
    assert found == pytest.approx(resampled.std(), rel=0.1)
    assert found == pytest.approx(np.std(means), rel=0.25)


def test_intervals_that_draw_problems_whole_hold_the_truth_as_often_as_they_say_and_others_do_not():
    rng = np.random.default_rng(2)
    trials, held, held_apart = 200, 0, 0
    for trial in range(trials):
        strata = strata_of(clustered(rng, 60, 4))
        for shared in (True, False):
            names = {str(i): [f"{'' if shared else i}{c}" for c in a.clusters] for i, (a, _) in enumerate(strata)}
            weights = resample(names, 300, [trial])
            value = np.mean([ratio(a) for a, _ in strata], axis=0)
            resampled = np.mean([ratio(a, weights[str(i)]) for i, (a, _) in enumerate(strata)], axis=0)
            found = estimate(value, resampled, 59 if shared else 236)
            held += shared and found.low <= 0 <= found.high
            held_apart += not shared and found.low <= 0 <= found.high
    assert 0.90 <= held / trials <= 0.99
    assert held_apart / trials < 0.85


def test_the_detectable_effect_is_found_in_four_of_five():
    least = detectable(1.0, 60)
    normal = NormalDist(least, 1.0)
    assert 1 - normal.cdf(1.959964) + normal.cdf(-1.959964) == pytest.approx(0.8, abs=1e-4)
    rng = np.random.default_rng(8)
    count, trials = 60, 300
    true = detectable(1 / math.sqrt(count), count)
    found = sum(permutation_p(rng.normal(true, 1, count) / count, 999, [n]) <= 0.05 for n in range(trials))
    assert found / trials == pytest.approx(0.8, abs=3 * math.sqrt(0.8 * 0.2 / trials))


@pytest.mark.parametrize(("num_tests", "fewest"), [(1, 6), (4, 8)])
def test_no_effect_is_told_where_the_test_cannot_find_any(num_tests, fewest):
    """Of G clusters the least p is 2 / 2^G: of five 0.0625, however large the difference."""
    assert permutation_p(np.full(fewest - 1, 1e9), 99, [0]) * num_tests > 0.05
    assert permutation_p(np.full(fewest, 1e9), 99, [0]) * num_tests <= 0.05
    assert math.isnan(detectable(1.0, fewest - 1, num_tests))
    assert detectable(1.0, fewest, num_tests) == pytest.approx(
        NormalDist().inv_cdf(1 - 0.025 / num_tests) + NormalDist().inv_cdf(0.8)
    )


def test_freedom_is_of_the_clusters_less_one_a_group():
    assert degrees_of_freedom({"a": ["1", "2", "1"]}) == 1
    assert degrees_of_freedom({"a": ["1", "2", "1"], "b": ["3", "4", "5"]}) == 3
    assert degrees_of_freedom({"a": ["1", "2", "1"], "b": ["3"], "c": ["3", "4", "5"]}) == 3
    assert degrees_of_freedom({"a": ["1", "2", "1"], "b": ["3"]}) == 0
    assert degrees_of_freedom({"a": [], "b": ["3"]}) == 0
    assert degrees_of_freedom({}) == 0


@pytest.mark.parametrize(
    ("freedom", "published"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (5, 2.571), (10, 2.228), (19, 2.093), (30, 2.042), (120, 1.980)],
)
def test_students_quantiles_are_those_of_the_tables(freedom, published):
    assert student_quantile(freedom) == pytest.approx(published, abs=6e-4)


@pytest.mark.parametrize("count", [1, 12, 164])
def test_a_rate_of_nothing_is_bounded_by_the_binomial(count):
    """The bound is the rate by which nothing in `count` draws has a chance of 2.5%."""
    low, high = rate_bounds(0.0, count)
    assert low == 0 and (1 - high) ** count == pytest.approx(0.025)
    assert rate_bounds(1.0, count) == pytest.approx((1 - high, 1.0))


@pytest.mark.parametrize("counts", [(6, 6, 6, 5), (4, 3, 5, 3), (12,)])
def test_intervals_of_few_clusters_hold_the_truth_as_often_as_they_say(counts):
    rng = np.random.default_rng(9)
    trials, held, errors, values = 800, 0, [], []
    for trial in range(trials):
        strata = [sums(rng.normal(size=count)) for count in counts]
        clusters = {str(i): [f"{i}/{key}" for key in each.clusters] for i, each in enumerate(strata)}
        weights = resample(clusters, 800, [trial])
        value = np.mean([ratio(each) for each in strata], axis=0)
        resampled = np.mean([ratio(each, weights[str(i)]) for i, each in enumerate(strata)], axis=0)
        found = estimate(value, resampled, degrees_of_freedom(clusters))
        held += found.low <= 0 <= found.high
        named = [(Sums(a.keys, tuple(clusters[str(i)]), a.numerators, a.denominators), 0) for i, a in enumerate(strata)]
        errors.append(standard_error(paired(named).residuals) ** 2)
        values.append(value)
    assert 0.92 <= held / trials <= 0.975
    assert np.sqrt(np.mean(errors)) == pytest.approx(np.std(values), rel=0.1)
