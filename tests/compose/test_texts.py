"""The stretches that token routers are fitted on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codechoir.compose.texts import sequences_of
from codechoir.documents import Text
from codechoir.model.checkpoint import load_tokenizer, separator_id


@pytest.fixture(scope="module")
def tokenizer(random_base: Path):
    """Its tokens are bytes."""
    return load_tokenizer(random_base)


@given(sizes=st.lists(st.integers(0, 60), max_size=12), length=st.integers(1, 40))
def test_a_sequence_lies_in_as_few_documents_as_hold_it_and_none_is_in_two(tokenizer, sizes, length) -> None:
    texts = [_numbered(number, size) for number, size in enumerate(sizes)]
    sequences = list(sequences_of(texts, tokenizer, length))
    joined, held = [], []
    for text in texts:
        joined += [separator_id(tokenizer), *tokenizer(text.content)["input_ids"]]
        if len(joined) >= length:
            held.append(joined)
            joined = []
    assert len(sequences) == len(held)
    for sequence, tokens in zip(sequences, held, strict=True):
        assert sequence.shape == (length,)
        assert sequence.tolist() in [tokens[start : start + length] for start in range(len(tokens) - length + 1)]


def test_stretches_come_from_all_over_their_documents(tokenizer) -> None:
    """Of 400 documents of 1,000 bytes, each tenth of the places where 100 tokens can begin has some 40."""
    content = "".join(f"{number:04}" for number in range(250))
    texts = [Text(f"key {number}", "package", content) for number in range(400)]
    tokens = torch.tensor([separator_id(tokenizer), *tokenizer(content)["input_ids"]])
    windows = tokens.unfold(0, 100, 1)
    starts = torch.cat([(windows == sequence).all(dim=1).nonzero()[:, 0] for sequence in _all(texts, tokenizer)])
    assert len(starts) == 400
    assert torch.histc(starts.float(), bins=10, min=0, max=901).min() > 15


def test_where_a_stretch_begins_is_by_its_document_alone(tokenizer) -> None:
    texts = [_numbered(number, 300) for number in range(5)]
    forward, backward = _all(texts, tokenizer), _all(texts[::-1], tokenizer)
    assert all(map(torch.equal, forward, backward[::-1]))


def _all(texts: list[Text], tokenizer) -> list[torch.Tensor]:
    return list(sequences_of(texts, tokenizer, 100))


def _numbered(number: int, size: int) -> Text:
    return Text(f"key {number}", "package", (f"{number}:" + "abcdefghijklmnopqrstuvwxyz" * size)[:size])
