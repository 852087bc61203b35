"""Documents in Parquet: what is written is read back, by another library too, and damage is told."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir import documents
from codechoir.documents import (
    DOCUMENT_SCHEMA,
    STACK_SCHEMA,
    Text,
    in_seeded_order,
    in_turn,
    parquet_columns,
    read_parquet,
    read_texts,
    rows_digest,
    stream_parquet,
    write_parquet,
)
from codechoir.errors import InputError

PUBLISHED = """
content size lang ext avg_line_length max_line_length alphanum_fraction hexsha
max_stars_repo_path max_stars_repo_name max_stars_repo_head_hexsha max_stars_repo_licenses max_stars_count
max_forks_repo_path max_forks_repo_name max_forks_repo_head_hexsha max_forks_repo_licenses max_forks_count
max_issues_repo_path max_issues_repo_name max_issues_repo_head_hexsha max_issues_repo_licenses max_issues_count
"""


def row(key: str, content: str = "x", split: str = "train") -> dict[str, Any]:
    return {"key": key, "content": content, "split": split, "package": "p", "lang": "Python", "size": len(content)}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers()), unique=True), st.integers())
def test_in_turn_no_package_is_more_than_one_file_ahead(names: list[tuple[str, int]], seed: int) -> None:
    texts = [Text(f"{package}/{number}", package, "") for package, number in names]
    ordered = in_turn(in_seeded_order(texts, seed))
    assert sorted(text.key for text in ordered) == sorted(text.key for text in texts)
    assert ordered == in_turn(in_seeded_order(texts[::-1], seed))
    totals = {package: sum(text.package == package for text in texts) for package in "abc"}
    for end in range(len(ordered)):
        taken = {package: sum(text.package == package for text in ordered[:end]) for package in "abc"}
        assert all(taken[package] >= min(max(taken.values()) - 1, totals[package]) for package in "abc")


def test_the_columns_are_the_published_sets() -> None:
    assert set(STACK_SCHEMA.names) == set(PUBLISHED.split())
    assert DOCUMENT_SCHEMA.names == [*STACK_SCHEMA.names, "key", "package", "split"]


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=50)), max_size=5))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]) -> None:
    path = tmp_path_factory.mktemp("documents") / "a.parquet"
    rows = [row(key, content) for key, content in pairs]
    write_parquet(path, rows, DOCUMENT_SCHEMA)
    assert pq.read_schema(path).equals(DOCUMENT_SCHEMA)
    whole = read_parquet(path).to_pylist()
    assert [{name: one[name] for name in row("")} for one in whole] == rows
    assert [one for batch in stream_parquet(path, ("key",)) for one in batch.to_pylist()] == [
        {"key": key} for key, _ in pairs
    ]


def test_streams_come_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "STREAM_ROWS", 2)
    write_parquet(tmp_path / "a.parquet", [row(str(number)) for number in range(5)], DOCUMENT_SCHEMA)
    assert [batch.num_rows for batch in stream_parquet(tmp_path / "a.parquet")] == [2, 2, 1]


def test_texts_of_one_split_by_key(tmp_path: Path) -> None:
    write_parquet(tmp_path / "python/b.parquet", [row("c"), row("a"), row("d", split="held_out")], DOCUMENT_SCHEMA)
    write_parquet(tmp_path / "python/a.parquet", [row("b")], DOCUMENT_SCHEMA)
    assert [text.key for text in read_texts(tmp_path, "python", "train")] == ["a", "b", "c"]
    assert [text.key for text in read_texts(tmp_path, "python", "held_out")] == ["d"]
    with pytest.raises(InputError, match="no documents of this language"):
        read_texts(tmp_path, "java", "train")


def test_the_digest_is_of_the_rows_alone(tmp_path: Path) -> None:
    one, two, both, reverse = (tmp_path / f"{name}.parquet" for name in ("one", "two", "both", "reverse"))
    write_parquet(one, [row("a")], DOCUMENT_SCHEMA)
    write_parquet(two, [row("b")], DOCUMENT_SCHEMA)
    write_parquet(both, [row("a"), row("b")], DOCUMENT_SCHEMA)
    write_parquet(reverse, [row("b"), row("a")], DOCUMENT_SCHEMA)
    assert rows_digest([one, two]) == rows_digest([two, one]) == rows_digest([both]) == rows_digest([reverse])
    assert rows_digest([one]) != rows_digest([two])
    assert rows_digest([one, one]) != rows_digest([one])


@pytest.mark.parametrize("read", [read_parquet, parquet_columns, lambda path: list(stream_parquet(path))])
def test_a_missing_or_damaged_file_is_told(read: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with pytest.raises(InputError, match="no such file"):
        read(path)
    write_parquet(path, [row(str(number), "content" * number) for number in range(100)], DOCUMENT_SCHEMA)
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole[: len(whole) // 2], b"text"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="damaged"):
            read(path)


def test_damage_within_the_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_parquet(path, [row(str(number), "content" * number) for number in range(100)], DOCUMENT_SCHEMA)
    spoiled = bytearray(path.read_bytes())
    spoiled[4:400] = b"\xff" * 396
    path.write_bytes(bytes(spoiled))
    with pytest.raises(InputError, match="damaged"):
        read_parquet(path)
    with pytest.raises(InputError, match="damaged"):
        list(stream_parquet(path))


def test_missing_columns_are_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"content": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet: key, split"):
        read_parquet(tmp_path / "a.parquet", ("content", "split", "key"))
    with pytest.raises(InputError, match=r"a\.parquet: key"):
        list(stream_parquet(tmp_path / "a.parquet", ("key",)))
