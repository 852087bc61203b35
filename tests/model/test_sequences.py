import pytest
import torch

from codechoir.errors import InputError
from codechoir.model.checkpoint import load_tokenizer
from codechoir.model.decoding import Vocabulary
from codechoir.model.moe import Routing, load_composed
from codechoir.model.requests import Request
from codechoir.model.sequences import advance, begin


@pytest.fixture(scope="module")
def vocabulary(random_base):
    return Vocabulary(load_tokenizer(random_base))


def test_a_text_comes_after_the_separator_and_healed_ids_as_they_are(vocabulary):
    ids = vocabulary.encode("ab\n")
    text = begin(Request("ab\n", (), 4), vocabulary, None)
    assert (text.prompt, text.healed) == ([vocabulary.separator, *ids[:2]], ids[2])
    given = begin(Request(tuple(ids), (), 4), vocabulary, None)
    assert (given.prompt, given.healed) == (ids, None)
    assert begin(Request((), (), 4), vocabulary, None).prompt == [vocabulary.separator]


def test_a_sequence_ends_by_stop_end_or_length(vocabulary):
    def ending(stop, max_tokens, text):
        sequence = begin(Request("x", stop, max_tokens), vocabulary, None)
        shown, finish = "", None
        for token in [*vocabulary.encode(text), vocabulary.separator]:
            new, finish = sequence.take(token)
            shown += new
            if finish:
                break
        return shown, finish, sequence.num_new

    assert ending((), 9, "abc") == ("abc", "end", 4)
    assert ending((), 2, "abc") == ("ab", "length", 2)
    assert ending(("bc",), 9, "abcd") == ("a", "stop", 3)
    assert ending(("bcx",), 3, "abcd") == ("abc", "length", 3)  # what was held back comes in the end


def test_routes_are_the_requests_then_the_engines_then_the_models(composed, vocabulary):
    moe = load_composed(composed, Routing.PROMPT, 1, torch.float32)

    def routed(default=None, **more):
        return begin(Request("int x;", (), 1, **more), vocabulary, moe, default).route

    assert routed().routing is Routing.PROMPT
    assert routed(Routing.UNIFORM).weights_E.tolist() == pytest.approx([1 / 3] * 3)
    assert routed(Routing.UNIFORM, routing="token").batch is Routing.TOKEN
    fixed = routed(Routing.UNIFORM, routing="token", expert="java")
    assert (fixed.routing, fixed.batch, fixed.weights_E.tolist()) == (Routing.FIXED, None, [0, 1, 0])
    with pytest.raises(InputError, match="names no expert"):
        routed(Routing.FIXED)
    assert begin(Request("a", (), 1), vocabulary, None).route.routing is None


def test_one_sequences_error_is_its_own(vocabulary):
    sequences = [begin(Request("x", (), 3, temperature=1.0), vocabulary, None) for _ in range(2)]
    logits_BV = torch.zeros(2, 257)
    logits_BV[0] = float("nan")
    bad, good = advance(sequences, logits_BV, vocabulary, [(), ()])
    assert isinstance(bad.error, ValueError) and bad.token is None
    assert good.error is None and good.token is not None
