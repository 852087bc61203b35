"""The losses against transformers, torch.distributions and the formulas in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from codechoir.compose.tuning.objective import NO_TARGET, cross_entropy, divergence, moved_bias, switch_loss, z_loss
from codechoir.model.routing_codechoir_moe import top_k_in_training


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def targets_of(tokens: torch.Tensor, *dropped: tuple[int, int]) -> torch.Tensor:
    """Each place's next token; none at a row's end and at the places `dropped`."""
    targets = torch.roll(tokens, -1, dims=1)
    for row, place in [*((row, -1) for row in range(len(tokens))), *dropped]:
        targets[row, place] = NO_TARGET
    return targets


def test_cross_entropy_is_the_next_tokens() -> None:
    """Row 1 has no target at place 3."""
    logits, tokens = random(2, 6, 9).float(), torch.randint(9, (2, 6), generator=torch.Generator().manual_seed(1))
    expected = np.zeros((2, 5))
    for row in range(2):
        for place in range(5):
            scores = logits[row, place].double().numpy()
            expected[row, place] = np.log(np.exp(scores).sum()) - scores[tokens[row, place + 1]]
    expected[1, 3] = np.nan
    targets = targets_of(tokens, (1, 3))
    assert float(cross_entropy(logits, targets)) == pytest.approx(np.nanmean(expected), rel=1e-5)
    by_row = cross_entropy(logits, targets, by_row=True)
    np.testing.assert_allclose(by_row, np.nanmean(expected, axis=1), rtol=1e-5)


def test_divergence_is_torch_distributions() -> None:
    teacher, student = random(3, 5, 11, seed=1).float(), random(3, 5, 11, seed=2).float()
    distributions = [torch.distributions.Categorical(logits=each[:, :-1]) for each in (teacher, student)]
    expected = torch.distributions.kl_divergence(*distributions)
    tokens = torch.zeros(3, 5, dtype=torch.long)
    torch.testing.assert_close(divergence(teacher, student, targets_of(tokens)), expected.mean())
    kept = torch.ones(3, 4, dtype=torch.bool)
    kept[2, 1] = False
    torch.testing.assert_close(divergence(teacher, student, targets_of(tokens, (2, 1))), expected[kept].mean())
    assert float(divergence(teacher, teacher, targets_of(tokens))) == pytest.approx(0, abs=1e-6)


def test_z_loss_is_the_formula() -> None:
    logits = random(7, 4) * 3
    expected = np.mean(np.log(np.exp(logits.numpy()).sum(axis=1)) ** 2)
    assert float(z_loss(logits)) == pytest.approx(expected, rel=1e-5)


@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 30))
def test_the_switch_loss_of_a_layer_is_mixtrals(seed: int, top_k: int, num_tokens: int) -> None:
    logits = random(num_tokens, 4, seed=seed).float()
    chosen = torch.softmax(logits, dim=-1).topk(top_k, dim=-1).indices
    torch.testing.assert_close(switch_loss(logits[None], chosen[None]), load_balancing_loss_func((logits,), 4, top_k))


def test_an_even_load_has_the_least_switch_loss() -> None:
    """Eq. 4's minimum is 1 for one expert a token; all tokens to one expert give E."""
    even = functional.one_hot(torch.arange(8) % 4, 4).float() * 50
    assert float(switch_loss(even[None], even.argmax(dim=-1, keepdim=True)[None])) == pytest.approx(1)
    one = functional.one_hot(torch.zeros(8, dtype=torch.long), 4).float() * 50
    assert float(switch_loss(one[None], one.argmax(dim=-1, keepdim=True)[None])) == pytest.approx(4)


def test_the_bias_moves_against_the_load() -> None:
    bias = moved_bias(torch.tensor([[0.5, 0.0, 0.0]]), torch.tensor([[6.0, 1.0, 2.0]]), 0.1)
    torch.testing.assert_close(bias, torch.tensor([[0.4, 0.1, 0.1]]))
    assert torch.equal(moved_bias(torch.zeros(1, 2), torch.tensor([[3.0, 3.0]]), 0.1), torch.zeros(1, 2))


def test_the_bias_evens_a_skewed_router() -> None:
    """A router that prefers one expert: after some steps all experts have their share, and weights are as ever."""
    logits = random(400, 4).float() + torch.tensor([2.0, 0.0, 0.0, 0.0])
    bias = torch.zeros(1, 4)
    for _ in range(300):
        _, chosen = top_k_in_training(logits, 1, bias[0])
        bias = moved_bias(bias, torch.bincount(chosen.flatten(), minlength=4)[None].float(), 0.005)
    weights, chosen = top_k_in_training(logits, 2, bias[0])
    loads = torch.bincount(top_k_in_training(logits, 1, bias[0])[1].flatten(), minlength=4) / 400
    before = torch.bincount(logits.argmax(dim=-1), minlength=4) / 400
    assert float(before.max()) > 0.6 and float(loads.max()) < 0.3
    probabilities = torch.softmax(logits, dim=-1).gather(-1, chosen)  # the weights know nothing of the bias
    torch.testing.assert_close(weights, probabilities / probabilities.sum(dim=-1, keepdim=True))
