import torch
from hypothesis import given
from hypothesis import strategies as st

from codechoir.model.routing_codechoir_moe import Route, Routing

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
