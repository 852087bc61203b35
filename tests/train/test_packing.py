"""Packing against the documents that come out when the sequences are read again, and by each document's own logits."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import chain, groupby, islice, pairwise, repeat
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from codechoir.model.checkpoint import load_tokenizer
from codechoir.model.encoding import TextEncoder
from codechoir.model.families import FAMILIES
from codechoir.model.infilling_tokens import Sentinels
from codechoir.train import packing
from codechoir.train.infilling import Rates
from codechoir.train.packing import Document, Writer, fill

TEXTS = st.lists(
    st.lists(st.integers(0, 9), min_size=1, max_size=30).map(lambda ids: Document(ids, len(ids))), max_size=8
)


@given(TEXTS, st.integers(1, 12))
def test_cutting_loses_nothing_and_knows_every_document(read: list[Document], length: int) -> None:
    rows = list(fill(read, length))
    stream = [(number, token) for number, document in enumerate(read) for token in document.tokens]
    assert [token for row in rows for token in row.tokens] == [token for _, token in stream][: len(rows) * length]
    assert len(rows) == len(stream) // length
    for place, row in enumerate(rows):
        documents = [number for number, _ in stream[place * length :][:length]]
        assert row.positions == [documents[:place].count(number) for place, number in enumerate(documents)]
    assert [sum(row.num_texts for row in rows), round(sum(row.num_bytes for row in rows))] == [
        len({number for number, _ in stream[: len(rows) * length]}),
        len(rows) * length,
    ]


@given(st.lists(st.tuples(st.integers(1, 30), st.booleans()), min_size=1, max_size=40), st.integers(4, 24))
def test_infillings_are_whole_and_in_some_row(sizes: list[tuple[int, bool]], length: int) -> None:
    """Read back by their numbers, from rows of an endless stream."""
    read = [Document([number] * size, size, is_infilling=whole) for number, (size, whole) in enumerate(sizes)]
    others = repeat(Document([-1], 1))  # with which any room can be filled
    rows = list(islice(fill(chain(read, others), length), sum(size for size, _ in sizes) + 1))
    assert all(len(row.tokens) == len(row.positions) == length for row in rows)
    runs = [(key, len(list(run))) for row in rows for key, run in groupby(row.tokens) if key >= 0]
    for number, (size, whole) in enumerate(sizes):
        parts = [part for key, part in runs if key == number]
        assert sum(parts) == size
        if whole and size <= length:
            assert parts == [size]
    assert sum(row.num_infillings for row in rows) == sum(whole for _, whole in sizes)
    cut = [number for number, _ in runs if not sizes[number][1]]
    assert cut == sorted(cut)  # nothing else changes its place


def test_where_there_are_but_infillings_they_are_cut_at_last() -> None:
    rows = list(islice(fill(repeat(Document([1] * 5, 5, is_infilling=True)), 8), 100))
    assert all(len(row.tokens) == 8 for row in rows)
    assert sum(row.num_infillings for row in rows) == pytest.approx(100 * 8 / 5, abs=packing._WAITING)


@pytest.fixture(scope="module")
def tokenizer(random_base: Path) -> Any:
    return load_tokenizer(random_base)


@pytest.fixture(scope="module")
def writer(tokenizer: Any) -> Writer:
    return Writer(TextEncoder(tokenizer), 0, Sentinels(300, 301, 302, 303), 12, 64, Rates(0.0, 0.5))


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20))
def test_a_document_has_a_beginning_and_where_it_is_whole_an_end(writer: Writer, text: str) -> None:
    end = [0] if len(text) <= 12 else []
    assert writer.write(text, "draw") == [Document([0, *writer.encoder.encode(text[:12]), *end], min(len(text), 12))]


def test_an_infilling_is_of_what_is_kept_and_has_its_own_end(writer: Writer) -> None:
    (document,) = replace(writer, rates=Rates(1.0, 0.5)).write("twelve bytes and more", "draw")
    assert document.is_infilling and document.num_bytes == 12
    assert sorted(document.tokens)[-4:] == [300, 301, 302, 303]
    assert (document.tokens[:2], document.tokens[-1]) == ([0, 300], 303)
    assert len(document.tokens) == 1 + 12 + 4
    assert Counter(document.tokens[2:-1]) - Counter([301, 302]) == Counter(writer.encoder.encode("twelve bytes"))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80), st.integers(16, 40))
def test_parts_of_a_long_text_are_infillings_that_a_sequence_holds(
    writer: Writer, tokenizer: Any, text: str, length: int
) -> None:
    always = replace(writer, rates=Rates(1.0, 0.0), document_tokens=400, sequence_length=length)
    documents = always.write(text, "draw")
    assert [document.begins for document in documents] == [True, *[False] * (len(documents) - 1)]
    assert max(len(document.tokens) for document in documents) <= length
    decode = tokenizer.decode
    read = b""
    for document in documents:  # prefix, suffix, middle: a byte is a token
        marks = [document.tokens.index(mark) for mark in (300, 301, 302, 303)]
        prefix, suffix, middle = (document.tokens[one + 1 : other] for one, other in pairwise(marks))
        read += decode([*prefix, *middle, *suffix]).encode()
    assert read == text.encode()
    assert sum(document.num_bytes for document in documents) == len(read)


SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
}
GPT = {"n_embd": 32, "n_inner": 48, "n_layer": 3, "n_head": 4, "n_positions": 96, "rotary_dim": 4}
OF_THEIR_OWN = {
    "gpt_bigcode": GPT,
    "codegen": GPT,
    "gptj": GPT,
    "gpt_neox": {name: size for name, size in SIZES.items() if name != "num_key_value_heads"},
    "gemma2": SIZES | {"head_dim": 8, "sliding_window": 8},
    "gemma3_text": SIZES | {"head_dim": 8, "sliding_window": 8, "sliding_window_pattern": 2},
    "starcoder2": SIZES | {"sliding_window": 8},
    "mistral": SIZES | {"sliding_window": 8},
    "qwen3": SIZES | {"head_dim": 8},
    "gemma": SIZES | {"head_dim": 8},
}


@pytest.mark.parametrize("family", [*FAMILIES, "gptj", "stablelm"])
def test_packed_documents_do_not_see_each_other(family: str) -> None:
    """Positions alone, without a mask: the logits are each document's own, with windows and learned positions too."""
    special = {"vocab_size": 99, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    config = AutoConfig.for_model(family, **OF_THEIR_OWN.get(family, SIZES), **special)
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval()
        for parameter in model.parameters():  # large enough that every part shows in the logits
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    lengths = (20, 1, 30, 25, 2, 40, 74)
    read = [torch.randint(99, (length,), generator=generator).tolist() for length in lengths]
    rows = list(fill([Document(ids, len(ids)) for ids in read], 96))
    assert len(rows) == 2
    tokens_BT, positions_BT = torch.tensor([row.tokens for row in rows]), torch.tensor([row.positions for row in rows])
    with torch.no_grad():
        logits_BTV = model(input_ids=tokens_BT, position_ids=positions_BT, use_cache=False).logits
        largest = float(logits_BTV.abs().max())
        for row in range(2):
            starts = [*(positions_BT[row] == 0).nonzero().flatten().tolist(), 96]
            assert len(starts) >= 3
            for start, end in pairwise(starts):
                alone = model(input_ids=tokens_BT[row : row + 1, start:end], use_cache=False).logits[0]
                assert float((logits_BTV[row, start:end] - alone).abs().max()) < 1e-5 * largest
        mixed_up = model(input_ids=tokens_BT, use_cache=False).logits
    assert float((logits_BTV - mixed_up).abs().max()) > 1e-2 * largest  # one document of it all differs
