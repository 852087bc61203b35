"""Loops over Arrow's UTF-8 buffers, compiled: measures, shingles, MinHash bands and Jaccard similarity.

Knows bytes and offsets, nothing of files or of Daft. All loops release the interpreter's lock, so that the engine's
threads run them side by side. Arrays carry their length as a suffix: B bytes, R rows, T tokens or shingles of all rows,
P pairs, H hash functions, L bands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.integer[Any]]
Text = tuple[Bytes, Offsets]  # the buffers of `Utf8`
Tables = tuple[Bytes, Bytes]
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

NUM_CODE_POINTS = 0x110000
FIRST_WITHOUT_LETTERS = 0x40000  # from the fourth plane on Unicode has no letters or digits
ALNUM, WORD, LINE_END = np.uint8(1), np.uint8(2), np.uint8(4)
FOREIGN = np.uint8(0xFF)
_LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"  # those of str.splitlines


def compiled(function: FunctionT) -> FunctionT:
    """`function` as machine code, kept on disk between processes."""
    return cast(FunctionT, numba.njit(nogil=True, cache=True)(function))


def inlined(function: FunctionT) -> FunctionT:
    """The same for what a compiled loop calls for each token or character."""
    return cast(FunctionT, numba.njit(nogil=True, inline="always")(function))


@dataclass(frozen=True, slots=True)
class Utf8:
    """The buffers of an Arrow string array without nulls: row r is data_B[offsets_R[r] : offsets_R[r + 1]]."""

    data_B: Bytes
    offsets_R: Offsets  # one more than there are rows


def utf8_buffers(array: pa.Array) -> Utf8:
    """The buffers of a string array; nothing is copied. Nulls are read as empty."""
    large = array.cast(pa.large_string()) if array.type != pa.large_string() else array
    if large.null_count:
        large = large.fill_null("")
    _, offsets, data = large.buffers()
    if not len(large) or offsets is None:
        return Utf8(np.zeros(0, np.uint8), np.zeros(1, np.int64))
    offsets_R = np.frombuffer(offsets, np.int64)[large.offset : large.offset + len(large) + 1]
    return Utf8(np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8), offsets_R)


@cache
def classes() -> Bytes:
    """For each code point: whether it is alphanumeric, part of a word (`\\w`), the end of a line."""
    alnum = np.zeros(NUM_CODE_POINTS, np.bool_)
    alnum[:FIRST_WITHOUT_LETTERS] = [chr(point).isalnum() for point in range(FIRST_WITHOUT_LETTERS)]
    table = alnum * (ALNUM | WORD)
    table[ord("_")] |= WORD
    table[[ord(character) for character in _LINE_ENDS]] |= LINE_END
    return table.astype(np.uint8)


@cache
def folded() -> Bytes:
    """For each byte: the ASCII word character in lower case, 0 for any other ASCII character, FOREIGN for the rest."""
    table = np.full(256, FOREIGN, np.uint8)
    for code in range(128):
        table[code] = ord(chr(code).lower()) if chr(code).isalnum() or chr(code) == "_" else 0
    return table


@inlined
def _decode(data_B: Bytes, at: int) -> tuple[int, int]:
    """The code point that begins at `at`, and its length in bytes. The text is valid UTF-8, as Arrow's strings are."""
    lead = data_B[at]
    if lead < 0x80:
        return int(lead), 1
    if lead < 0xE0:
        return (int(lead & 0x1F) << 6) | int(data_B[at + 1] & 0x3F), 2
    if lead < 0xF0:
        return ((int(lead & 0x0F) << 12) | (int(data_B[at + 1] & 0x3F) << 6) | int(data_B[at + 2] & 0x3F)), 3
    return (
        (int(lead & 0x07) << 18)
        | (int(data_B[at + 1] & 0x3F) << 12)
        | (int(data_B[at + 2] & 0x3F) << 6)
        | int(data_B[at + 3] & 0x3F)
    ), 4


@inlined
def _is_foreign(text_B: Bytes) -> bool:
    """Whether a text holds a character outside ASCII."""
    seen = np.uint8(0)
    for byte in text_B:  # a loop over a slice is run on many bytes at a time
        seen |= byte
    return bool(seen >= 0x80)


@inlined
def _num_ascii_alnum(text_B: Bytes) -> int:
    count = 0
    for byte in text_B:
        count += int(np.uint8((byte | 0x20) - 97) < 26) | int(np.uint8(byte - 48) < 10)
    return count


@compiled
def measure_rows(
    data_B: Bytes, offsets_R: Offsets, classes: Bytes
) -> tuple[Offsets, Offsets, Offsets, Offsets, Offsets]:
    """By row: characters, alphanumeric characters, lines, characters in lines, characters of the longest line."""
    num_rows = offsets_R.size - 1
    chars_R = np.zeros(num_rows, np.int64)
    alnum_R = np.zeros(num_rows, np.int64)
    lines_R = np.zeros(num_rows, np.int64)
    inside_R = np.zeros(num_rows, np.int64)
    longest_R = np.zeros(num_rows, np.int64)
    for row in range(num_rows):
        text_B = data_B[offsets_R[row] : offsets_R[row + 1]]
        plain = not _is_foreign(text_B)
        chars = alnum = lines = inside = longest = length = 0
        after_return = False
        if plain:
            chars, alnum = text_B.size, _num_ascii_alnum(text_B)
            begin = 0
            for at in range(text_B.size):
                byte = text_B[at]
                if byte < 0x20 and classes[byte] & 4:
                    if not (byte == 10 and after_return and begin == at):  # "\r\n" ends one line
                        lines += 1
                        inside += at - begin
                        longest = max(longest, at - begin)
                    begin = at + 1
                    after_return = byte == 13
            length = text_B.size - begin
        else:
            at = 0
            while at < text_B.size:
                point, step = _decode(text_B, at)
                at += step
                chars += 1
                kind = classes[point]
                if kind & 4:
                    if not (point == 10 and after_return and length == 0):
                        lines += 1
                        inside += length
                        longest = max(longest, length)
                    length = 0
                    after_return = point == 13
                else:
                    alnum += kind & 1
                    length += 1
                    after_return = False
        if length:
            lines += 1
            inside += length
            longest = max(longest, length)
        chars_R[row], alnum_R[row], lines_R[row], inside_R[row], longest_R[row] = chars, alnum, lines, inside, longest
    return chars_R, alnum_R, lines_R, inside_R, longest_R


@inlined
def _mixed(value: np.uint64) -> np.uint64:
    """MurmurHash3's finaliser: every bit of the result depends on every bit of `value`."""
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xFF51AFD7ED558CCD)
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xC4CEB9FE1A85EC53)
    return value ^ (value >> np.uint64(33))


@inlined
def _next_token(data_B: Bytes, at: int, end: int, folded: Bytes, classes: Bytes) -> tuple[int, np.uint64]:
    """Where the token after `at` ends, and its hash, which is 0 where there is none."""
    token = np.uint64(0xCBF29CE484222325)
    inside = False
    while at < end:
        letter = folded[data_B[at]]
        step = 1
        if letter == FOREIGN:
            point, step = _decode(data_B, at)
            if classes[point] & 2:
                token = (token ^ np.uint64(point)) * np.uint64(0x100000001B3)
                inside = True
            elif inside:
                break
        elif letter:
            token = (token ^ np.uint64(letter)) * np.uint64(0x100000001B3)
            inside = True
        elif inside:
            break
        at += step
    return (at, _mixed(token) | np.uint64(1)) if inside else (at, np.uint64(0))


@inlined
def _joined(tokens: Hashes) -> np.uint64:
    """The hash of a run of tokens, from the first on."""
    shingle = np.uint64(0)
    for at in range(tokens.size):
        shingle = (shingle ^ tokens[at]) * np.uint64(0x9E3779B97F4A7C15)
        shingle = (shingle << np.uint64(27)) | (shingle >> np.uint64(37))
    return _mixed(shingle)


@compiled
def shingle_rows(text: Text, tables: Tables, ngram: int) -> tuple[Hashes, Offsets]:
    """The 64-bit hashes of each row's runs of `ngram` tokens, in order and with repeats, and their offsets.

    A token is a run of word characters, ASCII letters lowered. `tables` are `folded` and `classes`.
    """
    data_B, offsets_R = text
    folded, classes = tables
    num_rows = offsets_R.size - 1
    # A token and what divides it from the next take two bytes, at least.
    shingles_T = np.empty((offsets_R[-1] - offsets_R[0]) // 2 + num_rows, np.uint64)
    bounds_R = np.zeros(num_rows + 1, np.int64)
    recent = np.zeros(ngram, np.uint64)
    count = 0
    for row in range(num_rows):
        at, end, tokens = offsets_R[row], offsets_R[row + 1], 0
        while at < end:
            at, token = _next_token(data_B, at, end, folded, classes)
            if token == 0:
                break
            for back in range(ngram - 1):
                recent[back] = recent[back + 1]
            recent[ngram - 1] = token
            tokens += 1
            if tokens >= ngram:
                shingles_T[count] = _joined(recent)
                count += 1
        bounds_R[row + 1] = count
    return shingles_T[:count], bounds_R


@inlined
def _add_to_signature(
    shingle: np.uint64,
    factors_H: npt.NDArray[np.uint32],
    terms_H: npt.NDArray[np.uint32],
    least_H: npt.NDArray[np.uint32],
) -> None:
    value = np.uint32(shingle >> np.uint64(32))
    for h in range(factors_H.size):
        hashed = np.uint32(factors_H[h] * value + terms_H[h])
        least_H[h] = min(least_H[h], hashed)


@compiled
def band_rows(
    text: Text,
    tables: Tables,
    ngram: int,
    functions: tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]],
    bands: int,
) -> tuple[npt.NDArray[np.uint64], Offsets]:
    """The hash of each band of each row's MinHash signature, [rows, bands], and each row's number of tokens.

    `functions` are factors and terms: hash function h maps a shingle's upper half x to factor_H[h] * x + term_H[h],
    modulo 2**32. A row without shingles has the signature of the empty set.
    """
    data_B, offsets_R = text
    folded, classes = tables
    factors_H, terms_H = functions
    num_rows, in_band = offsets_R.size - 1, factors_H.size // bands
    found_RL = np.empty((num_rows, bands), np.uint64)
    tokens_R = np.zeros(num_rows, np.int64)
    least_H = np.empty(factors_H.size, np.uint32)
    recent = np.zeros(ngram, np.uint64)
    for row in range(num_rows):
        least_H[:] = np.uint32(0xFFFFFFFF)
        at, end, tokens = offsets_R[row], offsets_R[row + 1], 0
        while at < end:
            at, token = _next_token(data_B, at, end, folded, classes)
            if token == 0:
                break
            for back in range(ngram - 1):
                recent[back] = recent[back + 1]
            recent[ngram - 1] = token
            tokens += 1
            if tokens >= ngram:
                _add_to_signature(_joined(recent), factors_H, terms_H, least_H)
        tokens_R[row] = tokens
        for band in range(bands):
            mixed = np.uint64(band + 1)
            for h in range(band * in_band, (band + 1) * in_band):
                mixed = _mixed(mixed ^ np.uint64(least_H[h])) * np.uint64(0x9E3779B97F4A7C15)
            found_RL[row, band] = _mixed(mixed)
    return found_RL, tokens_R


def distinct_rows(shingles_T: Hashes, bounds_R: Offsets) -> tuple[Hashes, Offsets]:
    """Each row's shingles sorted, without repeats, and their offsets. `shingles_T` is sorted in place."""
    for begin, end in pairwise(bounds_R.tolist()):
        shingles_T[begin:end].sort()  # numpy's own is many times faster than a compiled loop's
    return _without_repeats(shingles_T, bounds_R)


@compiled
def _without_repeats(sorted_T: Hashes, bounds_R: Offsets) -> tuple[Hashes, Offsets]:
    num_rows = bounds_R.size - 1
    kept_R = np.zeros(num_rows + 1, np.int64)
    count = 0
    for row in range(num_rows):
        for at in range(bounds_R[row], bounds_R[row + 1]):
            if at == bounds_R[row] or sorted_T[at] != sorted_T[at - 1]:
                sorted_T[count] = sorted_T[at]
                count += 1
        kept_R[row + 1] = count
    return sorted_T[:count], kept_R


@compiled
def jaccard_pairs(
    sets_T: Hashes, bounds: Offsets, left_P: Indices, right_P: Indices, threshold: float
) -> npt.NDArray[np.float64]:
    """The Jaccard similarity of each pair of sets: the size of the intersection over that of the union.

    The sets are sorted, set s is sets_T[bounds[s] : bounds[s + 1]]. Where the similarity turns out to be below the
    threshold, it is given as 0.
    """
    found_P = np.zeros(left_P.size, np.float64)
    for pair in range(left_P.size):
        at, end = bounds[left_P[pair]], bounds[left_P[pair] + 1]
        other, other_end = bounds[right_P[pair]], bounds[right_P[pair] + 1]
        size = (end - at) + (other_end - other)
        spare = size - 2 * np.ceil(threshold / (1 + threshold) * size - 1e-9)  # members without partner that may be
        shared = 0
        alone = 0
        while at < end and other < other_end and alone <= spare:
            one, two = sets_T[at], sets_T[other]
            shared += one == two
            alone += one != two
            at += one <= two
            other += two <= one
        if size and alone <= spare:
            found_P[pair] = shared / (size - shared)
    return found_P


@compiled
def foreign_rows(data_B: Bytes, offsets_R: Offsets) -> npt.NDArray[np.bool_]:
    """Whether each row holds a character outside ASCII."""
    found_R = np.zeros(offsets_R.size - 1, np.bool_)
    for row in range(offsets_R.size - 1):
        found_R[row] = _is_foreign(data_B[offsets_R[row] : offsets_R[row + 1]])
    return found_R


@compiled
def mention_rows(data_B: Bytes, offsets_R: Offsets, num_bytes: int, word: Bytes) -> npt.NDArray[np.bool_]:
    """Whether the first `num_bytes` of each row hold `word`, lower-case ASCII letters, in whatever case."""
    found_R = np.zeros(offsets_R.size - 1, np.bool_)
    for row in range(offsets_R.size - 1):
        at = offsets_R[row]
        last = min(offsets_R[row + 1], at + num_bytes) - word.size
        while at <= last and not found_R[row]:
            same = 0
            while same < word.size and (data_B[at + same] | 0x20) == word[same]:
                same += 1
            found_R[row] = same == word.size
            at += 1
    return found_R
