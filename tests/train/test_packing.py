"""Packing against the documents that come out when the sequences are read again, and who reads which sequence."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.documents import Text
from codechoir.errors import InputError
from codechoir.train.config import TrainConfig
from codechoir.train.packing import Packed, Tokens, expert_sequences, pack, trunk_sequences, universal_sequences

SEPARATOR = 0


def code_points(text: str, *, add_special_tokens: bool, verbose: bool) -> dict[str, list[int]]:
    """A tokenizer: a token a character, never the separator."""
    assert not add_special_tokens and not verbose
    return {"input_ids": [ord(character) for character in text]}


def texts(contents: list[str]) -> list[Text]:
    return [Text(f"key-{number}", "package", content) for number, content in enumerate(contents)]


def packed_of(contents: list[str], num_sequences: int = 4, **settings: Any) -> Packed:
    config = TrainConfig(**{"sequence_length": 8, **settings})
    return pack(texts(contents), code_points, SEPARATOR, config, num_sequences)


documents = st.lists(st.text(st.characters(min_codepoint=1, max_codepoint=300), max_size=40), min_size=1, max_size=8)


@given(documents, st.integers(1, 12), st.integers(8, 20), st.integers(8, 30), st.integers(0, 3))
def test_sequences_hold_every_document_once_a_pass_after_a_separator(
    contents: list[str], num_sequences: int, length: int, document_tokens: int, seed: int
) -> None:
    packed = packed_of(contents, num_sequences, sequence_length=length, document_tokens=document_tokens, seed=seed)
    assert packed.tokens.shape == (num_sequences, length)
    stream = packed.tokens.flatten().tolist()
    assert stream[0] == SEPARATOR
    read = "".join(map(chr, stream)).split(chr(SEPARATOR))[1:]
    whole = [content[:document_tokens] for content in contents]
    first_pass = read[: len(whole)]
    if len(read) > len(whole):  # the last one may be cut off
        assert Counter(first_pass) == Counter(whole)
    for number, text in enumerate(read[:-1]):
        assert text in whole
        assert text == read[number % len(whole)]
    assert any(content.startswith(read[-1]) for content in whole)
    assert packed.epochs == pytest.approx(len(read) / len(whole), abs=1e-3)


@given(st.randoms(), st.integers(0, 3))
def test_the_order_is_the_seeds_alone(random: Any, seed: int) -> None:
    config = TrainConfig(sequence_length=8, seed=seed)
    given_texts = texts([f"document {number}" for number in range(9)])
    mixed = random.sample(given_texts, len(given_texts))
    ours, theirs = (pack(some, code_points, SEPARATOR, config, 20).tokens for some in (given_texts, mixed))
    assert np.array_equal(ours, theirs)


def test_another_seed_is_another_order() -> None:
    contents = [f"document {number}" for number in range(9)]
    orders = {packed_of(contents, 12, seed=seed).tokens.tobytes() for seed in range(5)}
    assert len(orders) == 5


def test_fewer_sequences_are_the_first_of_more() -> None:
    contents = [f"document {number}" for number in range(9)]
    assert np.array_equal(packed_of(contents, 3).tokens, packed_of(contents, 10).tokens[:3])


def test_no_documents() -> None:
    with pytest.raises(InputError, match="no training documents"):
        packed_of([])


def rows(tokens: Tokens) -> list[tuple[int, ...]]:
    return [tuple(row) for row in tokens.tolist()]


@given(st.integers(1, 4), st.integers(0, 5), st.integers(1, 5))
def test_who_reads_what(num_languages: int, trunk: int, expert: int) -> None:
    """Every token is read by the trunk or by one expert; the universal model reads the experts' and nothing else."""
    config = TrainConfig(sequence_length=8, trunk_sequences=trunk, expert_sequences=expert)
    count = trunk + expert
    everything = np.arange(num_languages * count * 8).reshape(num_languages, count, 8)
    packed = {f"language-{number}": Packed(tokens, 1.0) for number, tokens in enumerate(everything)}
    of_trunk = rows(trunk_sequences(packed, config))
    of_experts = [rows(expert_sequences(language, config)) for language in packed.values()]
    of_universal = rows(universal_sequences(packed, config))
    assert Counter(of_universal) == Counter(row for some in of_experts for row in some)
    assert not set(of_trunk) & set(of_universal)
    assert Counter(of_trunk + of_universal) == Counter(rows(everything.reshape(-1, 8)))
    assert all(len(some) == expert for some in of_experts)


def test_languages_take_turns() -> None:
    config = TrainConfig(sequence_length=8, trunk_sequences=3, expert_sequences=4)
    packed = {name: Packed(np.full((7, 8), value), 1.0) for name, value in (("a", 1), ("b", 2), ("c", 3))}
    for tokens, turns in ((trunk_sequences(packed, config), 3), (universal_sequences(packed, config), 4)):
        assert tokens[:, 0].tolist() == [1, 2, 3] * turns
    in_order = {"a": Packed(np.arange(7 * 8).reshape(7, 8), 1.0)}
    assert all(one < other for one, other in pairwise(rows(universal_sequences(in_order, config))))
