import math

import pytest

from codechoir.errors import InputError
from codechoir.evaluate.config import EvaluateConfig
from codechoir.evaluate.scores import score
from codechoir.records import LogLikelihood, Status, Verdict

CONFIG = EvaluateConfig(resamples=200)


def likelihood(model, language, key, bits_per_byte, num_bytes=100):
    return LogLikelihood(
        model=model,
        language=language,
        key=key,
        package="package",
        num_bytes=num_bytes,
        num_tokens=num_bytes // 3,
        log_likelihood=-bits_per_byte * num_bytes * math.log(2),
    )


def documents(model, language, *bits):
    return [likelihood(model, language, f"{language}-{index}", each) for index, each in enumerate(bits)]


def verdict(model, problem, status, sample=0, language="python"):
    return Verdict(
        model=model,
        language=language,
        problem=problem,
        sample=sample,
        temperature=0.2,
        status=status,
        exit_code=0,
        signal=None,
        cpu_seconds=0.1,
        wall_seconds=0.1,
        output="",
        toolchain="Python 3",
        sandbox="none",
    )


def verdicts(model, passed, language="python"):
    return [
        verdict(model, f"p{number}", Status.PASSED if each else Status.FAILED_ASSERTION, sample, language)
        for number, samples in enumerate(passed)
        for sample, each in enumerate(samples)
    ]


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
    scored = score(given, [], CONFIG)
    cpp = score_of(scored, "base", "cpp", "bits_per_byte")
    assert cpp.value == pytest.approx((8 * 300 + 4 * 100) / 400) and cpp.count == 2
    assert cpp.low == pytest.approx(4.0) and cpp.high == pytest.approx(
        8.0
    )  # with two documents: one, the other or both
    java = score_of(scored, "base", "java", "bits_per_byte")
    assert (java.value, java.low, java.high) == pytest.approx((1.0, 1.0, 1.0))
    mean = score_of(scored, "base", "mean", "bits_per_byte")
    assert mean.value == pytest.approx((7.0 + 1.0) / 2) and mean.count == 4


def test_pass_at_k_is_the_mean_over_problems():
    passed = [(True, False, False, False), (False,) * 4, (True,) * 4, (True, True, False, False)]
    scored = score([], verdicts("base", passed), EvaluateConfig(pass_k=(1, 2), resamples=200))
    one = score_of(scored, "base", "python", "pass@1")
    assert one.value == pytest.approx((1 / 4 + 0 + 1 + 1 / 2) / 4) and one.count == 4
    two = score_of(scored, "base", "python", "pass@2")
    assert two.value == pytest.approx((1 / 2 + 0 + 1 + 5 / 6) / 4)
    assert 0 <= one.low < one.value < one.high <= 1


def test_comparisons_are_paired():
    # Documents differ much, models little and always the same way: only a paired interval excludes 0.
    hard = [0.5, 1.0, 2.0, 4.0, 8.0, 3.0]
    given = documents("universal", "cpp", *hard) + documents("expert-cpp", "cpp", *[each - 0.01 for each in hard])
    scored = score(given, [], CONFIG)
    found = comparison_of(scored, "expert-cpp", "universal", "cpp")
    assert found.difference == pytest.approx(-0.01) and found.count == 6
    assert found.high < 0 and not found.within_noise
    intervals = [score_of(scored, model, "cpp", "bits_per_byte") for model in ("universal", "expert-cpp")]
    assert intervals[0].low < intervals[1].high and intervals[1].low < intervals[0].high


def test_equal_models_differ_by_nothing_within_noise():
    given = documents("universal", "cpp", 1.0, 3.0, 2.0) + documents("trunk", "cpp", 1.0, 3.0, 2.0)
    found = comparison_of(score(given, [], CONFIG), "trunk", "universal", "cpp")
    assert (found.difference, found.low, found.high, found.within_noise) == (0.0, 0.0, 0.0, True)


def test_who_is_compared_with_whom():
    models = ["base", "trunk", "universal", "expert-cpp", "expert-java", "soup", "moe-oracle"]
    given = [each for model in models for each in documents(model, "cpp", 1.0, 2.0)]
    given += [each for model in models for each in documents(model, "java", 1.0, 2.0)]
    passed = [each for model in models for each in verdicts(model, [(True,), (False,)])]
    scored = score(given, passed, CONFIG)
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


def test_home_advantage_is_over_the_mean_of_the_other_experts():
    given = [
        *documents("expert-cpp", "cpp", 1.0, 1.2),
        *documents("expert-java", "cpp", 2.0, 2.2),
        *documents("expert-python", "cpp", 4.0, 4.2),
        *documents("moe-prompt", "cpp", 0.0, 0.0),
    ]
    found = comparison_of(score(given, [], CONFIG), "expert-cpp", "other-experts", "cpp")
    assert found.difference == pytest.approx(1.1 - 3.1) and found.high < 0 and found.count == 2


def test_one_document_has_no_interval_and_is_within_noise():
    given = documents("universal", "cpp", 1.0) + documents("expert-cpp", "cpp", 0.5)
    scored = score(given, [], CONFIG)
    assert math.isnan(score_of(scored, "universal", "cpp", "bits_per_byte").low)
    found = comparison_of(scored, "expert-cpp", "universal", "cpp")
    assert found.difference == pytest.approx(-0.5) and math.isnan(found.low) and found.within_noise


def test_a_mean_over_languages_that_a_model_lacks_is_undefined():
    given = (
        documents("base", "cpp", 1.0, 2.0) + documents("base", "java", 1.0, 2.0) + documents("soup", "cpp", 1.0, 2.0)
    )
    scored = score(given, [], CONFIG)
    assert math.isnan(score_of(scored, "soup", "mean", "bits_per_byte").value)
    assert score_of(scored, "base", "mean", "bits_per_byte").value == pytest.approx(1.5)


def test_problems_recurring_across_languages_are_resampled_together():
    # One language solves exactly what the other does not: together always half, whichever problems are drawn.
    passed = [(True,), (False,), (True,), (False,), (False,)]
    given = verdicts("base", passed, "cpp") + verdicts("base", [(not each,) for (each,) in passed], "java")
    mean = score_of(score([], given, CONFIG), "base", "mean", "pass@1")
    assert (mean.value, mean.low, mean.high) == pytest.approx((0.5, 0.5, 0.5))


def test_a_harness_error_is_neither_a_pass_nor_a_failure():
    given = [*verdicts("base", [(True,), (True,)]), verdict("base", "p2", Status.HARNESS_ERROR)]
    found = score_of(score([], given, CONFIG), "base", "python", "pass@1")
    assert math.isnan(found.value) and math.isnan(found.low)


def test_the_same_seed_gives_the_same_intervals():
    given = documents("base", "cpp", 1.0, 2.0, 5.0, 7.0)
    assert score(given, [], CONFIG) == score(given, [], CONFIG)
    other = score(given, [], EvaluateConfig(resamples=200, seed=1))
    assert other.scores[0].value == score(given, [], CONFIG).scores[0].value
    assert other != score(given, [], CONFIG)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (documents("base", "cpp", 1.0, 2.0) + documents("soup", "cpp", 1.0), "different held-out texts"),
        (
            [likelihood("base", "cpp", "a", 1.0), likelihood("soup", "cpp", "a", 1.0, num_bytes=99)],
            "different held-out texts",
        ),
        (documents("base", "cpp", 1.0) * 2, "measured twice"),
    ],
)
def test_unfair_likelihoods_are_refused(given, said):
    with pytest.raises(InputError, match=said):
        score(given, [], CONFIG)


def test_fewer_samples_than_k_are_refused():
    with pytest.raises(InputError, match=r"pass@5 needs at least 5") as refused:
        score([], verdicts("base", [(True, True)]), EvaluateConfig(pass_k=(1, 5)))
    assert "base, python, p0: 2" in str(refused.value)
