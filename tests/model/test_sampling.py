import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

from codechoir.model.sampling import Draw, generator, next_tokens


@settings(max_examples=40)
@given(
    st.lists(st.integers(-40, 40), min_size=2, max_size=8, unique=True),
    st.sampled_from([0.3, 0.8, 1.0, 2.0]),
    st.sampled_from([0.2, 0.5, 0.9, 1.0]),
)
def test_what_may_be_drawn_is_what_transformers_would_draw(logits, temperature, top_p):
    scores = torch.tensor([logits]) / 10
    warped = TopPLogitsWarper(top_p)(None, TemperatureLogitsWarper(temperature)(None, scores))[0]
    allowed = warped.softmax(dim=-1)
    draw = Draw(temperature, top_p, generator(7))
    drawn = [next_tokens(scores, [draw])[0] for _ in range(200)]
    assert all(allowed[token] > 0 for token in drawn)
    for token, probability in enumerate(allowed.tolist()):
        deviation = math.sqrt(probability * (1 - probability) / 200)
        assert abs(drawn.count(token) / 200 - probability) <= 5 * deviation + 1e-9


def test_a_nucleus_wider_than_the_first_look_is_drawn_from_whole():
    """Of 1000 equal tokens, half the probability is some 500 tokens; the first look sees 256."""
    draw = Draw(1.0, 0.5, generator(3))
    drawn = {next_tokens(torch.zeros(1, 1000), [draw])[0] for _ in range(3000)}
    assert 480 <= len(drawn) <= 501


def test_rows_draw_by_their_own_settings_and_chance():
    logits_BV = torch.randn(4, 50, generator=torch.Generator().manual_seed(1))
    settings = [(0.0, 1.0, 1), (0.7, 0.9, 2), (1.5, 1.0, 3), (0.0, 0.5, 4)]
    together = next_tokens(logits_BV, [Draw(t, p, generator(seed)) for t, p, seed in settings])
    alone = [
        next_tokens(logits_BV[i : i + 1], [Draw(t, p, generator(seed))])[0] for i, (t, p, seed) in enumerate(settings)
    ]
    assert together == alone
    assert [together[0], together[3]] == logits_BV[[0, 3]].argmax(dim=-1).tolist()


def test_a_row_without_probabilities_is_an_error_of_its_own():
    logits_BV = torch.zeros(2, 5)
    logits_BV[0, 2] = float("nan")
    bad, good = next_tokens(logits_BV, [Draw(1.0, 1.0, generator(1)), Draw(1.0, 0.9, generator(1))])
    assert isinstance(bad, ValueError)
    assert good in range(5)


def test_settings_that_round_to_nothing_choose_the_most_probable():
    logits_BV = torch.randn(2, 40, generator=torch.Generator().manual_seed(5)) * 30
    for temperature, top_p in ((1.0, 5e-274), (1e-300, 1.0), (1e-300, 5e-274), (5e-324, 0.9)):
        drawn = next_tokens(logits_BV, [Draw(temperature, top_p, generator(seed)) for seed in (1, 2)])
        assert drawn == logits_BV.argmax(dim=-1).tolist()
