import importlib.util

import pytest
import torch

from codechoir.errors import InputError, ToolMissingError
from codechoir.model.llama_cpp_engine import open_gguf
from codechoir.model.requests import Request, stream

MISSING = importlib.util.find_spec("llama_cpp") is None
needs_llama_cpp = pytest.mark.skipif(MISSING, reason="needs the optional extra llama-cpp (llama-cpp-python)")


@pytest.fixture(scope="module")
def written(write_gguf, tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("gguf") / "small.gguf")


@pytest.fixture(scope="module")
def engine(written):
    opened = open_gguf(written.path, num_threads=1)
    yield opened
    opened.close()


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "llama_cpp", None)  # as Python marks what cannot be imported
    with pytest.raises(ToolMissingError, match=r"codechoir\[llama-cpp\]"):
        open_gguf(tmp_path / "any.gguf")


@needs_llama_cpp
def test_a_missing_or_damaged_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such GGUF file"):
        open_gguf(tmp_path / "none.gguf")
    (tmp_path / "bad.gguf").write_bytes(b"GGUFnot really")
    with pytest.raises(InputError, match="cannot load"):
        open_gguf(tmp_path / "bad.gguf")


@needs_llama_cpp
def test_completions_are_those_of_transformers_on_the_same_file(engine, written):
    """Greedy tokens and log probabilities by transformers' own reading of the weights that the file holds."""
    from transformers import LlamaConfig, LlamaForCausalLM

    size = next(iter(tensor for name, tensor in written.tensors.items() if "embed_tokens" in name)).shape[0]
    config = LlamaConfig(
        vocab_size=size, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True, rope_theta=7000.0, rms_norm_eps=1e-6,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.load_state_dict(written.tensors, strict=False)
    *chunks, end = stream(engine, Request((5, 9, 30), (), 8, logprobs=3))
    tokens = [token for chunk in chunks for token in chunk.tokens]
    ids = [5, 9, 30, *(token.id for token in tokens)]
    with torch.no_grad():
        logs_TV = model.eval()(torch.tensor([ids])).logits[0].log_softmax(dim=-1)
    for place, token in enumerate(tokens, 2):
        assert token.logprob == pytest.approx(float(logs_TV[place, token.id]), abs=0.03)  # activations are quantised
        assert float(logs_TV[place].max()) - float(logs_TV[place, token.id]) < 0.05
    assert (end.num_prompt_tokens, end.route) == (3, {})


@needs_llama_cpp
def test_requests_take_turns_and_seeds_hold(engine):
    requests = [Request("def a", (), 6, temperature=1.0, seed=seed) for seed in (1, 2, 1)]
    texts = ["".join(event.text for event in list(stream(engine, request))[:-1]) for request in requests]
    assert texts[0] == texts[2] != texts[1]


@needs_llama_cpp
@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"routing": "prompt"}, "routes by prompt"),
        ({"expert": "python"}, "fix the route"),
        ({"traced": True}, "which experts"),
    ],
)
def test_what_llama_cpp_cannot_do_is_refused_with_the_reason(engine, more, message):
    with pytest.raises(InputError, match=message):
        engine.submit(Request("a", (), 2, **more), print)
