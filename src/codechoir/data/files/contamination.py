"""Decontamination: whether a file holds a benchmark's problem, whatever language and comment style it was moved to.

Goes in: the benchmarks that a DecontaminateConfig names, and one file's text at a time. Comes out: the problem that the
file holds, which part of it, and how much. Knows neither the files' language nor what is done with a match.

Both sides are read as words: lower case, no punctuation (so no comment marker), no underscore (`has_close` is
`hasClose`), and without the words by which languages differ in writing one value down (`new ArrayList<Long>(`,
`std::vector`, `assert_eq!`, the tested function's name). So a prompt's prose and a test's literals give one sequence
in all languages. A part of a problem is found to the share of its words that lie in an n-gram which the file holds as
well (Touvron et al. 2023, Llama 2, appendix A.6, with words for tokens). N-grams of everyday words, and those that
several problems share, do not count.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt

from codechoir.config import digest_of
from codechoir.data.config import DecontaminateConfig
from codechoir.data.files.benchmarks import BenchmarkProblem, PartName, read_benchmarks
from codechoir.data.files.rejection import Rejection

Ids = npt.NDArray[np.int32]
Hashes = npt.NDArray[np.uint64]

MAX_PROBLEMS_OF_NGRAM = 2  # an n-gram of more problems is boilerplate
MIN_DIFFERENT_WORDS = 4  # in an n-gram that counts at all
MIN_RARE_WORDS = 3  # different words beyond the everyday ones, in an n-gram that is evidence by itself ...
MIN_EVERYDAY_WORDS = 15  # ... while of others it takes so many words
MIN_SOLUTION_WORDS = 20  # a shorter solution is how anyone writes it
PIECE = 2**20  # characters tokenised at a time: bounds the memory of a large file

_SKIPPED, _UNKNOWN = 0, 1
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_KEEP = bytes(range(48, 58)) + bytes(range(97, 123))
# Letters and digits in lower case and all bytes beyond ASCII stay, underscores go, all else parts words.
_TABLE = bytes(byte if byte in _KEEP or byte >= 128 else byte + 32 if 65 <= byte <= 90 else 32 for byte in range(256))
_BEYOND_ASCII = re.compile(rb"\xc2[\xa0-\xbf]|\xe2..|([\xe3-\xed]..)", re.DOTALL)  # punctuation, or a CJK letter
_NUMBER_SUFFIXES = (b"f", b"l", b"d", b"u", b"n", b"m", b"ul", b"i64", b"f64")
_SUFFIXED = re.compile(rb"([0-9]+)(?:" + b"|".join(_NUMBER_SUFFIXES) + rb")")

# The words by which languages differ where they say the same. Skipped on both sides.
_SKIP = frozenset(
    b"""
    list lists array arrays arraylist vector vectors vec std string strings str char chars character int ints integer
    integers long longs float floats double doubles bool boolean booleans tuple tuples pair pairs dict dictionary
    dictionaries map maps hashmap hash hashes table object objects optional some just any none null nil nullopt
    undefined nothing empty unit void let const var auto new of with aslist maketuple makepair reference associative
    named slice int32 int64 float32 float64 i32 i64 u32 u64 isize usize f32 f64 tofloat tolong toint todouble listof
    arraylistof intarrayof mutablelistof tuple2 def func function fun fn static public private class struct problem
    assert asserts asserttrue assertfalse asserteq assertequal assertequals deepequal deepstrictequal strictequal
    isequal equal equals eq expect tobe toequal candidate test tests testcase check identical actual expected debug lu
    python java javascript js typescript cpp ruby php perl rust scala swift julia racket lua haskell bash
    a an if self throw exception fail failed error eqdeeply checkwithin set rem p br li pre param gt lt amp quot nbsp
    """.split()
)
# Everyday words of prose and of code: no evidence by themselves. So are numbers of one digit.
_EVERYDAY = frozenset(
    b"""
    and are as at be been but by can do does each else every for from given has have in into is it its may must
    no not on one only or other otherwise out same should so such than that the their them then there these they this
    those to two up use used using was we when where which while will you your true false return returns returning
    value values number numbers input output result function example examples import end length first last second
    index size max min sum i j k n m x y s t e g and print all between after before
    """.split()
)


@dataclass(frozen=True, slots=True)
class Part:
    """One text of one problem, as the words that are looked for."""

    problem: str
    name: PartName
    words: tuple[bytes, ...]  # normalised
    length: int  # words in its n-grams
    num_countable: int  # words in n-grams that count; the share is of these


@dataclass(frozen=True, slots=True)
class Match:
    """The problem that a file holds; of several, the one that is there to the largest share."""

    problem: str
    part: PartName
    num_found: int  # words in n-grams that the file holds too
    num_words: int  # words that could have been found
    excerpt: str  # the first n-gram found, normalised
    num_problems: int  # problems in the file, this one included

    @property
    def overlap(self) -> float:
        """The share of the part's words that were found."""
        return self.num_found / self.num_words

    def rejection(self) -> Rejection:
        """The match as a reason to reject the file."""
        more = f"; {self.num_problems - 1} more problems" if self.num_problems > 1 else ""
        detail = f"{self.problem}: {self.part}, {self.num_found} of {self.num_words} words"
        return Rejection("contaminated", f"{detail} ({self.excerpt!r}){more}")


@dataclass(frozen=True, slots=True)
class Benchmarks:
    """The index of all problems. Plain tables, so that it travels between processes."""

    config: DecontaminateConfig
    num_problems: int
    digest: str  # of the problems' names and texts
    vocabulary: Mapping[bytes, int]  # word -> id; skipped words are 0, and words that no problem holds are not in it
    values: Hashes  # a random number by id
    parts: tuple[Part, ...]
    tables: Mapping[int, Hashes]  # words in the n-gram -> its hashes, sorted
    places: Mapping[tuple[int, int], tuple[tuple[int, int], ...]]  # (words, hash) -> (part, first word), ...

    def match(self, content: str) -> Match | None:
        """The problem that `content` holds, or None."""
        if not self.tables:
            return None
        best: tuple[float, int, int] | None = None
        problems = set()
        found = self._found(content)
        for number, firsts in found.items():
            part = self.parts[number]
            num_found = len(_covered(part, firsts))
            overlap = num_found / part.num_countable
            threshold = self.config.solution_threshold if part.name == "solution" else self.config.threshold
            if overlap >= threshold and self._is_evidence(part, firsts, num_found):
                problems.add(part.problem)
                best = max(best or (0.0, 0, 0), (overlap, num_found, -number))
        if best is None:
            return None
        part, firsts = self.parts[-best[2]], found[-best[2]]
        excerpt = b" ".join(part.words[min(firsts) : min(firsts) + part.length]).decode(errors="replace")
        return Match(part.problem, part.name, best[1], part.num_countable, excerpt, len(problems))

    def _is_evidence(self, part: Part, firsts: Iterable[int], num_found: int) -> bool:
        """Whether the n-grams found are more than a chance of everyday words and small numbers."""
        return num_found >= MIN_EVERYDAY_WORDS or any(
            _num_rare(part.words[first : first + part.length]) >= MIN_RARE_WORDS for first in firsts
        )

    def _found(self, content: str) -> dict[int, set[int]]:
        """The first words of the n-grams found, by part."""
        found: dict[int, set[int]] = defaultdict(set)
        ids = _ids(content, self.vocabulary)
        num_known = np.concatenate([[0], np.cumsum(ids != _UNKNOWN)])
        shortest, longest = min(self.tables), max(self.tables)
        starts = np.flatnonzero(num_known[shortest:] - num_known[:-shortest] == shortest)
        hashes = np.zeros(len(starts), np.uint64)
        for length in range(1, longest + 1):
            if length > shortest:
                going_on = starts + length <= len(ids)
                going_on[going_on] = ids[starts[going_on] + length - 1] != _UNKNOWN
                starts, hashes = starts[going_on], hashes[going_on]
            if not len(starts):
                break
            hashes = hashes * _MULTIPLIER + self.values[ids[starts + length - 1]]
            if (table := self.tables.get(length)) is not None:
                nearest = np.minimum(np.searchsorted(table, hashes), len(table) - 1)
                for value in set(hashes[table[nearest] == hashes].tolist()):
                    for part, first in self.places[length, value]:
                        found[part].add(first)
        return found


def _covered(part: Part, firsts: Iterable[int]) -> set[int]:
    """The words in the n-grams that begin at `firsts`."""
    return {number for first in firsts for number in range(first, first + part.length)}


def load_benchmarks(config: DecontaminateConfig, cache: Path) -> Benchmarks:
    """The index of the benchmarks that the config names; `cache` is where a fetched package is kept.

    Raises ConfigError and InputError as `read_benchmarks` does.
    """
    return index(read_benchmarks(config.against, cache), config)


def index(problems: Sequence[BenchmarkProblem], config: DecontaminateConfig) -> Benchmarks:
    """The index of `problems`."""
    skip = _SKIP | {word for problem in problems for word in _words(problem.function)}
    texts = {
        (problem.name, name, words): None
        for problem in problems
        for name, text in problem.texts
        if (words := tuple(word for word in map(_plain_number, _words(text)) if word not in skip))
    }
    names = sorted({word for _, _, words in texts for word in words})
    vocabulary = {word: number for number, word in enumerate(names, _UNKNOWN + 1)}
    for word in names:
        if word.isdigit():
            vocabulary |= {word + suffix: vocabulary[word] for suffix in _NUMBER_SUFFIXES if word + suffix not in skip}
    vocabulary |= dict.fromkeys(skip, _SKIPPED)
    values = np.array([_value(word) for word in (b"", b"", *names)], np.uint64)
    parts = [
        Part(problem, name, words, min(config.ngram, len(words)), 0)
        for problem, name, words in texts
        if len(words) >= (MIN_SOLUTION_WORDS if name == "solution" else config.min_words)
    ]
    places = _places(parts, vocabulary, values)
    firsts: dict[int, list[int]] = defaultdict(list)
    for here in places.values():
        for number, first in here:
            firsts[number].append(first)
    hashes: dict[int, list[int]] = defaultdict(list)
    for length, value in sorted(places):
        hashes[length].append(value)
    return Benchmarks(
        config,
        len({problem.name for problem in problems}),
        digest_of([[problem.name, problem.function, problem.texts] for problem in problems]),
        vocabulary,
        values,
        tuple(replace(part, num_countable=len(_covered(part, firsts[number]))) for number, part in enumerate(parts)),
        {length: np.array(some, np.uint64) for length, some in hashes.items()},
        places,
    )


def _places(
    parts: Sequence[Part], vocabulary: Mapping[bytes, int], values: Hashes
) -> dict[tuple[int, int], tuple[tuple[int, int], ...]]:
    """Where each n-gram that counts stands."""
    places: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for number, part in enumerate(parts):
        ids = np.array([vocabulary[word] for word in part.words], np.int32)
        for first, value in enumerate(_hashes(ids, part.length, values).tolist()):
            if _counts(part.words[first : first + part.length]):
                places[part.length, value].append((number, first))
    return {
        key: tuple(here)
        for key, here in places.items()
        if len({parts[number].problem for number, _ in here}) <= MAX_PROBLEMS_OF_NGRAM
    }


def _counts(ngram: Sequence[bytes]) -> bool:
    """Whether an n-gram says anything: not the same few words again, and no ascending numbers as in any table."""
    numbers = [(len(plain := word.lstrip(b"0")), plain) for word in ngram if word.isdigit()]  # any length, in order
    ascends = len(numbers) == len(ngram) and all(low < high for low, high in pairwise(numbers))
    return len(set(ngram)) >= MIN_DIFFERENT_WORDS and not ascends


def _num_rare(words: Iterable[bytes]) -> int:
    """The different words that are neither everyday ones nor numbers of one digit."""
    return sum(word not in _EVERYDAY and not (len(word) == 1 and word.isdigit()) for word in set(words))


def _hashes(ids: Ids, length: int, values: Hashes) -> Hashes:
    """The hash of each n-gram of `length` words: a polynomial in the words' values, modulo 2^64."""
    hashes = np.zeros(len(ids) - length + 1, np.uint64)
    for offset in range(length):
        hashes = hashes * _MULTIPLIER + values[ids[offset : offset + len(hashes)]]
    return hashes


def _value(word: bytes) -> int:
    return int.from_bytes(hashlib.sha256(word).digest()[:8], "little")


def _words(text: str) -> list[bytes]:
    """The normalised words of `text`, skipped ones and numbers' suffixes included."""
    data = text.encode("utf-8", "replace")
    if b"\\" in data:  # a copy inside a string literal
        data = data.replace(b"\\n", b" ").replace(b"\\t", b" ")
    if not text.isascii():
        data = _BEYOND_ASCII.sub(rb" \1 ", data)
    return data.translate(_TABLE, b"_").split()


def _plain_number(word: bytes) -> bytes:
    """`1.0f` and `3l` without the suffix."""
    found = _SUFFIXED.fullmatch(word)
    return found[1] if found else word


def _ids(content: str, vocabulary: Mapping[bytes, int]) -> Ids:
    """The ids of the words that are not skipped."""
    pieces = []
    start = 0
    while start < len(content):
        end = content.find(" ", start + PIECE) if len(content) - start > PIECE else -1
        words = _words(content[start : end if end >= 0 else len(content)])
        ids = np.fromiter(map(vocabulary.get, words, repeat(_UNKNOWN)), np.int32, len(words))
        pieces.append(ids[ids != _SKIPPED])
        start = end if end >= 0 else len(content)
    return np.concatenate(pieces) if pieces else np.empty(0, np.int32)
