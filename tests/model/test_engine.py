from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from codechoir.errors import InputError
from codechoir.model.checkpoint import load_model, load_tokenizer
from codechoir.model.engine import Engine, Request
from codechoir.model.moe import Routing, load_composed

PROMPTS = ("def a(b):\n", "", "int main() { return", "é ü 你好", "class B {\n    int c;\n" * 3, "x")


class Ids:
    """A tokenizer whose decoded text is the token ids, so that texts show tokens."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        self.eos_token_id = tokenizer.eos_token_id
        self.get_vocab = tokenizer.get_vocab

    def __call__(self, text, **more):
        return self._tokenizer(text, **more)

    def decode(self, tokens, **_):
        return "".join(f"<{token}>" for token in tokens)


class NextLetter:
    """A model whose next token is the one after the last, and which checks what it is given."""

    device = torch.device("cpu")
    config = SimpleNamespace()

    def __init__(self, vocabulary=257):
        self.vocabulary, self.batches = vocabulary, []

    def __call__(self, tokens, attention_mask, position_ids, **_):
        assert torch.equal(position_ids[:, -1], attention_mask.sum(dim=1) - 1)
        self.batches.append(len(tokens))
        logits = torch.nn.functional.one_hot((tokens + 1) % self.vocabulary, self.vocabulary).float()
        return SimpleNamespace(logits=logits, past_key_values=SimpleNamespace(batch_select_indices=lambda _: None))


@pytest.fixture(scope="module")
def tokenizer(trunk):
    return load_tokenizer(trunk)


@pytest.fixture(scope="module")
def model(trunk):
    return load_model(trunk, torch.float32)


def completed(engine, requests):
    """The outputs in the requests' order."""
    found = dict(engine.complete(requests))
    assert sorted(found) == list(range(len(requests)))
    return [found[index] for index in range(len(requests))]


def scored(engine, texts, max_tokens, experts=None):
    found = dict(engine.log_likelihoods(texts, max_tokens, experts))
    assert sorted(found) == list(range(len(texts)))
    return [found[index] for index in range(len(texts))]


@pytest.mark.parametrize("batch_size", [1, 3, 6])
def test_greedy_completions_are_those_of_transformers_token_for_token(model, tokenizer, batch_size):
    found = completed(
        Engine(model, Ids(tokenizer), batch_size), [Request(prompt, (), 5 + 3 * i) for i, prompt in enumerate(PROMPTS)]
    )
    for number, (prompt, output) in enumerate(zip(PROMPTS, found, strict=True)):
        ids = torch.tensor([[0, *tokenizer(prompt)["input_ids"]]])
        expected = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=5 + 3 * number,
            do_sample=False,
            eos_token_id=0,
            pad_token_id=0,
        )[0, ids.shape[1] :].tolist()
        assert output.num_tokens == len(expected)
        ended = expected[-1] == 0
        assert output.text == Ids(tokenizer).decode(expected[: len(expected) - ended])
        assert output.finish == ("end" if ended else "length")
        assert output.route == {}


@pytest.mark.parametrize("name", ["python", "java", "cpp"])
def test_a_composed_model_completes_as_its_expert(composed, experts, tokenizer, name):
    moe = load_composed(composed, Routing.FIXED, 1, torch.float32)
    found = completed(Engine(moe, Ids(tokenizer), 3), [Request(prompt, (), 12, expert=name) for prompt in PROMPTS])
    dense = Engine(load_model(experts[name], torch.float32), Ids(tokenizer), 3)
    expected = completed(dense, [Request(prompt, (), 12) for prompt in PROMPTS])
    assert [output.text for output in found] == [output.text for output in expected]
    assert [output.route for output in found] == [{name: 1.0}] * len(PROMPTS)


def test_each_request_of_a_batch_keeps_its_own_expert(composed, experts, tokenizer):
    """Sequences end at different steps, so rows move while the batch shrinks."""
    names = ["python", "java", "cpp", "java", "python", "cpp"]
    moe = load_composed(composed, Routing.FIXED, 1, torch.float32)
    requests = [Request(prompt, (), 3 + 4 * i, expert=names[i]) for i, prompt in enumerate(PROMPTS)]
    found = completed(Engine(moe, Ids(tokenizer), 6), requests)
    for output, request, name in zip(found, requests, names, strict=True):
        alone = Engine(load_model(experts[name], torch.float32), Ids(tokenizer), 1)
        assert output.text == completed(alone, [request])[0].text
        assert output.route == {name: 1.0}


@pytest.mark.parametrize(
    ("routing", "top_k"), [(Routing.PROMPT, 1), (Routing.TOKEN, 1), (Routing.TOKEN, 2), (Routing.UNIFORM, 1)]
)
def test_routes_are_recorded_and_do_not_hang_on_the_batch(composed, tokenizer, routing, top_k):
    moe = load_composed(composed, routing, top_k, torch.float32)
    requests = [Request(prompt, (), 4 + i) for i, prompt in enumerate(PROMPTS)]
    together = completed(Engine(moe, Ids(tokenizer), 6), requests)
    alone = completed(Engine(moe, Ids(tokenizer), 1), requests)
    for prompt, one, other in zip(PROMPTS, together, alone, strict=True):
        assert one.text == other.text
        assert one.route == pytest.approx(other.route, abs=2e-4)
        assert sum(one.route.values()) == pytest.approx(1, abs=1e-3)
        if routing is Routing.PROMPT and not prompt.endswith("\n"):  # no token is taken back
            (weights_E,) = moe.prompt_router.routes([torch.tensor([0, *tokenizer(prompt)["input_ids"]])]).tolist()
            assert one.route == pytest.approx(
                {n: w for n, w in zip(moe.experts, weights_E, strict=True) if w}, abs=1e-4
            )


def test_a_stop_string_ends_the_text_before_it(tokenizer):
    engine = Engine(NextLetter(), tokenizer, 4)
    stops = [(), ("h",), ("fg", "e"), ("zz", "gh"), ("cd",), ("f", "def")]
    found = completed(engine, [Request("ab", stop, 8) for stop in stops])
    assert [output.text for output in found] == ["cdefghij", "cdefg", "cd", "cdef", "", "c"]
    assert [output.finish for output in found] == ["length", "stop", "stop", "stop", "stop", "stop"]
    assert [output.num_tokens for output in found] == [8, 6, 3, 6, 2, 4]


def test_the_end_token_ends_the_text_and_is_not_shown(tokenizer):
    found = completed(Engine(NextLetter(), tokenizer, 4), [Request("a", (), 300), Request("a", ("b",), 300)])
    steps = 257 - tokenizer("a")["input_ids"][0]
    assert (found[0].finish, found[0].num_tokens) == ("end", steps)
    assert "endoftext" not in found[0].text
    assert found[1].finish == "stop"


def test_finished_sequences_leave_their_batch_and_the_longest_come_first(tokenizer):
    model = NextLetter()
    requests = [Request("a" * length, (), tokens) for length, tokens in ((1, 1), (9, 4), (5, 2), (3, 3))]
    order = [index for index, _ in Engine(model, tokenizer, 2).complete(requests)]
    assert model.batches == [2, 2, 1, 1, 2, 1, 1]
    assert set(order[:2]) == {1, 2}


def test_throughput_counts_tokens(tokenizer):
    engine = Engine(NextLetter(), tokenizer, 2)
    assert engine.tokens_per_second is None
    completed(engine, [Request("a", (), 3), Request("b", (), 4), Request("c", (), 5)])
    assert engine.num_tokens == 12
    assert engine.tokens_per_second == pytest.approx(12 / engine.seconds, rel=0.1)


def test_samples_depend_on_their_seed_alone(model, tokenizer):
    requests = [
        Request(prompt, (), 6 + i % 3, temperature=0.9, top_p=0.95, seed=seed)
        for i, (prompt, seed) in enumerate((prompt, seed) for prompt in PROMPTS[:3] for seed in (1, 2, 3))
    ]
    together = completed(Engine(model, Ids(tokenizer), 9), requests)
    assert completed(Engine(model, Ids(tokenizer), 1), requests) == together
    turned = completed(Engine(model, Ids(tokenizer), 4), requests[::-1])
    assert turned[::-1] == together
    assert len({output.text for output in together}) == len(requests)


def test_greedy_ignores_seed_and_top_p(model, tokenizer):
    requests = [Request("ab", (), 6, temperature=0.0, top_p=top_p, seed=seed) for top_p in (0.1, 1) for seed in (1, 2)]
    assert len({output.text for output in completed(Engine(model, Ids(tokenizer), 4), requests)}) == 1


def by_hand(model, tokenizer, text, max_tokens):
    """Log-likelihood of the first tokens, one text at a time, by log_softmax."""
    ids = [0, *tokenizer(text)["input_ids"][:max_tokens]]
    with torch.no_grad():
        logs = model(torch.tensor([ids])).logits[0].double().log_softmax(dim=-1)
    return sum(float(logs[place, token]) for place, token in enumerate(ids[1:])), len(ids) - 1


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("max_tokens", [5, 1000])
def test_log_likelihoods_are_those_computed_by_hand(model, tokenizer, batch_size, max_tokens):
    texts = ["def a():\n", "x", "", "class Longer {\n" * 9, "four"]
    engine = Engine(model, tokenizer, batch_size)
    for text, found in zip(texts, scored(engine, texts, max_tokens), strict=True):
        expected, num_tokens = by_hand(model, tokenizer, text, max_tokens)
        assert found.log_likelihood == pytest.approx(expected, rel=1e-5, abs=1e-6)
        assert found.num_tokens == found.num_bytes == num_tokens  # ASCII: a token is a byte
        assert found.route == {}
    assert engine.num_tokens == sum(min(len(text), max_tokens) for text in texts)


@given(st.text(alphabet="aé你😀\n", max_size=12), st.integers(1, 30))
@settings(max_examples=60)
def test_bytes_are_those_of_whole_characters_within_the_limit(tokenizer, text, max_tokens):
    whole = ""
    for character in text:
        if len((whole + character).encode()) > max_tokens:
            break
        whole += character
    beginning = Engine(NextLetter(), tokenizer, 1)._beginning(text, max_tokens)
    assert beginning.num_bytes == len(whole.encode()) == len(beginning.tokens)
    assert tokenizer.decode(beginning.tokens) == whole


def test_a_replacement_character_of_the_text_itself_counts(tokenizer):
    beginning = Engine(NextLetter(), tokenizer, 1)._beginning("a\ufffd" * 3, 4)
    assert (beginning.num_bytes, len(beginning.tokens)) == (4, 4)


def test_a_character_cut_in_two_is_not_scored(model, tokenizer):
    one, other = scored(Engine(model, tokenizer, 2), ["ab😀c", "ab"], 5)
    assert one.log_likelihood == pytest.approx(other.log_likelihood, rel=1e-5)
    assert (one.num_bytes, one.num_tokens) == (2, 2)


def test_a_composed_model_scores_as_its_experts(composed, experts, tokenizer):
    names, texts = ["cpp", "python", "cpp"], ["int a;\n", "def b(): pass\n" * 2, "x"]
    moe = load_composed(composed, Routing.FIXED, 1, torch.float32)
    for name, text, found in zip(names, texts, scored(Engine(moe, tokenizer, 3), texts, 50, names), strict=True):
        expected, _ = by_hand(load_model(experts[name], torch.float32), tokenizer, text, 50)
        assert found.log_likelihood == pytest.approx(expected, rel=1e-5)
        assert found.route == {name: 1.0}


@pytest.mark.parametrize(("routing", "top_k"), [(Routing.PROMPT, 1), (Routing.TOKEN, 2)])
def test_a_texts_score_and_route_do_not_hang_on_the_batch(composed, tokenizer, routing, top_k):
    moe = load_composed(composed, routing, top_k, torch.float32)
    texts = ["int a;\n", "def b(): pass\n" * 3, "x"]
    together, alone = (scored(Engine(moe, tokenizer, size), texts, 60) for size in (3, 1))
    for one, other in zip(together, alone, strict=True):
        assert one.log_likelihood == pytest.approx(other.log_likelihood, rel=1e-5)
        assert one.route == pytest.approx(other.route, abs=2e-4)
        assert sum(one.route.values()) == pytest.approx(1, abs=1e-3)


def test_texts_of_like_length_share_a_batch(model, tokenizer):
    order = [index for index, _ in Engine(model, tokenizer, 2).log_likelihoods(["a", "b" * 9, "c" * 3, "d" * 8], 50)]
    assert order == [1, 3, 2, 0]


@pytest.fixture(scope="module")
def merging():
    """A tokenizer that makes one token of a line's end and the indentation after it, as most do."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ċ", "Ġ"), ("ĊĠ", "Ġ")]
    pieces = ["<|endoftext|>", *alphabet, "ĊĠ", "ĊĠĠ"]
    bpe = Tokenizer(models.BPE(vocab={piece: index for index, piece in enumerate(pieces)}, merges=merges))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>")


class Wishes:
    """A model that wants the same tokens in the same order, whatever the prompt, and shows the prompts it was given."""

    device = torch.device("cpu")
    config = SimpleNamespace()

    def __init__(self, vocabulary, *wishes):
        self.vocabulary, self.wishes, self.prompts, self.step = vocabulary, wishes, [], 0

    def __call__(self, tokens, **_):
        self.prompts += tokens.tolist() if self.step == 0 else []
        logits = torch.zeros(len(tokens), 1, self.vocabulary)
        for rank, token in enumerate(self.wishes[self.step]):
            logits[:, :, token] = 9.0 - rank
        self.step += 1
        return SimpleNamespace(logits=logits, past_key_values=SimpleNamespace(batch_select_indices=lambda _: None))


def test_a_prompt_that_ends_inside_a_token_is_healed(merging):
    ids = merging.get_vocab()
    # Unhealed, the model would take "x" (its favourite); healed, what begins with a line's end: the indented line.
    model = Wishes(len(ids), [ids["x"], ids["ĊĠĠ"], ids["Ċ"]], [ids["y"]], [ids["z"]])
    (found,) = completed(Engine(model, merging, 1), [Request("a:\n", (), 3)])
    assert (found.text, found.finish, found.num_tokens) == ("  yz", "length", 3)
    assert merging.convert_ids_to_tokens(model.prompts[0]) == ["<|endoftext|>", "a", ":"]


def test_a_token_that_only_gives_back_the_prompts_end_is_not_counted(merging):
    ids = merging.get_vocab()
    model = Wishes(len(ids), [ids["Ċ"]], [ids["y"]], [ids["z"]])
    (found,) = completed(Engine(model, merging, 1), [Request("a:\n", (), 2)])
    assert (found.text, found.num_tokens) == ("yz", 2)


def test_a_prompt_that_ends_in_a_word_is_left_as_it_is(merging):
    ids = merging.get_vocab()
    model = Wishes(len(ids), [ids["x"]])
    (found,) = completed(Engine(model, merging, 1), [Request("a\nb", (), 1)])
    assert found.text == "x"
    assert merging.convert_ids_to_tokens(model.prompts[0]) == ["<|endoftext|>", "a", "Ċ", "b"]


@pytest.mark.network
@pytest.mark.real
def test_the_embedded_base_goes_on_with_the_body_after_a_docstring(embedded_base):
    engine = Engine(load_model(embedded_base, torch.float32), load_tokenizer(embedded_base), 2)
    prompt = 'def add(a, b):\n    """Return the sum of a and b."""\n'
    (found,) = completed(engine, [Request(prompt, ("\ndef", "\n#", "\nif", "\nclass"), 24)])
    compile(prompt + found.text, "completion", "exec")
    assert found.text.startswith("    return")


def test_the_token_that_ends_a_middle_ends_a_completion(trunk):
    """Code Llama's, which is not the token between its documents; what follows it is no answer."""
    tokenizer = load_tokenizer(trunk)
    tokenizer.add_tokens(["▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"], special_tokens=True)
    end = tokenizer.convert_tokens_to_ids("▁<EOT>")
    engine = Engine(NextLetter(vocabulary=end + 9), Ids(tokenizer), 2)
    (output,) = completed(engine, [Request((end - 3,), (), 9)])
    assert (output.text, output.finish, output.num_tokens) == (f"<{end - 2}><{end - 1}>", "end", 3)


def test_a_completion_ends_where_the_model_has_no_positions_left(tokenizer):
    model = NextLetter()
    model.config = SimpleNamespace(max_position_embeddings=6)
    engine = Engine(model, Ids(tokenizer), 2)
    assert completed(engine, [Request("ab", (), 60)])[0].num_tokens == 3  # after the separator and two bytes
    with pytest.raises(InputError, match="the prompt is too long"):
        list(engine.complete([Request("abcdef", (), 1)]))


def test_a_text_is_scored_as_text(model, tokenizer):
    """What a file spells of a control token is bytes, as in training."""
    engine, text = Engine(model, tokenizer, 1), "a<|endoftext|>b"
    ((_, found),) = engine.log_likelihoods([text], 100)
    assert (found.num_tokens, found.num_bytes) == (len(text), len(text))
