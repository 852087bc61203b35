"""Text alone: against the tokenizer itself on texts without control tokens, and by what no text may become."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from codechoir.errors import InputError
from codechoir.model.checkpoint import load_tokenizer
from codechoir.model.encoding import TextEncoder

CONTROLS = ("<|endoftext|>", "<|fim_prefix|>", "<｜fim▁begin｜>", "▁<PRE>", "<fim_middle>")


@pytest.fixture(scope="module")
def tokenizer(random_base: Path) -> Any:
    """A tokenizer of bytes with control tokens, some of which it does not call special, and one for a run of blanks."""
    made = load_tokenizer(random_base)
    made.add_tokens([AddedToken("<|fim_prefix|>", special=False, normalized=False)])
    made.add_tokens([AddedToken("▁<PRE>", special=False), AddedToken("    ", special=False)])
    made.add_tokens(["<｜fim▁begin｜>", "<fim_middle>"], special_tokens=True)
    return made


@pytest.fixture(scope="module")
def encoder(tokenizer: Any) -> TextEncoder:
    return TextEncoder(tokenizer)


@given(st.text(st.characters(exclude_characters="<▁"), max_size=60))
def test_a_text_is_encoded_as_the_tokenizer_does(tokenizer: Any, encoder: TextEncoder, text: str) -> None:
    assert encoder.encode(text) == encoder.encode_inner(text) == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert max(encoder.encode(text), default=0) < encoder.vocabulary


@pytest.mark.parametrize("control", CONTROLS)
def test_a_text_cannot_hold_a_control_token(tokenizer: Any, encoder: TextEncoder, control: str) -> None:
    assert tokenizer.convert_tokens_to_ids(control) in tokenizer(f"a{control}b", add_special_tokens=False)["input_ids"]
    ids = encoder.encode(f"a{control}b")
    assert tokenizer.convert_tokens_to_ids(control) not in ids
    assert len(ids) == len(f"a{control}b".encode())  # its bytes
    assert tokenizer.decode(ids) == f"a{control}b"


def test_added_tokens_that_stand_for_text_stay(tokenizer: Any, encoder: TextEncoder) -> None:
    blanks = tokenizer.convert_tokens_to_ids("    ")
    assert encoder.encode("a    b").count(blanks) == 1


@given(st.text(max_size=30), st.integers(0, 40))
def test_a_start_is_whole_characters(encoder: TextEncoder, text: str, num_tokens: int) -> None:
    ids, kept = encoder.encode_start(text, num_tokens)
    assert ids == encoder.encode(text)[:num_tokens]
    assert text.startswith(kept)
    assert (kept == text) == (len(encoder.encode(text)) <= num_tokens)
    assert len(kept.encode()) <= len(encoder.encode(kept)) <= len(text.encode())
    if kept != text:  # the next character does not fit: its last byte is cut off
        following = text[: len(kept) + 1]
        assert len(encoder.encode(kept)) <= num_tokens < len(encoder.encode(following))


PIECES = st.sampled_from(
    ["def", " ", "\n", "\n\n    ", "x", "'s", "123", "é", "\u0301", "    ", "()", "\t", "<|endoftext|>"]
)


@settings(max_examples=300)
@given(st.lists(PIECES, max_size=400).map("".join), st.integers(0, 40))
def test_the_start_of_a_long_text_is_that_of_its_whole(embedded_base: Path, text: str, num_tokens: int) -> None:
    """By the embedded base's tokenizer, which splits words and joins bytes to tokens."""
    encoder = encoder_of(embedded_base)
    ids, kept = encoder.encode_start(text, num_tokens)
    whole = encoder.encode(text)
    assert ids == whole[:num_tokens]
    assert text.startswith(kept)
    assert (kept == text) == (len(whole) <= num_tokens)


def test_a_text_of_one_word_is_encoded_whole() -> None:
    """A tokenizer without words joins what lies far apart: here nine letters to one token."""
    merges = [("a", "a"), ("aa", "a"), ("aaa", "aaa"), ("aaaaaa", "aaa")]
    vocabulary = {piece: number for number, piece in enumerate(["<unk>", "a", "aa", "aaa", "aaaaaa", "aaaaaaaaa"])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>"))
    encoder = TextEncoder(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>"))
    for length in range(1, 60):
        whole = encoder.encode("a" * length)
        assert encoder.encode_start("a" * length, 1)[0] == whole[:1]


@cache
def encoder_of(folder: Path) -> TextEncoder:
    return TextEncoder(load_tokenizer(folder))


@pytest.mark.parametrize("way", ["prepend", "metaspace"])
def test_what_goes_on_from_another_text_has_no_blank_before_it(way: str) -> None:
    """As SentencePiece's models do, which put a blank before every text."""
    vocabulary = {letter: number for number, letter in enumerate(["<unk>", "▁", "a", "b"])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    if way == "prepend":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        backend.decoder = decoders.Replace("▁", " ")
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    encoder = TextEncoder(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>"))
    assert encoder.encode("ab a") == [1, 2, 3, 1, 2]
    assert encoder.encode_inner("ab a") == [2, 3, 1, 2]
    assert encoder.encode_inner(" a") == [1, 2]
    assert json.loads(backend.to_str())["model"]["vocab"] == vocabulary


def test_a_tokenizer_without_a_backend() -> None:
    with pytest.raises(InputError, match="tokenizers library"):
        TextEncoder(object())
