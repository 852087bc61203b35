import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codechoir.compose import prompt_routers
from codechoir.compose.config import ComposeConfig
from codechoir.compose.prompt_routers import (
    _as_comment,
    _header,
    _logistic,
    _Reading,
    fit_prompt_router,
    prefix_lengths,
    unfitted_prompt_router,
    with_fallback,
)
from codechoir.documents import Text, read_texts
from codechoir.model.checkpoint import load_tokenizer
from codechoir.model.prompt_router import BUCKETS, hashed_bags, tokens_with_letters

LANGUAGES = ("python", "java", "cpp")
WORDS = torch.zeros(300, dtype=torch.bool)


@pytest.fixture(scope="module")
def tokenizer(trunk):
    return load_tokenizer(trunk)


def text(content, number=0):
    return Text(f"key-{number}", "package", content)


def test_languages_are_told_apart_on_files_that_were_held_out(documents, tokenizer, compose_config):
    train = {name: read_texts(documents, name, "train") for name in LANGUAGES}
    router = fit_prompt_router(train, tokenizer, 257, compose_config)
    for label, name in enumerate(LANGUAGES):
        for held in read_texts(documents, name, "held_out"):
            ids = torch.tensor(tokenizer(held.content)["input_ids"])
            for prefix in (ids[:64], ids, ids[len(ids) // 2 :]):
                probabilities = router.probabilities([prefix])[0]
                assert int(probabilities.argmax()) == label
            assert float(probabilities.max()) > 0.8


@pytest.mark.parametrize(
    ("asked", "experts", "expected"),
    [
        ("auto", LANGUAGES, ("top-2", None)),
        ("auto", (*LANGUAGES, "generalist"), ("generalist", 3)),
        ("top-2", (*LANGUAGES, "generalist"), ("top-2", None)),
        ("none", LANGUAGES, ("none", None)),
        ("generalist", ("python", "generalist", "cpp"), ("generalist", 1)),
    ],
)
def test_the_fallback_is_the_configs_and_auto_hangs_on_the_experts(asked, experts, expected):
    config = ComposeConfig(prompt_fallback=asked, prompt_confidence=0.7)
    found = with_fallback(unfitted_prompt_router(5, len(experts), config), experts, config)
    assert (found.fallback, found.generalist) == expected and found.confidence == 0.7


def test_special_tokens_are_not_read(documents, tokenizer, compose_config):
    train = {name: read_texts(documents, name, "train") for name in LANGUAGES}
    router = fit_prompt_router(train, tokenizer, 257, compose_config)
    assert router.ignored == (tokenizer.convert_tokens_to_ids("<|endoftext|>"),)


def test_the_same_seed_fits_the_same_router(documents, tokenizer, compose_config):
    train = {name: read_texts(documents, name, "train") for name in LANGUAGES}
    one, same = (fit_prompt_router(train, tokenizer, 257, compose_config) for _ in range(2))
    assert torch.equal(one.weight_FE, same.weight_FE)
    assert one.prefix_tokens == compose_config.prefix_tokens


def test_a_licences_words_say_nothing_of_the_language_below_it(tokenizer):
    """All Python files begin with a licence and no C++ file does; the words alone would tell them apart."""
    words = "Copyright of the authors. Licensed under the terms below, and without warranty of any kind.\n"
    train = {
        "python": [text(f"# {words}" * 4 + f"import a{n}\ndef f{n}(x):\n    return x\n" * 3, n) for n in range(20)],
        "cpp": [text(f"#include <a{n}>\nint f{n}(int x) {{\n    return x;\n}}\n" * 4, n) for n in range(20)],
    }
    router = fit_prompt_router(train, tokenizer, 257, ComposeConfig(prompt_documents=20))
    under = f"// {words}" * 4 + "int main() {\n    return 0;\n}\n"
    probabilities = router.probabilities([torch.tensor(tokenizer(under)["input_ids"])])[0]
    assert int(probabilities.argmax()) == 1


@pytest.mark.parametrize(
    ("prefix_tokens", "expected"),
    [(512, (16, 32, 64, 128, 256, 512)), (100, (16, 32, 64, 100)), (16, (16,)), (1, (1,))],
)
def test_a_router_is_measured_up_to_what_it_reads(prefix_tokens, expected):
    assert prefix_lengths(prefix_tokens) == expected


@pytest.mark.parametrize("prefix_tokens", [1, 40, 3000])
def test_a_router_is_fitted_on_prefixes_up_to_what_it_reads(tokenizer, monkeypatch, prefix_tokens):
    fitted = []
    monkeypatch.setattr(
        prompt_routers, "_logistic", lambda readings, *_: fitted.extend(readings) or torch.zeros(32768, 2)
    )
    texts = {name: [text("x = 1\n" * 5000, n) for n in range(60)] for name in ("python", "cpp")}
    fit_prompt_router(texts, tokenizer, 257, ComposeConfig(prefix_tokens=prefix_tokens))
    lengths = {len(reading.ids) for reading in fitted}
    assert lengths >= {max(1, prefix_tokens // share) for share in (1, 2, 4, 8, 16)}  # and some that end with the text
    assert max(lengths) == prefix_tokens


def test_the_weights_are_where_the_penalised_likelihood_is_level():
    generator = torch.Generator().manual_seed(0)
    readings = [
        _Reading(torch.randint(100 * label, 150 + 100 * label, (20,), generator=generator), label)
        for label in (0, 1, 0, 1, 0, 0, 1, 0)
    ]
    penalty = 1e-3
    weights = _logistic(readings, WORDS, 2, penalty).double().numpy()
    features = hashed_bags([reading.ids for reading in readings], WORDS).to_dense().double().numpy()
    labels = np.eye(2)[[reading.label for reading in readings]]
    powers = np.exp(features @ weights)
    gradient = (
        features.T @ (powers / powers.sum(axis=1, keepdims=True) - labels) / len(readings) + 2 * penalty * weights
    )
    at_zero = features.T @ (0.5 - labels) / len(readings)
    assert np.abs(gradient).max() < 1e-3 * np.abs(at_zero).max()
    assert weights.shape == (BUCKETS, 2)


def test_the_temperature_is_the_likeliest_on_every_fifth_document(tokenizer, monkeypatch):
    weight_FE = 3 * torch.randn(BUCKETS, 2, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(prompt_routers, "_logistic", lambda *_: weight_FE)
    monkeypatch.setattr(prompt_routers, "_readings", lambda content, *_: [content])
    monkeypatch.setattr(prompt_routers, "_FIT_SHARES", (1,))
    words = tokens_with_letters(tokenizer, 257)

    def scores(contents):
        bags = hashed_bags([torch.tensor(tokenizer(content)["input_ids"]) for content in contents], words)
        return bags.to_dense().double().numpy() @ weight_FE.double().numpy()

    # Every fifth document mostly favours its own language, the others the other one.
    contents = [f"{number} words" * 3 for number in range(200)]
    favoured = scores(contents).argmax(axis=1)
    train = {}
    for label, name in enumerate(("java", "cpp")):
        own, other = (
            [content for content, f in zip(contents, favoured, strict=True) if f == each] for each in (label, 1 - label)
        )
        train[name] = [text((own if number in (4, 9, 19) else other)[number], number) for number in range(20)]
    router = fit_prompt_router(train, tokenizer, 257, ComposeConfig())
    held = [(train[name][number].content, label) for label, name in enumerate(train) for number in (4, 9, 14, 19)]
    held_scores = scores([content for content, _ in held])

    def loss(temperature):
        logits = held_scores / temperature
        return np.mean([np.log(np.exp(row).sum()) - row[label] for row, (_, label) in zip(logits, held, strict=True)])

    grid = [2 ** (power / 2) for power in range(-4, 5)]
    assert router.temperature == pytest.approx(min(grid, key=loss))
    assert grid[0] < router.temperature < grid[-1]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("# one\n#  two\n\nimport a\n", ["one", " two"]),
        ("// one\n// two */\nint a;\n", ["one", "two"]),
        ("/*\n * one\n */\nint a;\n", ["", "one", ""]),
        ("#include <a>\n// one\n", []),
        ("#!/bin/sh\n# one\n", []),
        ("int a; // one\n", []),
        ("", []),
    ],
)
def test_a_header_is_the_comment_that_a_file_begins_with(content, expected):
    assert _header(content) == expected


@given(
    st.lists(st.from_regex(r"[abc1]( ?[abc1]){0,5}", fullmatch=True), min_size=1, max_size=5),
    st.sampled_from(LANGUAGES),
    st.randoms(use_true_random=False),
)
def test_a_header_comes_back_from_any_languages_comment(lines, name, rng):
    comment = _as_comment(lines, name, rng)
    assert comment.endswith("\n")
    assert [line for line in _header(comment + "code\n") if line] == lines


@pytest.mark.parametrize(
    ("name", "expected"),
    [("html", "<!--\n A\n\n B\n -->\n"), ("css", "/*\n * A\n *\n * B\n */\n"), ("sql", "-- A\n--\n-- B\n")],
)
def test_a_header_in_a_language_without_line_comments_is_a_block(name, expected):
    assert _as_comment(["A", "", "B"], name, random.Random(0)) == expected
