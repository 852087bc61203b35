import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from codechoir.model.moe import ExpertBlock, load_composed
from codechoir.model.routing_codechoir_moe import Route, Routing, top_k_in_training

weights = st.lists(
    st.sampled_from([(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.5, 0.25, 0.25), (0.0, 0.25, 0.75)]),
    min_size=1,
    max_size=8,
)


def spread(route):
    """The weights that the mixtures say, sequence by sequence."""
    rows = {}
    for mixture in route.mixtures:
        for row in mixture.rows:
            assert row not in rows
            rows[row] = tuple(
                dict(zip(mixture.experts, mixture.weights, strict=True)).get(expert, 0.0) for expert in range(3)
            )
    return [rows[row] for row in range(len(rows))]


@given(weights)
def test_mixtures_say_what_the_weights_say(given_BE):
    route = Route(Routing.FIXED, 1)
    route.by_sequence(torch.tensor(given_BE))
    assert spread(route) == given_BE
    assert len(route.mixtures) == len(set(given_BE))
    assert route.num_chosen == max(sum(weight > 0 for weight in row) for row in given_BE)


@given(weights, st.data())
def test_kept_sequences_keep_their_routes_and_take_the_order_asked_for(given_BE, data):
    route = Route(Routing.FIXED, 1)
    route.by_sequence(torch.tensor(given_BE))
    route.counts_BE = torch.tensor(given_BE) * 2
    places = st.integers(0, len(given_BE) - 1)
    kept = data.draw(st.lists(places, min_size=1, unique=True))
    route.keep(torch.tensor(kept))
    assert spread(route) == [given_BE[row] for row in kept]
    assert route.counts_BE.tolist() == [[2 * weight for weight in given_BE[row]] for row in kept]


@given(st.integers(2, 7))
def test_hashing_spreads_neighbouring_tokens(num_experts):
    route = Route(Routing.HASH, 1)
    route.by_hash(torch.arange(7000)[None], num_experts)
    counts = torch.bincount(route.experts_N1.flatten(), minlength=num_experts)
    assert len(counts) == num_experts
    assert counts.min() > 0.8 * 7000 / num_experts
    again = Route(Routing.HASH, 1)
    again.by_hash(torch.arange(7000).view(70, 100), num_experts)
    assert torch.equal(again.experts_N1, route.experts_N1)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_straight_through_gradient_is_that_of_the_soft_path():
    """The weight's value is 1; its gradient, by finite differences, is that of the chosen expert's probability."""
    x, weight, outputs = random(6, 5, seed=1), random(3, 5, seed=2), random(6, 3, 7, seed=3)
    router = nn.Parameter(weight.clone())
    weights, chosen = top_k_in_training(functional.linear(x, router), 1)
    assert torch.equal(weights, torch.ones_like(weights))
    picked = outputs.gather(1, chosen[:, :, None].expand(-1, -1, 7))[:, 0]
    torch.autograd.backward((weights * picked).square().sum())

    def soft(router):
        """The same to first order around a weight of 1: the square's slope there, times the probability."""
        scores = x.numpy() @ router.T
        probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        chosen_probability = np.take_along_axis(probabilities, chosen.numpy(), axis=1)
        return float((2 * (picked.numpy() ** 2).sum(axis=1, keepdims=True) * chosen_probability).sum())

    for row in range(3):
        for column in range(5):
            moved = [weight.numpy().copy() for _ in range(2)]
            moved[0][row, column] += 1e-6
            moved[1][row, column] -= 1e-6
            slope = (soft(moved[0]) - soft(moved[1])) / 2e-6
            assert float(router.grad[row, column]) == pytest.approx(slope, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("top_k", [2, 3])
def test_the_weights_of_several_experts_are_those_of_evaluation(top_k):
    logits = random(9, 3).float()
    values, expected = torch.softmax(logits, dim=-1).topk(top_k, dim=-1)
    weights, chosen = top_k_in_training(logits, top_k)
    assert torch.equal(chosen, expected)
    assert torch.equal(weights, values / values.sum(dim=-1, keepdim=True))


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_training_changes_no_output_and_reaches_every_router(composed, top_k):
    """Blocks in training mode give what they give in evaluation, bit for bit, and each router has a gradient."""
    tokens = torch.randint(257, (2, 30), generator=torch.Generator().manual_seed(0))
    model = load_composed(composed, Routing.TOKEN, top_k, torch.float32)
    with torch.no_grad():
        expected = model(tokens).logits
    blocks = [module for module in model.modules() if isinstance(module, ExpertBlock)]
    for block in blocks:
        block.train()
        block.router.weight.requires_grad = True
    given = model(tokens, labels=tokens)
    assert torch.equal(given.logits, expected)
    given.loss.backward()
    assert all(float(block.router.weight.grad.abs().max()) > 0 for block in blocks)
