"""The estimated recall against all pairs, compared one by one."""

import itertools
import random
import re
from pathlib import Path
from typing import Any

import daft
import pyarrow as pa
import pytest

from codechoir.data.config import CurateConfig
from codechoir.data.corpus import near, recall
from codechoir.data.engine import start, store

NUM_FILES = 60


def grams(text: str) -> frozenset[tuple[str, ...]]:
    tokens = re.findall(r"\w+", text.lower())
    return frozenset(tuple(tokens[at : at + 5]) for at in range(len(tokens) - 4))


def config(**dedup: Any) -> CurateConfig:
    return CurateConfig.parse({"sources": [{"kind": "folder", "path": "x"}], "dedup": dedup}, "test")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path, list[str], list[list[int]]]:
    """Examined files in two folders, copies, and the files' contents and bands."""
    start("native")
    root = tmp_path_factory.mktemp("recall")
    generator = random.Random(0)
    contents = []
    for _ in range(NUM_FILES // 6):
        words = [f"w{generator.randrange(400)}" for _ in range(200)]
        for edits in (0, 2, 5, 8, 12, 20):
            some = list(words)
            for at in generator.sample(range(200), edits):
                some[at] = f"e{generator.randrange(10**6)}"
            contents.append(" ".join(some))
    lists, num_tokens = near.bands(
        pa.array(contents, pa.large_string()), pa.array(["python"] * NUM_FILES), config().dedup
    )
    table = pa.table(
        {
            "reason": pa.array([None] * NUM_FILES, pa.string()),
            "rank": [f"r{number:03}" for number in range(NUM_FILES)],
            "key": [f"k{number}" for number in range(NUM_FILES)],
            "language": ["python"] * NUM_FILES,
            "content": contents,
            "bands": lists,
            "num_tokens": num_tokens,
        }
    )
    halves = [table.slice(0, NUM_FILES // 2), table.slice(NUM_FILES // 2)]
    examined = [store(daft.from_arrow(half), root / f"half-{at}") for at, half in enumerate(halves)]
    copies = store(daft.from_arrow(pa.table({"rank": pa.array([], pa.string())})), root / "copies")
    return examined, copies, contents, lists.to_pylist()


def test_the_estimate_from_all_files_is_the_truth(corpus: tuple[list[Path], Path, list[str], list[list[int]]]) -> None:
    examined, copies, contents, bands = corpus
    found = recall.estimate_recall(examined, copies, config(recall_sample=NUM_FILES))
    expected = dict.fromkeys(recall.EDGES[:-1], (0, 0))
    for one, other in itertools.permutations(range(NUM_FILES), 2):
        a, b = grams(contents[one]), grams(contents[other])
        similarity = len(a & b) / len(a | b)
        low = max((edge for edge in recall.EDGES[:-1] if edge <= similarity), default=None)
        if low is not None:
            pairs, proposed = expected[low]
            expected[low] = (pairs + 1, proposed + (not set(bands[one]).isdisjoint(bands[other])))
    assert {row["low"]: (row["pairs"], row["proposed"]) for row in found} == expected
    assert sum(pairs for pairs, _ in expected.values()) > 100


def test_a_sample_gives_part_of_the_pairs(corpus: tuple[list[Path], Path, list[str], list[list[int]]]) -> None:
    examined, copies, _, _ = corpus
    whole = recall.estimate_recall(examined, copies, config(recall_sample=NUM_FILES))
    some = recall.estimate_recall(examined, copies, config(recall_sample=15))
    assert all(part["pairs"] <= row["pairs"] for part, row in zip(some, whole, strict=True))
    assert 0 < sum(row["pairs"] for row in some) < sum(row["pairs"] for row in whole)
    assert some == recall.estimate_recall(examined[::-1], copies, config(recall_sample=15))
    assert recall.estimate_recall(examined, copies, config(recall_sample=0)) == []
