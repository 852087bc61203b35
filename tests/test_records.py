"""Records on disk: what is written comes back, and nothing else is taken for it."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from codechoir import records
from codechoir.errors import DiskFullError, InputError
from codechoir.records import (
    Comparison,
    Completion,
    Infilling,
    LogLikelihood,
    Problem,
    Record,
    Score,
    Status,
    Verdict,
    append_record,
    complete_records,
    drop_torn_line,
    read_json,
    read_records,
    write_records,
)

NAMES = st.text(max_size=8)
FIGURES = st.floats()  # NaN and the infinities, too
ROUTES = st.dictionaries(NAMES, st.floats(0, 1), max_size=3)
RECORDS: dict[type[Record], st.SearchStrategy[Any]] = {
    Problem: st.builds(Problem, stop_tokens=st.lists(NAMES, max_size=3).map(tuple)),
    Completion: st.builds(Completion, text=st.text(), temperature=FIGURES, route=ROUTES),
    LogLikelihood: st.builds(LogLikelihood, log_likelihood=FIGURES, route=ROUTES),
    Infilling: st.builds(Infilling, expected=st.text(), text=st.text()),
    Verdict: st.builds(
        Verdict, status=st.sampled_from(Status), cpu_seconds=FIGURES, wall_seconds=FIGURES, memory_mib=FIGURES
    ),
    Score: st.builds(Score, value=FIGURES, low=FIGURES, high=FIGURES),
    Comparison: st.builds(
        Comparison,
        difference=FIGURES,
        low=FIGURES,
        high=FIGURES,
        p_value=FIGURES,
        p_adjusted=FIGURES,
        detectable=FIGURES,
    ),
}
SCORE = Score(model="base", language="cpp", metric="pass@1", value=0.5, low=0.25, high=0.75, count=4, clusters=4)


def completion(text: str) -> Completion:
    return Completion(
        model="base",
        language="python",
        problem="p/0",
        sample=0,
        seed=1,
        temperature=0.0,
        text=text,
        finish="stop",
        num_tokens=3,
        route={"python": 1.0},
    )


def test_every_kind_of_record_is_tested() -> None:
    kinds = {kind for kind in Record.__subclasses__() if kind.__module__ == Record.__module__}
    assert set(RECORDS) == kinds


@pytest.mark.parametrize("kind", RECORDS)
@given(data=st.data())
def test_records_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, kind: type[Record], data: st.DataObject
) -> None:
    drawn = data.draw(st.lists(RECORDS[kind], max_size=3))
    path = tmp_path_factory.getbasetemp() / f"{kind.__name__}.jsonl"
    write_records(path, drawn)
    back = list(read_records(kind, path))
    assert [repr(record) for record in back] == [repr(record) for record in drawn]  # NaN is not equal to NaN
    # an independent reader finds one object a line with the same values
    lines = path.read_bytes().split(b"\n")
    assert lines.pop() == b""
    for line, record in zip(lines, drawn, strict=True):
        expected = {name: list(v) if isinstance(v, tuple) else v for name, v in record.model_dump().items()}
        assert repr(json.loads(line)) == repr(json.loads(json.dumps(expected)))


@given(st.text())
@example("a\r\nb\x0b\x0c\x1c\x85\u2028\u2029c\x00\x7f\ufeff\ufffe\U0001f600")
def test_no_text_breaks_a_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "texts.jsonl"
    path.unlink(missing_ok=True)
    for _ in range(2):
        append_record(path, completion(text))
    assert [record.text for record in read_records(Completion, path)] == [text, text]


def test_an_undefined_score_survives_and_null_is_read_as_undefined(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    nan, inf = float("nan"), float("inf")
    write_records(path, [SCORE.model_copy(update={"value": nan, "low": -inf, "high": inf})])
    (back,) = read_records(Score, path)
    assert math.isnan(back.value)
    assert (back.low, back.high) == (-inf, inf)
    path.write_text(path.read_text().replace("NaN", "null"))
    assert math.isnan(next(read_records(Score, path)).value)


def test_null_is_no_count(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(SCORE.model_dump_json().replace('"count":4', '"count":null'))
    with pytest.raises(InputError, match="count"):
        list(read_records(Score, tmp_path / "a.jsonl"))


@pytest.mark.parametrize(
    ("p_adjusted", "expected"), [(0.001, False), (0.05, False), (0.0501, True), (1.0, True), (float("nan"), True)]
)
def test_within_noise_goes_by_the_corrected_p_value(p_adjusted: float, expected: bool) -> None:
    one = Comparison(
        model="a", against="b", language="cpp", metric="pass@1", difference=0.5, low=0.1, high=1, p_value=0.001,
        p_adjusted=p_adjusted, detectable=0.1, count=9, clusters=9,
    )  # fmt: skip
    assert one.within_noise is expected


@pytest.mark.parametrize(
    ("text", "expected", "exact"),
    [
        ("x = 1", "x = 1", True),
        ("    x = 1\n", "x = 1", True),
        ("x = 1", "\tx = 1 \r\n", True),
        ("", "  ", True),
        ("x  = 1", "x = 1", False),
        ("x = 1\ny = 2", "x = 1", False),
        ("X = 1", "x = 1", False),
    ],
)
def test_a_gap_is_filled_exactly_but_for_white_space_around_the_line(text: str, expected: str, exact: bool) -> None:
    one = Infilling(
        model="a", language="cpp", key="k", package="p", mode="spm", expected=expected, text=text, num_tokens=1
    )
    assert one.exact is exact


GOOD = SCORE.model_dump_json().encode()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"model": "base"}', "language"),
        (GOOD[:-1] + b', "extra": 1}', "extra"),
        (GOOD[:40], "EOF"),
        (GOOD[:40] + GOOD, "JSON"),
        (b"not JSON", "JSON"),
        (b"", "EOF"),
        (b"[1, 2]", "object"),
        (GOOD.replace(b"base", b"\xff\xfe"), "unicode"),
        (GOOD.replace(b"0.5", b'"much"'), "value"),
        (b"PK\x03\x04" + b"\x00" * 50, "JSON"),
    ],
)
def test_a_foreign_line_is_named(tmp_path: Path, line: bytes, said: str) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_bytes(GOOD + b"\n" + line + b"\n" + GOOD + b"\n")
    rows = read_records(Score, path)
    assert next(rows) == SCORE
    with pytest.raises(InputError) as caught:
        next(rows)
    assert f"{path}:2" in str(caught.value)
    assert said in str(caught.value)
    assert "metric" in caught.value.allowed
    assert "pydantic" not in str(caught.value)


def test_a_last_line_without_its_end_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_bytes(GOOD)
    assert list(read_records(Score, path)) == [SCORE]


@pytest.mark.parametrize("read", [lambda path: list(read_records(Score, path)), read_json])
def test_a_missing_file_or_a_folder_is_one_message(tmp_path: Path, read: Any) -> None:
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "absent")
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path)


def test_json_that_is_none(tmp_path: Path) -> None:
    write_records(tmp_path / "a.json", [SCORE])
    assert read_json(tmp_path / "a.json") == SCORE.model_dump()
    for content in (b"{", b"", b"\xff"):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(InputError, match="not JSON"):
            read_json(tmp_path / "a.json")


def test_a_killed_append_loses_at_most_the_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut anywhere, the file yields its whole lines, and appending goes on after them."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # hundreds of them are slow on a busy disk
    texts = ["a", "é\n", "\U0001f600"]
    path = tmp_path / "whole.jsonl"
    for text in texts:
        append_record(path, completion(text))
    content = path.read_bytes()
    cut = tmp_path / "cut.jsonl"
    for length in range(len(content) + 1):
        cut.write_bytes(content[:length])
        num_whole = content[:length].count(b"\n")
        assert [record.text for record in complete_records(Completion, cut)] == texts[:num_whole]
        append_record(cut, completion("next"))
        assert [record.text for record in read_records(Completion, cut)] == [*texts[:num_whole], "next"]


@given(st.binary(max_size=40), st.integers(1, 5))
def test_a_torn_line_is_cut_off_wherever_blocks_end(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, block: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "torn"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(records, "_BLOCK", block)
        drop_torn_line(path)
    assert path.read_bytes() == content[: content.rfind(b"\n") + 1]


def test_nothing_was_appended_yet(tmp_path: Path) -> None:
    assert complete_records(Completion, tmp_path / "absent.jsonl") == []
    assert not (tmp_path / "absent.jsonl").exists()


def test_a_full_disk_while_appending_is_one_message() -> None:
    with pytest.raises(DiskFullError, match="/dev/full"):  # a device on which every write finds the disk full
        append_record(Path("/dev/full"), SCORE)


def test_records_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        SCORE.value = 1.0  # type: ignore[misc]
