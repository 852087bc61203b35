import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codechoir.model.checkpoint import load_model
from codechoir.model.growing_cache import GrowingCache, token_bytes

HEADS, WIDTH = 2, 3


def write(cache, rows, new_BT):
    """One forward pass over two layers: token t's key is t in all places of layer 0, -t in layer 1."""
    keys = new_BT[:, None, :, None].expand(-1, HEADS, -1, WIDTH).float()
    cache.reserve(rows, 0, new_BT.shape[1])
    for layer in (0, 1):
        found, values = cache.update(keys * (1 - 2 * layer), keys + 0.5, layer)
        assert found.shape == values.shape == (rows, HEADS, cache.span.width + new_BT.shape[1], WIDTH)
    cache.advance(rows, new_BT.shape[1])


def check(cache, rows):
    """Each row's last tokens are its own, in every layer and head."""
    assert cache.span.width == max(map(len, rows))
    assert cache.get_seq_length() == cache.span.width
    for layer, sign in ((0, 1), (1, -1)):
        columns = slice(cache.span.start, cache.span.end)
        keys, values = cache.layers[layer].keys[:, :, columns], cache.layers[layer].values[:, :, columns]
        for row, tokens in enumerate(rows):
            expected = torch.tensor(tokens).float()[None, :, None].expand(HEADS, -1, WIDTH)
            assert torch.equal(keys[row, :, -len(tokens) :], sign * expected)
            assert torch.equal(values[row, :, -len(tokens) :], expected + 0.5)
        assert keys.isfinite().all()


actions = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.lists(st.integers(1, 150), min_size=1, max_size=4)),
        st.tuples(st.just("step"), st.integers(1, 140)),
        st.tuples(st.just("keep"), st.randoms(use_true_random=False)),
    ),
    max_size=8,
)


@settings(max_examples=40)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=3), actions)
def test_rows_hold_their_own_tokens_whatever_joins_and_leaves(lengths, actions):
    counter = iter(range(1, 10**6))

    def fresh(lengths):
        cache, longest = GrowingCache(), max(lengths)
        rows = [[next(counter) for _ in range(length)] for length in lengths]
        write(cache, len(rows), torch.tensor([[0] * (longest - len(row)) + row for row in rows]))
        return cache, rows

    cache, rows = fresh(lengths)
    for action, what in actions:
        if action == "join":
            other, more = fresh(what)
            cache.join(other)
            rows += more
        elif action == "step":
            new = [[next(counter) for _ in range(what)] for _ in rows]
            write(cache, len(rows), torch.tensor(new))
            rows = [row + more for row, more in zip(rows, new, strict=True)]
        else:
            kept = what.sample(range(len(rows)), what.randint(1, len(rows)))
            rows = [rows[row] for row in kept]
            cache.keep(kept, max(map(len, rows)))
        check(cache, rows)


def test_a_token_is_written_in_place_while_there_is_room():
    cache = GrowingCache()
    write(cache, 2, torch.ones(2, 5, dtype=torch.long))
    places = {cache.layers[0].keys.data_ptr()}
    for _ in range(1000):
        write(cache, 2, torch.ones(2, 1, dtype=torch.long))
        places.add(cache.layers[0].keys.data_ptr())
    assert len(places) <= 6  # room doubles


def test_the_mask_sees_the_span():
    cache = GrowingCache()
    write(cache, 1, torch.ones(1, 7, dtype=torch.long))
    assert cache.get_mask_sizes(3, 0) == (10, 0)
    assert cache.layers[0].get_max_length() == -1


def test_a_tokens_bytes(random_base):
    config = load_model(random_base, torch.float32).config
    width = config.hidden_size // config.num_attention_heads * config.num_key_value_heads
    for dtype in (torch.float32, torch.bfloat16):
        expected = config.num_hidden_layers * 2 * width * dtype.itemsize
        assert token_bytes(load_model(random_base, dtype)) == expected
