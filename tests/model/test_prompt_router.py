import itertools
import json
import math
import string
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codechoir.model.checkpoint import load_tokenizer
from codechoir.model.prompt_router import BUCKETS, Fallback, PromptRouter, hashed_bags, tokens_with_letters

WORDS = torch.tensor([True, True, True, True, True, False, False, False, False, False, True, False])
PREFIXES = st.lists(st.lists(st.integers(0, len(WORDS) - 1), max_size=30), max_size=6)


def dense_bag(prefix):
    """The features of one prefix, counted by hand. Sidecars on disk hold weights by these very buckets."""
    counts = Counter()
    for token in prefix:
        counts[token * 2654435761 % 32768] += 0.25 if WORDS[token] else 1
    for first, second in itertools.pairwise(prefix):
        bucket = (first * 2654435761 + second * 40503 + 12345) % 32768
        counts[bucket] += 0.25 if WORDS[first] and WORDS[second] else 1
    row = np.zeros(32768)
    for bucket, count in counts.items():
        row[bucket] = math.log(1 + count)
    return row / np.linalg.norm(row) if prefix else row


def tensors(prefixes):
    return [torch.tensor(prefix, dtype=torch.long) for prefix in prefixes]


def weights(num_experts, seed=0):
    return torch.randn(BUCKETS, num_experts, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=30)
@given(PREFIXES)
def test_the_sparse_bag_is_the_dense_one(prefixes):
    found = hashed_bags(tensors(prefixes), WORDS)
    assert found.shape == (len(prefixes), BUCKETS)
    for row, prefix in zip(found.to_dense().numpy(), prefixes, strict=True):
        np.testing.assert_allclose(row, dense_bag(prefix), atol=1e-6)


@settings(max_examples=30)
@given(PREFIXES, st.sampled_from([0.1, 1.0, 3.0]), st.integers(1, 40))
def test_probabilities_are_a_softmax_over_the_prefixs_scores(prefixes, temperature, prefix_tokens):
    weight_FE = weights(3)
    found = PromptRouter(weight_FE, WORDS, temperature, prefix_tokens).probabilities(tensors(prefixes))
    assert found.shape == (len(prefixes), 3)
    np.testing.assert_allclose(found.sum(dim=1).numpy(), 1, atol=1e-5)
    for row, prefix in zip(found.numpy(), prefixes, strict=True):
        powers = np.exp(dense_bag(prefix[:prefix_tokens]) @ weight_FE.numpy().astype(float) / temperature)
        np.testing.assert_allclose(row, powers / powers.sum(), rtol=1e-3, atol=1e-6)


def test_an_empty_prefix_gives_every_expert_the_same_probability():
    router = PromptRouter(weights(4), WORDS, 0.5, 8)
    assert router.probabilities([torch.tensor([], dtype=torch.long)]).tolist() == [[0.25] * 4]


@st.composite
def tables(draw):
    """Probabilities of 2 to 5 experts for some prefixes; now and then all the same."""
    num_experts = draw(st.integers(2, 5))
    row = st.lists(st.integers(1, 20), min_size=num_experts, max_size=num_experts)
    counts = draw(st.lists(row | st.just([1] * num_experts), min_size=1, max_size=6))
    return torch.tensor(counts).float() / torch.tensor(counts).sum(dim=1, keepdim=True)


@given(tables(), st.sampled_from(Fallback), st.floats(0, 1))
def test_a_prefix_under_the_confidence_goes_where_the_fallback_says(table, fallback, confidence):
    num_experts = table.shape[1]
    router = PromptRouter(torch.zeros(BUCKETS, num_experts), WORDS, 1.0, 8, fallback, confidence, num_experts - 1)
    for row, found in zip(table.tolist(), router.decide(table).tolist(), strict=True):
        first, second = sorted(range(num_experts), key=lambda expert: (-row[expert], expert))[:2]
        nothing_said = max(row) == min(row)
        expected = [0.0] * num_experts
        if fallback is Fallback.NONE or (torch.tensor(row).max() >= confidence and not nothing_said):
            assert found[max(range(num_experts), key=found.__getitem__)] == 1
            assert row[found.index(1.0)] == max(row)
            continue
        if fallback is Fallback.GENERALIST:
            expected[-1] = 1.0
        elif fallback is Fallback.UNIFORM or nothing_said:
            expected = [1 / num_experts] * num_experts
        else:
            assert sum(weight > 0 for weight in found) == 2
            np.testing.assert_allclose(
                sorted(found)[-2:], np.array([row[second], row[first]]) / (row[first] + row[second]), atol=1e-6
            )
            continue
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_special_tokens_say_nothing_and_take_no_place_in_the_prefix():
    plain = PromptRouter(weights(3), WORDS, 1.0, 3)
    router = PromptRouter(weights(3), WORDS, 1.0, 3, Fallback.TOP_2, 0.9, ignored=(0, 7))
    given, bare = tensors([[0, 1, 7, 2, 3], [0], []]), tensors([[1, 2, 3], [], []])
    assert torch.equal(router.probabilities(given), plain.probabilities(bare))
    torch.testing.assert_close(router.routes(given)[1:], torch.full((2, 3), 1 / 3))


@pytest.mark.parametrize("fallback", Fallback)
def test_settings_come_back(fallback):
    router = PromptRouter(weights(3), WORDS, 0.5, 9, fallback, 0.75, 2, (0, 4))
    settings_ = json.loads(json.dumps(router.settings()))
    found = PromptRouter.restore(settings_, router.tensors())
    assert (found.fallback, found.confidence, found.generalist, found.ignored) == (fallback, 0.75, 2, (0, 4))
    assert torch.equal(found.routes(tensors([[1, 2], []])), router.routes(tensors([[1, 2], []])))


def test_settings_without_a_fallback_mean_none():
    router = PromptRouter(weights(3), WORDS, 0.5, 9)
    found = PromptRouter.restore({"temperature": 0.5, "prefix_tokens": 9}, router.tensors())
    assert found.settings() == router.settings()
    assert found.fallback is Fallback.NONE and found.routes(tensors([[1, 2]])).max() == 1


@pytest.mark.parametrize("change", [{"fallback": "guess"}, {"fallback": "generalist"}, {"confidence": "high"}])
def test_settings_that_cannot_be_are_refused(change):
    router = PromptRouter(weights(3), WORDS, 0.5, 9)
    with pytest.raises(ValueError):
        PromptRouter.restore(router.settings() | change, router.tensors())


def test_what_is_beyond_the_prefix_is_not_read():
    router = PromptRouter(weights(4), WORDS, 0.5, 3)
    one, two, three = router.probabilities(tensors([[1, 2, 2, 9, 9], [1, 2, 2], [1, 2, 9]]))
    assert torch.equal(one, two)
    assert not torch.allclose(one, three)


def test_words_are_the_tokens_that_show_an_ascii_letter(random_base):
    tokenizer = load_tokenizer(random_base)
    words = tokens_with_letters(tokenizer, 300)
    assert words.shape == (300,)
    expected = {tokenizer.convert_tokens_to_ids(letter) for letter in string.ascii_letters}
    assert set(words.nonzero().flatten().tolist()) == expected | {tokenizer.convert_tokens_to_ids("<|endoftext|>")}
    assert tokens_with_letters(tokenizer, 100).shape == (100,)
