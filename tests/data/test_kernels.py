"""The compiled loops against the same in plain Python."""

import itertools
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.data import kernels
from codechoir.data.config import DedupConfig
from codechoir.data.corpus import near

TEXTS = st.lists(st.text(st.sampled_from("aB_9 \n\r\t\v\x1c\x85\u2028.é߀İ中😀"), max_size=60), max_size=6)
WORDS = st.lists(st.text(st.sampled_from("abAB_1.é "), max_size=80), min_size=1, max_size=5)


def arrow(texts: list[str]) -> pa.Array:
    return pa.array(texts, pa.large_string())


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def grams(text: str, length: int) -> list[tuple[str, ...]]:
    tokens = words(text)
    return [tuple(tokens[at : at + length]) for at in range(len(tokens) - length + 1)]


@given(TEXTS)
def test_measures_are_pythons(texts: list[str]) -> None:
    buffers = kernels.utf8_buffers(arrow(texts))
    chars, alnum, lines, inside, longest = kernels.measure_rows(buffers.data_B, buffers.offsets_R, kernels.classes())
    assert chars.tolist() == [len(text) for text in texts]
    assert alnum.tolist() == [sum(map(str.isalnum, text)) for text in texts]
    assert lines.tolist() == [len(text.splitlines()) for text in texts]
    assert inside.tolist() == [sum(map(len, text.splitlines())) for text in texts]
    assert longest.tolist() == [max(map(len, text.splitlines()), default=0) for text in texts]


def test_every_code_point_has_pythons_classes() -> None:
    table = kernels.classes()
    assert not any(map(str.isalnum, map(chr, range(kernels.FIRST_WITHOUT_LETTERS, kernels.NUM_CODE_POINTS))))
    points = [*range(0x500), 0x2028, 0x4E2D, 0x1F600, 0x31350, 0xE0100, 0x10FFFF]
    for point in points:
        character = chr(point)
        assert bool(table[point] & kernels.ALNUM) == character.isalnum()
        assert bool(table[point] & kernels.WORD) == (re.fullmatch(r"\w", character) is not None)
        assert bool(table[point] & kernels.LINE_END) == (len(f"a{character}a".splitlines()) == 2)


@given(WORDS, st.integers(1, 6))
def test_shingles_are_equal_where_runs_of_words_are(texts: list[str], ngram: int) -> None:
    shingles = near.shingle(arrow(texts), ngram)
    names: dict[tuple[str, ...], int] = {}
    for row, text in enumerate(texts):
        hashes = shingles.hashes_T[shingles.bounds_R[row] : shingles.bounds_R[row + 1]].tolist()
        expected = grams(text, ngram)
        assert len(hashes) == len(expected)
        for gram, value in zip(expected, hashes, strict=True):
            assert names.setdefault(gram, value) == value
    assert len(set(names.values())) == len(names)


@given(WORDS)
def test_tokens_are_counted(texts: list[str]) -> None:
    _, num_tokens = near.bands(arrow(texts), pa.array(["python"] * len(texts)), DedupConfig())
    assert num_tokens.tolist() == [len(words(text)) for text in texts]


@given(WORDS, WORDS)
def test_jaccard_is_that_of_sets(left: list[str], right: list[str]) -> None:
    shingles = near.shingle(arrow([*left, *right]), 2)
    sets = kernels.distinct_rows(shingles.hashes_T, shingles.bounds_R)
    pairs = list(itertools.product(range(len(left)), range(len(left), len(left) + len(right))))
    indices = np.array(pairs).T
    for threshold in (0.0, 0.5, 1.0):
        found = kernels.jaccard_pairs(*sets, indices[0], indices[1], threshold)
        for (one, other), similarity in zip(pairs, found, strict=True):
            a, b = set(grams(left[one], 2)), set(grams(right[other - len(left)], 2))
            exact = len(a & b) / len(a | b) if a | b else 0.0
            assert similarity == pytest.approx(exact) if exact >= threshold else similarity < threshold


def test_slices_and_nulls_are_read_as_they_are() -> None:
    array = pa.array(["skipped", "a\nbb", None, "ccc"]).slice(1)
    buffers = kernels.utf8_buffers(array)
    chars, *_, longest = kernels.measure_rows(buffers.data_B, buffers.offsets_R, kernels.classes())
    assert (chars.tolist(), longest.tolist()) == ([4, 0, 3], [2, 0, 3])
    empty = kernels.utf8_buffers(pa.array([], pa.string()))
    assert empty.offsets_R.tolist() == [0]


def test_minhash_agrees_as_often_as_files_are_alike() -> None:
    """The share of equal MinHash values estimates the similarity (Broder 1997)."""
    shared = [f"word{number}" for number in range(3000)]
    one, other = [*shared, *(f"left{n}" for n in range(1000))], [*shared, *(f"right{n}" for n in range(1000))]
    text = kernels.utf8_buffers(arrow([" ".join(one), " ".join(other)]))
    functions = near._hash_functions(2000)  # a value in each band
    bands, num_tokens = kernels.band_rows((text.data_B, text.offsets_R), near._tables(), 1, functions, 2000)
    assert num_tokens.tolist() == [4000, 4000]
    assert np.mean(bands[0] == bands[1]) == pytest.approx(3000 / 5000, abs=0.04)  # standard error 0.011
