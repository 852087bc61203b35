"""Figures of a prompt router on held-out documents, against plain Python."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codechoir.compose.prompt_facts import calibration_error, prompt_router_facts
from codechoir.model.prompt_router import BUCKETS, Fallback, PromptRouter

LANGUAGES = ("python", "java", "cpp")
WORDS = torch.zeros(60, dtype=torch.bool)
DECISION = st.tuples(st.floats(0.01, 1), st.booleans(), st.sampled_from([0.5, 1, 2]))


@given(st.lists(DECISION, min_size=1, max_size=40))
def test_the_calibration_error_is_the_brute_force_one(decisions):
    confidences, right, weights = (torch.tensor(column, dtype=torch.float32) for column in zip(*decisions, strict=True))
    expected, total = 0.0, float(weights.sum())
    for number in range(15):  # (0, 1/15], (1/15, 2/15], ...
        in_bin = [
            (float(c), float(r), float(w))
            for c, r, w in zip(confidences, right, weights, strict=True)
            if (c * 15).ceil() == number + 1
        ]
        if size := sum(w for *_, w in in_bin):
            accuracy, confidence = sum(r * w for _, r, w in in_bin) / size, sum(c * w for c, _, w in in_bin) / size
            expected += size / total * abs(accuracy - confidence)
    assert calibration_error(confidences, right, weights) == pytest.approx(expected, abs=1e-5)


def test_a_calibrated_forecast_has_no_error_and_a_boastful_one_its_excess():
    confidences, right = torch.full((10,), 0.7), torch.tensor([1.0] * 7 + [0.0] * 3)
    assert calibration_error(confidences, right, torch.ones(10)) == pytest.approx(0, abs=1e-6)
    assert calibration_error(torch.ones(10), right, torch.ones(10)) == pytest.approx(0.3)
    assert calibration_error(*[torch.zeros(0)] * 3) is None


@pytest.fixture(scope="module")
def held_out():
    """Random documents; of one language more than of another, and of the third none."""
    generator = torch.Generator().manual_seed(3)
    counts = {"python": 30, "java": 10, "cpp": 0}
    return {
        name: [torch.randint(60, (40,), generator=generator) for _ in range(count)] for name, count in counts.items()
    }


@pytest.mark.parametrize("fallback", [Fallback.TOP_2, Fallback.UNIFORM, Fallback.NONE])
def test_shares_and_accuracies_are_those_of_each_document_in_turn(held_out, fallback):
    weight_FE = torch.randn(BUCKETS, 3, generator=torch.Generator().manual_seed(0))
    router = PromptRouter(weight_FE, WORDS, 1.0, 512, fallback, 0.5)
    facts = prompt_router_facts(router, held_out, LANGUAGES)
    assert (facts["fallback"], facts["confidence"]) == (str(fallback), 0.5)
    for length in (16, 512):
        unsure, sure_right, own = [], [], []
        for label, name in enumerate(("python", "java")):
            for document in held_out[name]:
                (row,) = router.probabilities([document[:length]]).tolist()
                weight, is_sure = 1 / len(held_out[name]), max(row) >= 0.5
                unsure.append((not is_sure, weight))
                if is_sure:
                    sure_right.append((row[label] == max(row), weight))
                else:
                    own.append((router.routes([document[:length]])[0, label].item(), weight))

        def mean(pairs):
            return sum(value * weight for value, weight in pairs) / sum(weight for _, weight in pairs)

        assert facts["fallback_share"][str(length)] == pytest.approx(mean(unsure), abs=1e-4)
        assert facts["accuracy_when_sure"][str(length)] == pytest.approx(mean(sure_right), abs=1e-4)
        assert facts["own_share_when_unsure"][str(length)] == pytest.approx(mean(own), abs=1e-4)


def test_what_no_document_tells_is_none(held_out):
    router = PromptRouter(torch.zeros(BUCKETS, 3), WORDS, 1.0, 512, Fallback.UNIFORM, 1.0)
    facts = prompt_router_facts(router, held_out, LANGUAGES)
    assert facts["fallback_share"]["64"] == 1 and facts["accuracy_when_sure"]["64"] is None
    assert facts["own_share_when_unsure"]["64"] == pytest.approx(1 / 3, abs=1e-4)
    nothing = prompt_router_facts(router, {"python": []}, LANGUAGES)
    assert nothing["calibration_error"]["64"] is None and nothing["fallback_share"]["64"] is None
