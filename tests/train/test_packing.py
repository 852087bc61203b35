"""Packing against the documents that come out when the sequences are read again, and by each document's own logits."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from codechoir.model.checkpoint import load_tokenizer
from codechoir.model.encoding import TextEncoder
from codechoir.model.families import FAMILIES
from codechoir.model.infilling_tokens import Sentinels
from codechoir.train.infilling import Rates
from codechoir.train.packing import (
    Writer,
    cut,
)


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=30), max_size=8), st.integers(1, 12))
def test_cutting_loses_nothing_and_knows_every_document(read: list[list[int]], length: int) -> None:
    rows_cut = list(cut(read, length))
    stream = [(number, token) for number, document in enumerate(read) for token in document]
    assert [token for tokens, _ in rows_cut for token in tokens] == [token for _, token in stream][
        : len(rows_cut) * length
    ]
    assert len(rows_cut) == len(stream) // length
    for row, (_, positions) in enumerate(rows_cut):
        documents = [number for number, _ in stream[row * length :][:length]]
        assert positions == [documents[:place].count(number) for place, number in enumerate(documents)]


@pytest.fixture(scope="module")
def writer(random_base: Path) -> Writer:
    return Writer(TextEncoder(load_tokenizer(random_base)), 0, Sentinels(300, 301, 302, 303), 12, Rates(0.0, 0.5))


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20))
def test_a_document_has_a_beginning_and_where_it_is_whole_an_end(writer: Writer, text: str) -> None:
    document = writer.write(text, "draw")
    end = [0] if len(text) <= 12 else []
    assert document.tokens == [0, *writer.encoder.encode(text[:12]), *end]
    assert (document.num_bytes, document.is_infilling) == (min(len(text), 12), False)


def test_an_infilling_is_of_what_is_kept_and_has_its_own_end(writer: Writer) -> None:
    document = replace(writer, rates=Rates(1.0, 0.5)).write("twelve bytes and more", "draw")
    assert document.is_infilling and document.num_bytes == 12
    assert sorted(document.tokens)[-4:] == [300, 301, 302, 303]
    assert (document.tokens[:2], document.tokens[-1]) == ([0, 300], 303)
    assert len(document.tokens) == 1 + 12 + 4
    assert Counter(document.tokens[2:-1]) - Counter([301, 302]) == Counter(writer.encoder.encode("twelve bytes"))


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
    packed = list(cut(read, 96))
    assert len(packed) == 2
    tokens_BT, positions_BT = (torch.tensor(part) for part in zip(*packed, strict=True))
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
