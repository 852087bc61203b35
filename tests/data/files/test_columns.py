"""The computed columns against numpy's form of BigCode's formulas and against Git's own ids."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.data.files.columns import git_blob_id, git_blob_ids, measure, repository_columns
from codechoir.documents import EVENT_COLUMNS


@given(st.text(min_size=1))
def test_measures_are_those_of_bigcode(content: str) -> None:
    lengths = np.array([len(line) for line in content.splitlines()])
    measures = measure(content)
    assert measures.avg_line_length == pytest.approx(np.mean(lengths))
    assert measures.max_line_length == np.max(lengths)
    assert measures.alphanum_fraction == pytest.approx(np.mean([character.isalnum() for character in content]))
    assert measures.size == len(content.encode())


def test_lengths_are_characters_and_the_size_is_bytes() -> None:
    measures = measure("äöü = 1\r\n\r\nx\n")
    assert (measures.size, measures.max_line_length, measures.avg_line_length) == (16, 7, 8 / 3)
    assert measures.alphanum_fraction == 5 / 13


def test_an_empty_file_measures_nothing() -> None:
    measures = measure("")
    assert (measures.size, measures.avg_line_length, measures.max_line_length) == (0, 0.0, 0)
    assert measures.alphanum_fraction == 0.0


@pytest.mark.parametrize(
    ("data", "blob_id"),
    [
        (b"", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),  # Git's well-known empty blob
        (b"test content\n", "d670460b4b4aece5915caf5c68d12f560a9fe3e4"),  # Pro Git, chapter 10.2
    ],
)
def test_hexsha_is_gits_blob_id(data: bytes, blob_id: str) -> None:
    assert git_blob_id(data) == blob_id
    assert git_blob_ids(pa.array(["x", data.decode()]).slice(1)) == [blob_id]


def test_repository_columns_name_one_place_three_times() -> None:
    row = repository_columns("p", "src/a.hpp", ["MIT"])
    assert set(row) == {name for name, _ in EVENT_COLUMNS}
    for event in ("max_stars", "max_forks", "max_issues"):
        assert row[f"{event}_repo_path"] == "src/a.hpp"
        assert row[f"{event}_repo_licenses"] == ["MIT"]
        assert row[f"{event}_count"] is None
