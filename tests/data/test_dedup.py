"""Exact duplicates against a plain oracle, in whatever order the files come."""

import random

from hypothesis import given
from hypothesis import strategies as st

from codechoir.data.dedup import Entry, resolve

LETTERS = st.sampled_from("abcd")


def entry(key: str, hexsha: str, row: int = 0) -> Entry:
    return Entry(key, hexsha, "0000-00000-00000.parquet", row, "python", "p", 1)


@given(st.lists(st.tuples(LETTERS, LETTERS), max_size=20), st.randoms(use_true_random=False))
def test_each_content_is_kept_once_under_its_smallest_key(
    pairs: list[tuple[str, str]], generator: random.Random
) -> None:
    entries = [entry(key, hexsha, row) for row, (key, hexsha) in enumerate(pairs)]
    resolution = resolve(entries)
    assert {kept.hexsha: kept.key.partition("#")[0] for kept in resolution.kept} == {
        hexsha: min(key for key, other in pairs if other == hexsha) for _, hexsha in pairs
    }
    keys = [kept.key for kept in resolution.kept]
    assert len(set(keys)) == len(keys)
    assert len(resolution.kept) + len(resolution.duplicates) == len(entries)
    by_hexsha = {kept.hexsha: kept.key for kept in resolution.kept}
    assert all(by_hexsha[gone.hexsha] == key for gone, key in resolution.duplicates)
    generator.shuffle(entries)
    assert resolve(entries) == resolution


def test_one_key_with_two_contents_becomes_two_keys() -> None:
    resolution = resolve([entry("repo/a.py", "bb"), entry("repo/a.py", "aa", 1)])
    assert [kept.key for kept in resolution.kept] == ["repo/a.py", "repo/a.py#bb"]
    assert resolution.duplicates == ()
