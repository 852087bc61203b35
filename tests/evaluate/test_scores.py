"""Scores and comparisons of made-up measurements, worked out by hand."""

import math

import numpy as np
import pytest

from codechoir.errors import InputError
from codechoir.evaluate.config import EvaluateConfig
from codechoir.evaluate.ledger import Tally
from codechoir.evaluate.scores import Scored, score
from codechoir.records import Infilling, LogLikelihood

CONFIG = EvaluateConfig(resamples=200)


def likelihood(model, language, key, bits_per_byte, num_bytes=100, package=None):
    return LogLikelihood(
        model=model,
        language=language,
        key=key,
        package=package or f"package of {key}",
        num_bytes=num_bytes,
        num_tokens=num_bytes // 3,
        log_likelihood=-bits_per_byte * num_bytes * math.log(2),
    )


def documents(model, language, *bits):
    return [likelihood(model, language, f"{language}-{index}", each) for index, each in enumerate(bits)]


def infilling(model, language, key, text, expected="x = 1", package=None):
    return Infilling(
        model=model, language=language, key=key, package=package or key, mode="psm", expected=expected, text=text,
        num_tokens=3,
    )  # fmt: skip


def tally(passed, broken=()):
    """One tuple of passes and failures a problem; `broken` are the problems with a program that could not be run."""
    return Tally(
        tuple(f"p{number}" for number in range(len(passed))),
        np.array([len(samples) for samples in passed]),
        np.array([sum(samples) for samples in passed]),
        np.array([int(number in broken) for number in range(len(passed))]),
    )


def of(likelihoods=(), infillings=(), tallies=None, config=CONFIG) -> Scored:
    return score(likelihoods, infillings, tallies or {}, config)


def score_of(scored, model, language, metric):
    (found,) = [each for each in scored.scores if (each.model, each.language, each.metric) == (model, language, metric)]
    return found


def comparison_of(scored, model, against, language, metric="bits_per_byte"):
    wanted = (model, against, language, metric)
    (found,) = [each for each in scored.comparisons if (each.model, each.against, each.language, each.metric) == wanted]
    return found


def test_bits_per_byte_weighs_by_bytes_and_the_mean_weighs_languages_alike():
    given = [
        likelihood("base", "cpp", "a", 8.0, num_bytes=300),  # a model that knows nothing: 8 bits a byte
        likelihood("base", "cpp", "b", 4.0, num_bytes=100),
        likelihood("base", "java", "c", 1.0),
        likelihood("base", "java", "d", 1.0),
    ]
    scored = of(given)
    cpp = score_of(scored, "base", "cpp", "bits_per_byte")
    assert cpp.value == pytest.approx((8 * 300 + 4 * 100) / 400) and (cpp.count, cpp.clusters) == (2, 2)
    assert cpp.low == pytest.approx(4.0) and cpp.high == pytest.approx(
        8.0
    )  # with two documents: one, the other or both
    java = score_of(scored, "base", "java", "bits_per_byte")
    assert (java.value, java.low, java.high) == pytest.approx((1.0, 1.0, 1.0))
    mean = score_of(scored, "base", "mean", "bits_per_byte")
    assert mean.value == pytest.approx((7.0 + 1.0) / 2) and mean.count == 4


def test_documents_of_one_package_are_one_witness():
    hard = [0.5, 1.0, 2.0, 4.0, 8.0, 3.0, 2.5, 1.5]
    scored = {}
    for packages in (1, 2, 8):
        names = [f"p{number % packages}" for number in range(8)]
        given = [
            likelihood(model, "cpp", f"d{number}", bits - gain, package=names[number])
            for model, gain in (("universal", 0.0), ("expert-cpp", 0.01))
            for number, bits in enumerate(hard)
        ]
        scored[packages] = comparison_of(of(given), "expert-cpp", "universal", "cpp")
    assert [each.count for each in scored.values()] == [8, 8, 8]
    assert [each.clusters for each in scored.values()] == [1, 2, 8]
    # of 2^G exchanges, all packages kept or all exchanged are as far from 0 as what was seen
    assert math.isnan(scored[1].p_value) and scored[1].within_noise
    assert scored[2].p_value == 1 / 2 and scored[2].within_noise
    assert scored[8].p_value == 2 / 2**8 and not scored[8].within_noise


def test_pass_at_k_is_the_mean_over_problems():
    passed = [(True, False, False, False), (False,) * 4, (True,) * 4, (True, True, False, False)]
    scored = of(tallies={"base": {"python": tally(passed)}}, config=EvaluateConfig(pass_k=(1, 2), resamples=200))
    one = score_of(scored, "base", "python", "pass@1")
    assert one.value == pytest.approx((1 / 4 + 0 + 1 + 1 / 2) / 4) and (one.count, one.clusters) == (4, 4)
    two = score_of(scored, "base", "python", "pass@2")
    assert two.value == pytest.approx((1 / 2 + 0 + 1 + 5 / 6) / 4)
    assert 0 <= one.low < one.value < one.high <= 1


def test_where_none_passes_the_rate_has_the_binomials_bound_and_no_difference_is_bounded():
    tallies = {model: {"python": tally([(False,)] * 12)} for model in ("universal", "moe-prompt")}
    scored = of(tallies=tallies, config=EvaluateConfig(pass_k=(1,), resamples=200))
    found = score_of(scored, "moe-prompt", "mean", "pass@1")
    assert (found.value, found.low) == (0, 0) and (1 - found.high) ** 12 == pytest.approx(0.025)
    apart = comparison_of(scored, "moe-prompt", "universal", "mean", "pass@1")
    assert (apart.difference, apart.p_value) == (0, 1)
    assert all(map(math.isnan, (apart.low, apart.high, apart.detectable)))


def test_a_gap_is_filled_by_its_line_whatever_white_space_is_around_it():
    given = [
        infilling("base", "python", "a", "x = 1"),
        infilling("base", "python", "b", "    x = 1\n", expected=" x = 1 "),
        infilling("base", "python", "c", "x  = 1"),
        infilling("base", "python", "d", ""),
    ]
    found = score_of(of(infillings=given), "base", "python", "infill_exact_match")
    assert found.value == 0.5 and found.count == 4


def test_exact_match_is_compared_like_the_rest():
    given = [infilling("universal", "python", f"g{n}", "no") for n in range(7)]
    given += [infilling("moe-prompt", "python", f"g{n}", "x = 1") for n in range(7)]
    found = comparison_of(of(infillings=given), "moe-prompt", "universal", "python", "infill_exact_match")
    assert (found.difference, found.p_value) == (1.0, 2 / 2**7)


def test_comparisons_are_paired():
    # Documents differ much, models little and always the same way: only a paired interval excludes 0.
    hard = [0.5, 1.0, 2.0, 4.0, 8.0, 3.0]
    given = documents("universal", "cpp", *hard) + documents("expert-cpp", "cpp", *[each - 0.01 for each in hard])
    scored = of(given)
    found = comparison_of(scored, "expert-cpp", "universal", "cpp")
    assert found.difference == pytest.approx(-0.01) and found.count == 6
    assert found.high < 0 and found.p_value == 2 / 2**6 and not found.within_noise
    intervals = [score_of(scored, model, "cpp", "bits_per_byte") for model in ("universal", "expert-cpp")]
    assert intervals[0].low < intervals[1].high and intervals[1].low < intervals[0].high


def test_equal_models_differ_by_nothing_within_noise():
    given = documents("universal", "cpp", 1.0, 3.0, 2.0) + documents("trunk", "cpp", 1.0, 3.0, 2.0)
    found = comparison_of(of(given), "trunk", "universal", "cpp")
    assert (found.difference, found.p_value, found.within_noise) == (0.0, 1.0, True)
    assert all(map(math.isnan, (found.low, found.high, found.detectable)))  # nothing was seen to vary


def test_holms_correction_is_over_the_languages_and_a_mean_stands_by_itself():
    better = {"cpp": 6, "java": 8, "python": 3}  # so many documents, each a little better
    given = [
        each
        for language, count in better.items()
        for model, bits in (("universal", 1.0), ("soup", 0.9))
        for each in documents(model, language, *([bits] * count))
    ]
    scored = of(given)
    found = {name: comparison_of(scored, "soup", "universal", name) for name in (*better, "mean")}
    assert {name: each.p_value for name, each in found.items() if name != "mean"} == {
        "cpp": 2 / 2**6, "java": 2 / 2**8, "python": 2 / 2**3
    }  # fmt: skip
    assert found["java"].p_adjusted == 3 * 2 / 2**8 and not found["java"].within_noise
    assert found["cpp"].p_adjusted == 2 * 2 / 2**6 and found["cpp"].within_noise
    assert found["python"].p_adjusted == 2 / 2**3
    assert found["mean"].p_adjusted == found["mean"].p_value == pytest.approx(1 / 10_001, abs=3 / 10_001)


def test_the_detectable_effect_is_in_the_metrics_own_units():
    given = documents("universal", "cpp", *[1.0] * 8) + documents("soup", "cpp", *[0.9, 1.1] * 4)
    found = comparison_of(of(given), "soup", "universal", "cpp")
    error = np.std([-0.1, 0.1] * 4, ddof=1) / math.sqrt(8)
    assert found.detectable == pytest.approx((1.959964 + 0.841621) * error, rel=1e-6)


def test_who_is_compared_with_whom():
    models = ["base", "trunk", "universal", "expert-cpp", "expert-java", "soup", "moe-oracle"]
    given = [each for model in models for each in documents(model, "cpp", 1.0, 2.0)]
    given += [each for model in models for each in documents(model, "java", 1.0, 2.0)]
    passed = {model: {"python": tally([(True,), (False,)])} for model in models}
    scored = of(given, tallies=passed)
    pairs = {(each.model, each.against) for each in scored.comparisons if each.language == "mean"}
    assert pairs == {(model, "universal") for model in models if model != "universal"} | {
        ("expert-cpp", "base"),
        ("expert-java", "base"),
        ("moe-oracle", "base"),
    }
    homes = {(each.model, each.language) for each in scored.comparisons if each.against == "other-experts"}
    assert homes == {("expert-cpp", "cpp"), ("expert-java", "java")}
    assert {each.metric for each in scored.comparisons} == {"bits_per_byte", "pass@1"}
    assert {each.language for each in scored.comparisons if each.metric == "pass@1"} == {"python", "mean"}


def test_anybodys_models_are_compared_with_the_first():
    passed = {
        "one": {"python": tally([(True, False)] * 6)},
        "two": {"python": tally([(True, True)] * 6)},
        "three": {"python": tally([(False, False)] * 6)},
    }
    scored = of(tallies=passed, config=EvaluateConfig(pass_k=(2, 1), resamples=200))
    pairs = [(each.model, each.against, each.metric) for each in scored.comparisons if each.language == "python"]
    assert pairs == [("two", "one", "pass@1"), ("three", "one", "pass@1")]
    found = comparison_of(scored, "two", "one", "python", "pass@1")
    assert (found.difference, found.p_value) == (0.5, 2 / 2**6)


def test_home_advantage_is_over_the_mean_of_the_other_experts():
    given = [
        *documents("expert-cpp", "cpp", 1.0, 1.2),
        *documents("expert-java", "cpp", 2.0, 2.2),
        *documents("expert-python", "cpp", 4.0, 4.2),
        *documents("moe-prompt", "cpp", 0.0, 0.0),
    ]
    found = comparison_of(of(given), "expert-cpp", "other-experts", "cpp")
    assert found.difference == pytest.approx(1.1 - 3.1) and found.high < 0 and found.count == 2
    assert found.p_value == 0.5


def test_home_advantages_are_corrected_for_the_number_of_experts():
    given = [
        each
        for language in ("cpp", "java")
        for model in ("expert-cpp", "expert-java")
        for each in documents(model, language, *[1.0 if model.endswith(language) else 2.0] * 7)
    ]
    scored = of(given)
    for language in ("cpp", "java"):
        found = comparison_of(scored, f"expert-{language}", "other-experts", language)
        assert (found.p_value, found.p_adjusted) == (2 / 2**7, 2 * 2 / 2**7)


def test_one_document_has_no_interval_and_is_within_noise():
    given = documents("universal", "cpp", 1.0) + documents("expert-cpp", "cpp", 0.5)
    scored = of(given)
    assert math.isnan(score_of(scored, "universal", "cpp", "bits_per_byte").low)
    found = comparison_of(scored, "expert-cpp", "universal", "cpp")
    assert found.difference == pytest.approx(-0.5) and math.isnan(found.low) and found.within_noise
    assert math.isnan(found.p_value) and math.isnan(found.detectable)


def test_a_language_of_one_package_leaves_the_mean_without_an_interval():
    """Packages differ, but not within the language that has one: its own part of the doubt is not known."""
    given = [
        each
        for language, count in {"cpp": 9, "java": 1}.items()
        for model, bits in (("universal", 1.0), ("soup", 0.9))
        for each in documents(model, language, *(bits + place / 100 for place in range(count)))
    ]
    scored = of(given)
    for figure in (
        score_of(scored, "soup", "mean", "bits_per_byte"),
        comparison_of(scored, "soup", "universal", "mean"),
    ):
        assert math.isnan(figure.low) and math.isnan(figure.high)
    assert math.isnan(comparison_of(scored, "soup", "universal", "mean").detectable)
    assert not math.isnan(score_of(scored, "soup", "cpp", "bits_per_byte").low)


def test_a_mean_over_languages_that_a_model_lacks_is_undefined():
    given = (
        documents("base", "cpp", 1.0, 2.0) + documents("base", "java", 1.0, 2.0) + documents("soup", "cpp", 1.0, 2.0)
    )
    scored = of(given)
    lacking = score_of(scored, "soup", "mean", "bits_per_byte")
    assert math.isnan(lacking.value) and lacking.count == 2
    assert score_of(scored, "base", "mean", "bits_per_byte").value == pytest.approx(1.5)


def test_problems_recurring_across_languages_are_resampled_together():
    # One language solves exactly what the other does not: together always half, whichever problems are drawn.
    passed = [(True,), (False,), (True,), (False,), (False,)]
    tallies = {"base": {"cpp": tally(passed), "java": tally([(not each,) for (each,) in passed])}}
    mean = score_of(of(tallies=tallies), "base", "mean", "pass@1")
    assert (mean.value, mean.low, mean.high) == pytest.approx((0.5, 0.5, 0.5))
    assert (mean.count, mean.clusters) == (10, 5)


def test_problems_recurring_across_languages_are_exchanged_together():
    # What one language gains by a problem the other loses by it: no exchange of problems makes any difference.
    one, other = [(True,)] * 6, [(False,)] * 6
    tallies = {
        "universal": {"cpp": tally(one), "java": tally(other)},
        "soup": {"cpp": tally(other), "java": tally(one)},
    }
    scored = of(tallies=tallies)
    assert comparison_of(scored, "soup", "universal", "cpp", "pass@1").p_value == 2 / 2**6
    mean = comparison_of(scored, "soup", "universal", "mean", "pass@1")
    assert (mean.difference, mean.p_value, mean.clusters) == (0.0, 1.0, 6)


def test_a_harness_error_is_neither_a_pass_nor_a_failure():
    tallies = {
        name: {"python": tally([(True,), (True,), (False,)], broken)} for name, broken in (("a", [2]), ("b", []))
    }
    scored = of(tallies=tallies)
    found = score_of(scored, "a", "python", "pass@1")
    assert math.isnan(found.value) and math.isnan(found.low)
    compared = comparison_of(scored, "b", "a", "python", "pass@1")
    assert all(math.isnan(each) for each in (compared.difference, compared.low, compared.p_value, compared.detectable))


def test_the_same_seed_gives_the_same_intervals():
    given = documents("base", "cpp", *(1.0 + number**2 for number in range(20)))
    assert of(given) == of(given)
    other = of(given, config=EvaluateConfig(resamples=200, seed=1))
    assert other.scores[0].value == of(given).scores[0].value
    assert other != of(given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (documents("base", "cpp", 1.0, 2.0) + documents("soup", "cpp", 1.0), "measured on different texts"),
        (
            [likelihood("base", "cpp", "a", 1.0), likelihood("soup", "cpp", "a", 1.0, num_bytes=99)],
            "measured on different texts",
        ),
        (documents("base", "cpp", 1.0) * 2, "measured twice"),
    ],
)
def test_unfair_likelihoods_are_refused(given, said):
    with pytest.raises(InputError, match=said):
        of(given)


def test_unfair_infillings_and_pass_rates_are_refused():
    with pytest.raises(InputError, match="infill_exact_match was measured on different texts"):
        of(infillings=[infilling("a", "python", "x", ""), infilling("b", "python", "y", "")])
    with pytest.raises(InputError, match="measured twice"):
        of(infillings=[infilling("a", "python", "x", "")] * 2)
    with pytest.raises(InputError, match="pass@1 was measured on different texts"):
        of(tallies={"a": {"python": tally([(True,)])}, "b": {"python": tally([(True,), (False,)])}})


def test_fewer_samples_than_k_are_refused():
    with pytest.raises(InputError, match=r"pass@5 needs at least 5") as refused:
        of(tallies={"base": {"python": tally([(True, True)])}}, config=EvaluateConfig(pass_k=(1, 5)))
    assert "base, python, p0: 2" in str(refused.value)
