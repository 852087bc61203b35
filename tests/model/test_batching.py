import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from codechoir.model.batching import TransformersBackend
from codechoir.model.checkpoint import load_tokenizer
from codechoir.model.moe import Routing, load_composed
from codechoir.model.requests import Request

PROMPTS = [tuple((5 * i + 3 * j) % 36 + 3 for j in range(length)) for i, length in enumerate((4, 17, 1, 9))]


@pytest.fixture(scope="module")
def tokenizer(random_base):
    return load_tokenizer(random_base)


@pytest.fixture
def backend(small_config, tokenizer):
    torch.manual_seed(6)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**small_config("llama"))).eval()
    return TransformersBackend(model, tokenizer)


def ended(batch, first):
    """All tokens of a batch's sequences, by sequence."""
    tokens, steps = {}, first
    while steps:
        for progress in steps:
            tokens.setdefault(progress.sequence, []).append(progress.token.id)
        steps = batch.step() if len(batch) else []
    return tokens


@torch.no_grad()
@pytest.mark.parametrize("columns", [1, 5, 17])
def test_prompts_read_in_pieces_give_what_they_give_whole(backend, columns):
    whole, pieces = (backend.batch([backend.begin(Request(prompt, (), 6)) for prompt in PROMPTS]) for _ in range(2))
    expected = ended(whole, whole.read(whole.num_unread))
    assert pieces.num_unread == 17
    while not (first := pieces.read(columns)):
        assert pieces.num_unread
    assert list(ended(pieces, first).values()) == list(expected.values())


@torch.no_grad()
def test_who_is_dropped_leaves_the_others_as_they_were(backend):
    def batch():
        return backend.batch([backend.begin(Request(prompt, (), 8)) for prompt in PROMPTS])

    alone = batch()
    expected = list(ended(alone, alone.read(17)).values())
    some = batch()
    sequences = list(some.sequences)
    some.read(6)
    some.drop([sequences[3]])  # while prompts are read
    first = some.read(11)
    second = some.step()
    some.drop([sequences[0]])
    found = ended(some, second)
    for index in (1, 2):
        assert [first[index].token.id, *found[sequences[index]]] == expected[index]
    assert sequences[3] not in found


@torch.no_grad()
def test_routes_join_and_leave_with_their_sequences(small_moe, tokenizer):
    moe = load_composed(small_moe("llama").folder, Routing.FIXED, 1, torch.float32)
    backend = TransformersBackend(moe, tokenizer)

    def read(*asked):
        batch = backend.batch([backend.begin(Request(PROMPTS[i], (), 9, expert=name)) for i, name in asked])
        batch.read(batch.num_unread)
        return batch

    batch = read((0, "cpp"), (1, "java"))
    batch.join(read((2, "python"), (3, "cpp")))
    assert batch.shares() == [{"cpp": 1.0}, {"java": 1.0}, {"python": 1.0}, {"cpp": 1.0}]
    batch.drop(batch.sequences[:1])
    by_prompt = {len(sequence.prompt): share for sequence, share in zip(batch.sequences, batch.shares(), strict=True)}
    assert by_prompt == {17: {"java": 1.0}, 1: {"python": 1.0}, 9: {"cpp": 1.0}}
    batch.step()
    assert not moe.route.held and moe.route.weights_BE is None  # the model's own route is as it was


def test_abilities_are_those_of_the_model(backend, small_moe, tokenizer):
    assert (backend.abilities.experts, backend.abilities.routings, backend.abilities.traces) == ((), (), False)
    assert backend.abilities.vocabulary == 40
    moe = TransformersBackend(load_composed(small_moe("llama").folder, Routing.PROMPT, 1, torch.float32), tokenizer)
    assert moe.abilities.experts == ("python", "java", "cpp")
    assert (moe.abilities.routings, moe.abilities.traces) == (("prompt", "token"), True)
    learned = AutoModelForCausalLM.from_config(AutoConfig.for_model(**small_moe("gpt_bigcode").config))
    assert TransformersBackend(learned, tokenizer).abilities.context == 64
