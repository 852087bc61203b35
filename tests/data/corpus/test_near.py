"""Near-duplicates against an exact oracle: each removed file has a kept near-duplicate, in any order of files."""

import itertools
import random
import re
from collections.abc import Callable
from pathlib import Path

import daft
import pyarrow as pa
import pytest
from daft import DataFrame
from hypothesis import given
from hypothesis import strategies as st

from codechoir.data.config import DedupConfig
from codechoir.data.corpus import near
from codechoir.data.engine import start

CONFIG = DedupConfig()


def grams(text: str) -> frozenset[tuple[str, ...]]:
    tokens = re.findall(r"\w+", text.lower())
    return frozenset(tuple(tokens[at : at + 5]) for at in range(len(tokens) - 4))


def similarity(one: str, other: str) -> float:
    a, b = grams(one), grams(other)
    return len(a & b) / len(a | b) if a | b else 0.0


def variant(text: str, num_edits: int, seed: int) -> str:
    generator = random.Random(seed)
    tokens = text.split(" ")
    for at in generator.sample(range(len(tokens)), num_edits):
        tokens[at] = f"edit{seed}x{at}"
    return " ".join(tokens)


def family(seed: int, length: int = 300) -> str:
    generator = random.Random(seed)
    return " ".join(f"{generator.choice('abcdef')}{generator.randrange(500)}" for _ in range(length))


def corpus(
    files: dict[str, str], tmp_path: Path, languages: dict[str, str] | None = None, parts: int = 3
) -> near.Corpus:
    start("native")
    ranks = list(files)
    kinds = pa.array([(languages or {}).get(rank, "python") for rank in ranks])
    contents = pa.array(list(files.values()), pa.large_string())
    bands, _ = near.bands(contents, kinds, CONFIG)
    table = pa.table({"rank": ranks, "content": contents})

    def part(number: int) -> Callable[[], DataFrame]:
        return lambda: daft.from_arrow(table.take(list(range(number, len(ranks), parts))))

    signatures = daft.from_arrow(pa.table({"rank": ranks, "bands": bands}))
    return near.Corpus(signatures, [part(number) for number in range(parts)], tmp_path / "work")


def oracle(files: dict[str, str]) -> set[str]:
    """The ranks that greedy removal by exact similarity takes away."""
    kept: list[str] = []
    for rank in sorted(files):
        if not any(similarity(files[rank], files[other]) >= CONFIG.threshold for other in kept):
            kept.append(rank)
    return set(files) - set(kept)


@pytest.fixture(scope="module")
def mixed() -> dict[str, str]:
    """Families of a file and variants at many distances, and files without kin, under ranks in no order."""
    texts = []
    for seed in range(12):
        base = family(seed)
        texts += [base, *(variant(base, edits, 100 * seed + edits) for edits in (1, 4, 8, 12, 16, 20, 40))]
    texts += [family(1000 + seed) for seed in range(40)]
    random.Random(3).shuffle(texts)
    return {f"r{number:03}": text for number, text in enumerate(texts)}


def test_removed_files_have_a_kept_near_duplicate_and_kept_ones_none(mixed: dict[str, str], tmp_path: Path) -> None:
    found = near.resolve(corpus(mixed, tmp_path), CONFIG)
    assert set(found.removed) == oracle(mixed)
    assert len(found.removed) > 30
    for rank, (kept, other, value) in found.removed.items():
        assert other == rank and kept < rank and kept not in found.removed
        assert value == pytest.approx(similarity(mixed[kept], mixed[rank])) and value >= CONFIG.threshold
    assert not (tmp_path / "work").exists()


def test_the_result_is_the_same_in_any_order_and_partition(mixed: dict[str, str], tmp_path: Path) -> None:
    first = near.resolve(corpus(mixed, tmp_path), CONFIG)
    shuffled = dict(random.Random(5).sample(list(mixed.items()), len(mixed)))
    again = near.resolve(corpus(shuffled, tmp_path, parts=7), CONFIG)
    assert (again.edges, again.removed) == (first.edges, first.removed)


def test_nothing_goes_for_a_file_that_is_gone(tmp_path: Path) -> None:
    """a and c are each near b, but not near each other."""
    base = family(1, 400)
    a, b = base, variant(base, 9, 7)
    c = variant(b, 9, 8)
    files = {"a": a, "b": b, "c": c}
    assert similarity(a, b) >= 0.7 and similarity(b, c) >= 0.7 > similarity(a, c)
    assert set(near.resolve(corpus(files, tmp_path), CONFIG).removed) == {"b"}


def test_languages_and_short_files_are_not_compared(tmp_path: Path) -> None:
    text = family(2)
    files = {"a": text, "b": variant(text, 1, 1), "c": "x = 1\ny = 2\n", "d": "x = 1\n\ny = 2\n"}
    found = near.resolve(corpus(files, tmp_path, {"b": "java"}), CONFIG)
    assert not found.removed


def test_a_crowd_of_near_duplicates_leaves_one(tmp_path: Path) -> None:
    base = family(4, 200)
    files = {f"r{number:04}": variant(base, 1, number) for number in range(near.FULL_BUCKET * 3)}
    found = near.resolve(corpus(files, tmp_path), CONFIG)
    assert set(files) - set(found.removed) == {"r0000"}
    assert found.num_crowded > 0
    assert found.num_pairs < len(files) * (near.NUM_LEADERS * near.NUM_ROUNDS + near.FULL_BUCKET)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=25), st.randoms(use_true_random=False))
def test_selection_is_greedy_over_edges(pairs: list[tuple[int, int]], generator: random.Random) -> None:
    edges = sorted({(f"{min(pair)}", f"{max(pair)}", 0.9) for pair in pairs if pair[0] != pair[1]})
    joined = {frozenset(edge[:2]) for edge in edges}
    kept: list[str] = []
    for rank in map(str, range(10)):
        if not any(frozenset((rank, other)) in joined for other in kept):
            kept.append(rank)
    generator.shuffle(edges)
    assert set(near.select(edges)) == set(map(str, range(10))) - set(kept)


def test_all_pairs_of_a_bucket_are_proposed_in_order_of_rank() -> None:
    for size in (2, 5, near.FULL_BUCKET):
        left, right = near._pairs_of(size)
        assert list(zip(left.tolist(), right.tolist(), strict=True)) == list(itertools.combinations(range(size), 2))
    left, right = near._pairs_of(near.FULL_BUCKET + 9)
    assert set(left.tolist()) == set(range(near.NUM_LEADERS))
    assert len(left) == sum(near.FULL_BUCKET + 8 - leader for leader in range(near.NUM_LEADERS))
