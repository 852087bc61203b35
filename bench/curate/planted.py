"""A corpus with planted near-duplicates: pairs of files whose exact Jaccard is a stated level, among unrelated files.

Takes real files, no two of which resemble each other, and edits copies of some until the oracle's Jaccard of original
and copy is within TOLERANCE of the level: identifiers replaced here and there, then a comment of new words at the end.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from bench.curate.corpus import File, write_corpus
from bench.curate.oracle import NGRAM, Shingler, jaccard, near_pairs

LEVELS = (0.70, 0.75, 0.80, 0.90)
TOLERANCE = 0.005
UNRELATED = 0.3  # originals and the other files have less than this with each other
MIN_SHINGLES, MAX_SHINGLES = 150, 5000

_COMMENT = {"Python": "#", "JavaScript": "//", "TypeScript": "//", "Java": "//", "C": "//", "C++": "//"}
_IDENTIFIER = re.compile(r"\b[A-Za-z_]\w{3,}\b")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rows of the planted corpus, their level and their exact Jaccard."""

    left: int
    right: int
    level: float
    exact: float


def write_planted(folder: Path, files: Sequence[File], num_files: int, pairs_per_level: int, seed: int = 0) -> None:
    """Writes `num_files` rows with `pairs_per_level` pairs at each of LEVELS, and pairs.json beside them."""
    num_pairs = pairs_per_level * len(LEVELS)
    originals = _unrelated(files, num_files - num_pairs, seed)
    chosen = random.Random(seed)
    levels = [level for level in LEVELS for _ in range(pairs_per_level)]
    copies = [_copy(file, level, seed) for file, level in zip(originals, levels, strict=False)]
    rows = [*originals, *(copy for copy, _ in copies)]
    order = list(range(len(rows)))
    chosen.shuffle(order)
    place = {row: number for number, row in enumerate(order)}
    pairs = [
        Pair(place[index], place[len(originals) + index], levels[index], exact)
        for index, (_, exact) in enumerate(copies)
    ]
    write_corpus(folder, (rows[row] for row in order))
    (folder / "pairs.json").write_text(json.dumps([asdict(pair) for pair in pairs]))


def read_pairs(folder: Path) -> list[Pair]:
    """The planted pairs of a corpus."""
    return [Pair(**pair) for pair in json.loads((folder / "pairs.json").read_text())]


def _unrelated(files: Sequence[File], count: int, seed: int) -> list[File]:
    """`count` files of fitting size that resemble each other nowhere, in an order that the seed fixes."""
    shingler = Shingler()
    fitting = [
        file
        for file in files
        if file.language in _COMMENT
        and MIN_SHINGLES * 4 <= file.size <= MAX_SHINGLES * 20
        and MIN_SHINGLES <= len(shingler(file.content)) <= MAX_SHINGLES
    ]
    fitting.sort(key=lambda file: hashlib.sha256(f"{seed} {file.repository} {file.path}".encode()).digest())
    near = near_pairs((file.content for file in fitting), UNRELATED)
    resembled: dict[int, set[int]] = {}
    for left, right in near.pairs_P2.tolist():
        resembled.setdefault(left, set()).add(right)
        resembled.setdefault(right, set()).add(left)
    kept: list[File] = []
    groups: set[int] = set()
    for file, group in zip(fitting, near.group_F.tolist(), strict=True):
        if len(kept) < count and group not in groups and not resembled.get(group, set()) & groups:
            groups.add(group)
            kept.append(file)
    if len(kept) < count:
        raise SystemExit(f"only {len(kept)} unrelated files where {count} are needed: take a larger corpus")
    return kept


def _copy(file: File, level: float, seed: int) -> tuple[File, float]:
    """An edited copy of `file` and its exact Jaccard with it, within TOLERANCE of `level`."""
    shingler = Shingler()
    original = shingler(file.content)
    words = _new_words(f"{seed} {file.repository} {file.path}")
    places = [match.span() for match in _IDENTIFIER.finditer(file.content)]
    random.Random(f"{seed} {file.path}").shuffle(places)
    # one replaced token spoils at most NGRAM shingles: J >= (n - 5k) / (n + 5k)
    num_edits = int(len(original) * (1 - level) / (NGRAM * (1 + level)))
    while True:
        edited = _replaced(file.content, places[:num_edits], words)
        if jaccard(original, shingler(edited)) < level or num_edits >= len(places):
            break
        num_edits += 1
    low, high = 0, max(0, num_edits)  # the most edits that leave the Jaccard at the level or above
    while low < high:
        middle = (low + high + 1) // 2
        above = jaccard(original, shingler(_replaced(file.content, places[:middle], words))) >= level
        low, high = (middle, high) if above else (low, middle - 1)
    edited = _replaced(file.content, places[:low], words)
    shingles = shingler(edited)
    common = len(np.intersect1d(original, shingles, assume_unique=True))
    num_added = max(0, round(common / level) - (len(original) + len(shingles) - common))
    if num_added:
        added = " ".join(next(words) for _ in range(num_added))
        edited = f"{edited.rstrip()}\n{_COMMENT[file.language]} {added}\n"
    exact = jaccard(original, shingler(edited))
    if abs(exact - level) > TOLERANCE:
        raise SystemExit(f"could not plant {level}: {file.repository}/{file.path} came out at {exact:.4f}")
    return replace(file, repository=f"{file.repository}-planted", content=edited), exact


def _replaced(content: str, spans: Sequence[tuple[int, int]], words: Iterator[str]) -> str:
    pieces, last = [], 0
    for begin, end in sorted(spans):
        pieces += [content[last:begin], next(words)]
        last = end
    return "".join([*pieces, content[last:]])


def _new_words(seed: str) -> Iterator[str]:
    number = 0
    while True:
        yield "w" + hashlib.blake2b(f"{seed} {number}".encode(), digest_size=5).hexdigest()
        number += 1
