import itertools
import math
import string
from collections import Counter

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codechoir.model.checkpoint import load_tokenizer
from codechoir.model.prompt_router import BUCKETS, PromptRouter, hashed_bags, tokens_with_letters

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
