import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from codechoir.compose.routes import (
    RouteReader,
    TextRoutes,
    _pieces,
    dead_experts,
    read_text,
    route_in_words,
    routing_shares,
)
from codechoir.compose.stage import compose
from codechoir.documents import read_texts
from codechoir.errors import InputError
from codechoir.model.checkpoint import load_tokenizer, separator_id
from codechoir.model.moe import open_composed


@pytest.fixture(scope="module")
def reader(composed):
    with pytest.MonkeyPatch.context() as patch:  # as exact on every machine
        patch.setattr("codechoir.compose.routes.compute_dtype", lambda _: torch.float32)
        return RouteReader(composed, 2)


@pytest.fixture(scope="module")
def python_text(documents):
    return read_texts(documents, "python", "held_out")[0].content


def test_the_choices_are_those_of_plain_mixtral(reader, composed, python_text):
    """transformers' own Mixtral tells its routers' logits; top-2 and softmax by numpy."""
    found = reader.read("a/file.py", python_text)
    tokenizer = load_tokenizer(composed)
    ids = [separator_id(tokenizer), *tokenizer(python_text)["input_ids"]]
    model = AutoModelForCausalLM.from_pretrained(composed, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = model(torch.tensor([ids]), output_router_logits=True).router_logits
    assert found.chosen_LTK.shape == (2, len(ids) - 1, 2)
    for layer, logits_NE in enumerate(logits):
        scores = logits_NE.double().numpy()[1:]
        order = np.argsort(-scores, axis=1)[:, :2]
        powers = np.exp(np.take_along_axis(scores, order, axis=1))
        gap = np.sort(scores, axis=1)
        clear = (gap[:, 1] - gap[:, 0]) > 1e-4  # where rounding cannot turn the choice over
        clear &= (gap[:, 2] - gap[:, 1]) > 1e-4
        assert clear.mean() > 0.9
        assert (found.chosen_LTK[layer].numpy()[clear] == order[clear]).all()
        expected = powers / powers.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found.weights_LTK[layer].numpy()[clear], expected[clear], atol=1e-3)


def test_the_pieces_are_the_text(reader):
    text = "x = 'é漢🙂'\n\tif  a:\r\n"
    found = reader.read("noname", text)
    assert "".join(found.pieces) == text
    assert found.language == "unknown"
    assert len(found.pieces) == found.num_tokens == found.chosen_LTK.shape[1]


@pytest.mark.parametrize(
    ("text", "offsets", "expected"),
    [
        ("é!", [(0, 1), (0, 1), (1, 2)], ("é", "", "!")),  # a character in two tokens
        ("ab", [(0, 1), (0, 0), (1, 2)], ("a", "", "b")),  # a token of no character
        (" a b", [(1, 2), (3, 4)], (" a", " b")),
    ],
)
def test_every_character_is_in_one_piece(text, offsets, expected):
    assert _pieces(text, offsets) == expected


def test_a_long_text_is_cut(reader, monkeypatch):
    monkeypatch.setattr(reader, "_max_tokens", 10)
    found = reader.read("long.java", "int a;\n" * 40)
    assert (len(found.pieces), found.chosen_LTK.shape[1], found.language) == (10, 10, "java")
    assert found.num_tokens > 100


def test_a_text_without_tokens_is_refused(reader):
    with pytest.raises(InputError, match="no tokens"):
        reader.read("empty.py", "")


def test_the_prompt_router_is_asked_at_each_length(reader, composed, python_text):
    found = reader.read("file.py", python_text)
    ids = torch.tensor(load_tokenizer(composed)(python_text)["input_ids"])
    router = open_composed(composed).prompt_router
    assert list(found.prompt) == [16, 32, 64, 128, 256, min(len(ids), router.prefix_tokens)]
    for length, route in found.prompt.items():
        assert route.probabilities == pytest.approx(router.probabilities([ids[:length]])[0].tolist(), abs=1e-4)
        assert route.weights == pytest.approx(router.routes([ids[:length]])[0].tolist(), abs=1e-4)


def test_a_route_is_told_by_its_experts():
    assert route_in_words((0.0, 1.0, 0.0), ("python", "java", "cpp")) == "java"
    assert route_in_words((0.4, 0.0, 0.6), ("python", "java", "cpp")) == "cpp 60%, python 40%"


def routes(language, chosen, weights):
    pieces = ("x",) * len(chosen[0])
    return TextRoutes("f", language, len(pieces), pieces, torch.tensor(chosen), torch.tensor(weights), {})


def test_shares_are_by_language_and_layer_and_tokens_count_alike():
    one = routes("python", [[[0], [0], [1]], [[2], [2], [2]]], [[[1.0]] * 3] * 2)
    other = routes("python", [[[1]], [[0]]], [[[1.0]]] * 2)
    java = routes("java", [[[0, 1]], [[1, 0]]], [[[0.75, 0.25]]] * 2)
    assert routing_shares([one, other, java], 4) == {
        "python": [[0.5, 0.5, 0, 0], [0.25, 0, 0.75, 0]],
        "java": [[0.75, 0.25, 0, 0], [0.25, 0.75, 0, 0]],
    }
    assert dead_experts([one, other, java], 4) == [[2, 3], [3]]
    assert dead_experts([java], 2) == [[], []]


@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=1, max_size=6))
def test_shares_of_a_layer_sum_to_one(chosen):
    text = routes("python", [[[expert] for expert in row] for row in chosen], [[[1.0]] * 3] * len(chosen))
    for row in routing_shares([text], 4)["python"]:
        assert sum(row) == pytest.approx(1, abs=1e-3)


def test_files_that_are_no_text_are_told(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for path, said in ((tmp_path / "binary", "not UTF-8"), (tmp_path / "absent", "no such file")):
        with pytest.raises(InputError, match=said) as refused:
            read_text(path)
        assert str(path) in str(refused.value)
    (tmp_path / "crlf").write_bytes(b"a\r\n")
    assert read_text(tmp_path / "crlf") == "a\r\n"


def test_layers_without_experts_have_no_routes(compose_config, compose_inputs, tmp_path, python_text):
    config = compose_config.model_copy(update={"layers": "1", "shared": "base", "prove": False})
    compose(config, compose_inputs, tmp_path / "out")
    assert RouteReader(tmp_path / "out", 1).read("f.py", python_text).chosen_LTK.shape[::2] == (1, 1)
