"""The exact judge: Jaccard on sets of lower-cased `\\w+` 5-grams, every pair of files at or above a threshold.

Shares no code with what it judges. Knows contents and languages alone. Shingles are 64-bit hashes of five token
numbers: two of 20 million distinct ones collide with a chance of about 1 in 100,000. The join is complete: prefix
filtering over shingles ordered from rare to frequent (Bayardo et al. 2007, All-Pairs), every candidate verified on its
full set. Files of fewer than five tokens have one shingle, their whole sequence; files without tokens resemble equal
contents only.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

NGRAM = 5
TOKEN = re.compile(r"\w+")
CANDIDATES_AT_ONCE = 2_000_000

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]


class Shingler:
    """Contents to sorted arrays of distinct shingles; numbers tokens in the order in which they come."""

    def __init__(self) -> None:
        self._numbers: defaultdict[str, int] = defaultdict()
        self._numbers.default_factory = self._numbers.__len__

    def __call__(self, content: str) -> U64:
        numbers = self._numbers
        tokens = np.array([numbers[token] for token in TOKEN.findall(content.lower())], dtype=np.uint64)
        mixed = _mix(tokens + np.uint64(1))
        if 0 < len(mixed) < NGRAM:
            mixed = np.concatenate([mixed, np.zeros(NGRAM - len(mixed), np.uint64)])
        count = max(0, len(mixed) - NGRAM + 1)
        hashes = np.zeros(count, np.uint64)
        for place in range(NGRAM):
            hashes = _mix(hashes + mixed[place : place + count])
        return np.unique(hashes)


def _mix(values: U64) -> U64:
    """splitmix64's finaliser: a bijection of 64 bits (Steele et al. 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def jaccard(left: U64, right: U64) -> float:
    """Exact Jaccard of two sorted arrays of distinct shingles; 0 where both are empty."""
    common = len(np.intersect1d(left, right, assume_unique=True))
    union = len(left) + len(right) - common
    return common / union if union else 0.0


@dataclass(frozen=True, slots=True)
class Near:
    """All near pairs of a corpus, by groups of files with the same set of shingles.

    F files, P pairs of groups. A group without shingles has files of one content.
    """

    group_F: I64
    pairs_P2: I64  # of groups, each pair once
    similarity_P: npt.NDArray[np.float64]


def near_pairs(contents: Iterable[str], threshold: float) -> Near:
    """Every pair of files with exact Jaccard >= `threshold`, and every group of files with equal sets."""
    shingler = Shingler()
    numbers: dict[bytes, int] = {}
    empty: dict[str, int] = {}
    sets: list[U64] = []
    groups = []
    for content in contents:
        shingles = shingler(content)
        if not len(shingles):
            groups.append(-1 - empty.setdefault(content, len(empty)))
            continue
        digest = hashlib.blake2b(shingles.tobytes(), digest_size=16).digest()
        if digest not in numbers:
            numbers[digest] = len(sets)
            sets.append(shingles)
        groups.append(numbers[digest])
    group_F = np.array(groups, dtype=np.int64)
    group_F = np.where(group_F < 0, len(sets) - 1 - group_F, group_F)
    pairs, similarity = _join(sets, threshold)
    return Near(group_F, pairs, similarity)


def _join(sets: Sequence[U64], threshold: float) -> tuple[I64, npt.NDArray[np.float64]]:
    """Pairs of sets with Jaccard >= threshold, and their Jaccard."""
    sizes = np.array([len(values) for values in sets], dtype=np.int64)
    pairs: list[tuple[int, int]] = []
    similarity: list[float] = []
    for candidates in _candidates(sets, sizes, threshold):
        for left, right in candidates:
            exact = jaccard(sets[left], sets[right])
            if exact >= threshold:
                pairs.append((left, right))
                similarity.append(exact)
    return np.array(pairs, dtype=np.int64).reshape(-1, 2), np.array(similarity)


def _candidates(sets: Sequence[U64], sizes: I64, threshold: float) -> Iterator[I64]:
    """Pairs that share a shingle of both prefixes, each once, where the sizes allow the threshold."""
    if not len(sets):
        return
    flat = np.concatenate(sets)
    distinct, inverse, frequency = np.unique(flat, return_inverse=True, return_counts=True)
    del flat
    rank = np.empty(len(distinct), np.int64)
    rank[np.argsort(frequency, kind="stable")] = np.arange(len(distinct))
    single = int((frequency == 1).sum())  # ranks below this are in one set only
    shingles: list[I64] = []
    owners: list[I64] = []
    start = 0
    for owner, size in enumerate(sizes):
        ranks = np.sort(rank[inverse[start : start + size]])
        start += size
        prefix = ranks[: size - ceil(threshold * size - 1e-9) + 1]
        shared = prefix[prefix >= single]
        shingles.append(shared)
        owners.append(np.full(len(shared), owner, np.int64))
    del inverse, rank, distinct
    shingle, members_of = np.concatenate(shingles), np.concatenate(owners)
    order = np.lexsort((members_of, shingle))
    bounds = np.flatnonzero(np.diff(shingle[order])) + 1
    codes: list[I64] = []
    held, seen = 0, np.empty(0, np.int64)
    for members in np.split(members_of[order], bounds):
        if len(members) > 1:
            left, right = np.triu_indices(len(members), 1)
            codes.append(members[left] * len(sets) + members[right])
            held += len(left)
        if held > CANDIDATES_AT_ONCE:
            seen, codes, held = np.union1d(seen, np.concatenate(codes)), [], 0
    if codes:
        seen = np.union1d(seen, np.concatenate(codes))
    pairs = np.stack(np.divmod(seen, len(sets)), axis=1)
    small, large = np.sort(sizes[pairs], axis=1).T
    yield pairs[small >= threshold * large - 1e-9]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a tool's removals are worth."""

    removed: int
    false_removals: int  # removed, no kept file of the same language at the threshold, content not kept elsewhere
    false_any_language: int  # the same with kept files of every language
    pairs_left: int  # near pairs of one language of which both files were kept
    num_pairs: int


@dataclass(frozen=True, slots=True)
class Judge:
    """A corpus of F files with its near pairs, ready to judge removals."""

    near: Near
    language_F: I64
    content_F: I64  # equal numbers: equal contents

    @property
    def num_groups(self) -> int:
        return int(self.near.group_F.max()) + 1

    def verdict(self, removed: Iterable[int]) -> Verdict:
        """Judges the removal of the files numbered `removed`."""
        gone_F = np.zeros(len(self.language_F), bool)
        gone_F[list(removed)] = True
        kept_GL = self._counts(~gone_F)
        near_GL = self._reached(kept_GL)
        near_G = np.logical_or.reduce(near_GL, axis=1)
        kept_content = np.zeros(int(self.content_F.max()) + 1, bool)
        kept_content[self.content_F[~gone_F]] = True
        lost_F = gone_F & ~kept_content[self.content_F]
        groups, languages = self.near.group_F[lost_F], self.language_F[lost_F]
        return Verdict(
            removed=int(gone_F.sum()),
            false_removals=int(np.count_nonzero(~near_GL[groups, languages])),
            false_any_language=int(np.count_nonzero(~near_G[groups])),
            pairs_left=self._pairs(kept_GL),
            num_pairs=self._pairs(self._counts(np.ones_like(gone_F))),
        )

    def greedy_removals(self) -> int:
        """How many files an exact greedy pass in the files' order removes: those with a kept near file before them."""
        edges = defaultdict(list)
        for left, right in self.near.pairs_P2:
            edges[int(left)].append(int(right))
            edges[int(right)].append(int(left))
        kept: set[tuple[int, int]] = set()
        num_removed = 0
        for group, language in zip(self.near.group_F.tolist(), self.language_F.tolist(), strict=True):
            if (group, language) in kept or any((other, language) in kept for other in edges[group]):
                num_removed += 1
            else:
                kept.add((group, language))
        return num_removed

    def _counts(self, chosen_F: npt.NDArray[np.bool_]) -> I64:
        counts_GL = np.zeros((self.num_groups, int(self.language_F.max()) + 1), np.int64)
        np.add.at(counts_GL, (self.near.group_F[chosen_F], self.language_F[chosen_F]), 1)
        return counts_GL

    def _reached(self, counts_GL: I64) -> npt.NDArray[np.bool_]:
        """Groups with a kept file in the group itself or at the threshold from it."""
        kept_GL = np.greater(counts_GL, np.zeros_like(counts_GL))
        reached_GL = kept_GL.copy()
        left, right = self.near.pairs_P2.T
        np.logical_or.at(reached_GL, left, kept_GL[right])
        np.logical_or.at(reached_GL, right, kept_GL[left])
        return reached_GL

    def _pairs(self, counts_GL: I64) -> int:
        left, right = self.near.pairs_P2.T
        return int((counts_GL[left] * counts_GL[right]).sum() + (counts_GL * (counts_GL - 1) // 2).sum())


def numbered(values: Iterable[str]) -> I64:
    """The same number for equal values."""
    numbers: defaultdict[str, int] = defaultdict()
    numbers.default_factory = numbers.__len__
    return np.array([numbers[value] for value in values], dtype=np.int64)
