"""Splitting documents: what the pieces give back, and how chances are spread over many draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.model.checkpoint import load_tokenizer
from codechoir.model.encoding import TextEncoder
from codechoir.model.infilling_tokens import Sentinels
from codechoir.train.infilling import Rates, is_drawn, split, tokens_of

ALWAYS = Rates(1.0, 0.5)
SENTINELS = Sentinels(prefix=1001, suffix=1002, middle=1003, end=1000)


@pytest.fixture(scope="module")
def encoder(random_base: Path) -> TextEncoder:
    return TextEncoder(load_tokenizer(random_base))


@given(st.text(), st.text())
def test_the_pieces_are_the_document(text: str, draw: str) -> None:
    pieces = split(text, draw, ALWAYS)
    assert pieces == split(text, draw, ALWAYS)
    assert pieces.prefix + pieces.middle + pieces.suffix == text
    for piece in (pieces.prefix, pieces.middle, pieces.suffix):
        piece.encode()  # no half of a character


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text())
def test_the_tokens_give_the_document_back(encoder: TextEncoder, random_base: Path, text: str, draw: str) -> None:
    """Read by the sentinels alone, as the published formats are."""
    pieces = split(text, draw, ALWAYS)
    tokens = tokens_of(pieces, encoder, SENTINELS)
    assert [token for token in tokens if token >= 1000] == [1001, 1002, 1003, 1000]
    first, second, third = (tokens.index(mark) for mark in (1001, 1002, 1003))
    assert (first, tokens[-1]) == (0, 1000)
    parts = tokens[1:second], tokens[second + 1 : third], tokens[third + 1 : -1]
    decode = load_tokenizer(random_base).decode
    between, suffix, last = (bytes(decode(part), "utf-8") for part in parts)
    if pieces.suffix_first:
        assert (between, last + suffix) == (b"", text.encode())
    else:
        assert between + last + suffix == text.encode()


@pytest.mark.parametrize(("rate", "spm"), [(0.0, 0.5), (0.3, 0.2), (0.5, 0.5), (0.9, 1.0), (1.0, 0.0)])
def test_the_rates_are_kept(rate: float, spm: float) -> None:
    rates = Rates(rate, spm)
    draws = [draw for draw in (f"seed:{number}" for number in range(4000)) if is_drawn(draw, rates)]
    pieces = [split("x" * 50, draw, rates) for draw in draws]
    assert len(pieces) == pytest.approx(4000 * rate, abs=4 * np.sqrt(4000 * rate * (1 - rate)))
    first = sum(one.suffix_first for one in pieces)
    assert first == pytest.approx(len(pieces) * spm, abs=4 * np.sqrt(len(pieces) * spm * (1 - spm)))


def test_places_are_drawn_evenly() -> None:
    """Of two even draws from 0..n, the lesser is k with (2(n - k) + 1) / (n + 1)^2, the greater as n less it."""
    n, num = 9, 8000
    pieces = [split("x" * n, f"seed:{number}", ALWAYS) for number in range(num)]
    chances = (2 * (n - np.arange(n + 1)) + 1) / (n + 1) ** 2
    for lengths in ([len(one.prefix) for one in pieces], [len(one.suffix) for one in pieces]):
        counts = np.bincount(lengths, minlength=n + 1)
        statistic = ((counts - num * chances) ** 2 / (num * chances)).sum()
        assert statistic < 27.9  # chi-square, 9 degrees of freedom, 0.999
    for wanted in (True, False):  # the order says nothing of the places
        middles = [len(one.middle) for one in pieces if one.suffix_first is wanted]
        assert np.mean(middles) == pytest.approx(n * (n + 2) / (3 * (n + 1)), abs=0.15)
