"""Tables: every form of The Stack against rows written by hand, damage row by row and file by file, and urls."""

import gzip
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import daft
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from daft import DataType, Series, col
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codechoir.data.config import TableSource
from codechoir.data.engine import batch_function
from codechoir.data.sources.rows import GATHERED_SCHEMA
from codechoir.data.sources.tables import read_scan, read_table, scans, table_digest, told
from codechoir.data.sources.tables import table_files as files_of
from codechoir.errors import InputError
from codechoir.languages import language

PYTHON, CPP = language("python"), language("cpp")
Rows = list[dict[str, Any]]


def source(path: Path | str, kind: str = "parquet", **more: Any) -> TableSource:
    return TableSource.parse({"kind": kind, "path": str(path), **more}, "test")


def write(path: Path, rows: Rows, schema: pa.Schema | None = None, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = dict.fromkeys(name for row in rows for name in row)
    whole = [{name: row.get(name) for name in names} for row in rows]
    pq.write_table(pa.Table.from_pylist(whole, schema=schema), path, **options)
    return path


def read(table: TableSource, *languages: str, max_file_bytes: int | None = None) -> Rows:
    wanted = [language(name) for name in languages or ("python", "cpp")]
    with told(table):
        frame = read_table(table, wanted, max_file_bytes)
        # Sorted by Daft, as without a step that takes all rows it may lose a scan's error and give no row at all.
        found: Rows = frame.sort(["key", "content"]).to_pylist()
    return found


def v1(number: int = 0, **changed: Any) -> dict[str, Any]:
    row = {
        "content": f"a = {number}\n",
        "lang": "Python",
        "max_stars_repo_name": "o/r",
        "max_stars_repo_path": f"p/f{number}.py",
        "max_stars_repo_licenses": ["MIT"],
        "max_stars_count": 7,
    }
    return {**row, **changed}


def v2(**changed: Any) -> dict[str, Any]:
    row = {
        "blob_id": "b10b",
        "path": "/src/a.cc",
        "content_id": "c0",
        "detected_licenses": ["MIT", "Apache-2.0"],
        "license_type": "permissive",
        "repo_name": "o/r",
        "revision_id": "4ead",
        "star_events_count": 3,
        "fork_events_count": 2,
        "gha_license_id": None,
        "src_encoding": "UTF-8",
        "language": "C++",
        "is_vendor": False,
        "is_generated": True,
        "length_bytes": 4,
        "extension": "cc",
        "content": "int\n",
    }
    return {**row, **changed}


NOTHING = dict.fromkeys(GATHERED_SCHEMA.names)


def test_the_stack_v1(tmp_path: Path) -> None:
    more: dict[str, Any] = {
        "size": 6,
        "avg_line_length": 5.0,
        "max_line_length": 5,
        "alphanum_fraction": 0.5,
        "hexsha": "ab",
    }
    forks: dict[str, Any] = {"max_forks_repo_name": "x/y", "max_forks_repo_path": "z.py", "max_forks_count": None}
    table = source(write(tmp_path / "a.parquet", [v1(**more, **forks)]))
    (row,) = read(table)
    assert row == {
        **NOTHING,
        "key": "o/r/p/f0.py",
        "package": "o/r",
        "path": "p/f0.py",
        "language": "python",
        "content": "a = 0\n",
        "licences": ["MIT"],
        **{f"stored_{name}": value for name, value in more.items()},
        "max_stars_repo_path": "p/f0.py",
        "max_stars_repo_name": "o/r",
        "max_stars_repo_licenses": ["MIT"],
        "max_stars_count": 7,
        **forks,
        "max_forks_repo_licenses": ["MIT"],
        "max_issues_repo_name": "o/r",
        "max_issues_repo_path": "p/f0.py",
        "max_issues_repo_licenses": ["MIT"],
    }
    expected = daft.from_arrow(GATHERED_SCHEMA.empty_table()).schema()
    assert read_table(table, [PYTHON]).schema() == expected


@pytest.mark.parametrize("content", ["content", "text"])
def test_the_stack_v2_with_its_contents(tmp_path: Path, content: str) -> None:
    row = v2()
    row[content] = row.pop("content")
    (found,) = read(source(write(tmp_path / "a.parquet", [row])))
    places = {f"max_{event}_repo_path": "src/a.cc" for event in ("stars", "forks", "issues")}
    names = {f"max_{event}_repo_name": "o/r" for event in ("stars", "forks", "issues")}
    heads = {f"max_{event}_repo_head_hexsha": "4ead" for event in ("stars", "forks", "issues")}
    licences = {f"max_{event}_repo_licenses": ["MIT", "Apache-2.0"] for event in ("stars", "forks", "issues")}
    assert found == {
        **NOTHING,
        "key": "o/r/src/a.cc",
        "package": "o/r",
        "path": "src/a.cc",
        "language": "cpp",
        "content": "int\n",
        "licences": ["MIT", "Apache-2.0"],
        "is_vendor": False,
        "is_generated": True,
        "stored_size": 4,
        "stored_hexsha": "b10b",
        **places,
        **names,
        **heads,
        **licences,
        "max_stars_count": 3,
        "max_forks_count": 2,
    }


def v3_file(path: str, content: str | None, name: str = "Python", licences: list[str] | None = None) -> dict[str, Any]:
    return {
        "content_id": "c0",
        "content": content,
        "size_bytes": 2,
        "file_path": path,
        "language": name,
        "is_vendor": False,
        "license_type": "permissive",
        "detected_licenses": licences,
    }


V3: Rows = [
    {
        "repo_path": "o/r",
        "commit_id": "4ead",
        "github_metadata": {"stars": 5, "forks": 4, "issues": 3},
        "num_files": 3,
        "files": [v3_file("a.py", "a\n", licences=["ISC"]), v3_file("b.go", "b", "Go"), v3_file("c.h", None, "C++")],
    },
    {"repo_path": "o/empty", "commit_id": "1", "github_metadata": None, "num_files": 0, "files": []},
    {"repo_path": "o/none", "commit_id": "1", "github_metadata": None, "num_files": 0, "files": None},
]


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_the_stack_v3_has_a_row_for_each_file_of_a_repository(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        write(path, V3)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in V3))
    a, c = read(source(path, kind))
    assert (a["key"], a["path"], a["language"], a["content"], a["damage"]) == (
        "o/r/a.py",
        "a.py",
        "python",
        "a\n",
        None,
    )
    assert (a["max_stars_count"], a["max_forks_count"], a["max_issues_count"]) == (5, 4, 3)
    assert (a["max_forks_repo_head_hexsha"], a["stored_size"], a["stored_hexsha"]) == ("4ead", 2, "c0")
    assert (a["licences"], a["is_vendor"], a["max_stars_repo_licenses"]) == (["ISC"], False, ["ISC"])
    assert (c["key"], c["content"], c["damage"], c["licences"]) == ("o/r/c.h", None, "no-content: null", [])


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".jsonl.gz", ".jsonl.zst"])
def test_json_lines(tmp_path: Path, suffix: str) -> None:
    rows = [v1(0), v1(1, max_stars_repo_licenses=None, size=None), v1(2, lang="Java"), v1(3, size=6)]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    with pa.output_stream(str(tmp_path / f"a{suffix}"), compression="detect") as out:
        out.write(data)
    found = read(source(tmp_path, "jsonl"))
    assert [(row["key"], row["licences"], row["stored_size"]) for row in found] == [
        ("o/r/p/f0.py", ["MIT"], None),
        ("o/r/p/f1.py", [], None),
        ("o/r/p/f3.py", ["MIT"], 6),
    ]
    assert read(source(write(tmp_path / "b.parquet", rows))) == found


def test_languages_by_every_spelling_and_by_path_where_none_is_stated(tmp_path: Path) -> None:
    stated = ["Python", "python", "py", None, None, "Java", "C++", "c++", "Klingon", ""]
    rows = [v1(number, lang=name) for number, name in enumerate(stated)]
    rows[4]["max_stars_repo_path"] = "f4.java"
    table = source(write(tmp_path / "a.parquet", rows))
    assert [row["content"] for row in read(table, "python")] == ["a = 0\n", "a = 1\n", "a = 2\n", "a = 3\n"]
    assert [row["content"] for row in read(table, "cpp")] == ["a = 6\n", "a = 7\n"]
    assert [row["content"] for row in read(table, "java")] == ["a = 4\n", "a = 5\n"]


def test_a_table_without_a_language_column_goes_by_path(tmp_path: Path) -> None:
    rows = [{key: value for key, value in v1(number).items() if key != "lang"} for number in range(2)]
    rows[1]["max_stars_repo_path"] = "b.cc"
    table = source(write(tmp_path / "a.parquet", rows))
    assert [(row["language"], row["content"]) for row in read(table)] == [("cpp", "a = 1\n"), ("python", "a = 0\n")]


@pytest.mark.parametrize("folder", ["data/python", "lang=Python", "language=C%2B%2B/part=1", "data/c++/train", "x"])
def test_a_folder_may_name_the_language(tmp_path: Path, folder: str) -> None:
    row = {key: value for key, value in v1().items() if key != "lang"} | {"max_stars_repo_path": "noidea"}
    write(tmp_path / folder / "a.parquet", [row])
    found = [row["language"] for row in read(source(tmp_path))]
    assert found == ([] if folder == "x" else ["python" if "ython" in folder else "cpp"])


def test_the_files_own_language_stands_against_the_folders(tmp_path: Path) -> None:
    write(tmp_path / "lang=Java" / "a.parquet", [v1()])
    assert [row["language"] for row in read(source(tmp_path), "python", "java")] == ["python"]


def test_language_and_columns_reach_the_scan(tmp_path: Path) -> None:
    table = source(write(tmp_path / "a.parquet", [v1(unused="x")]))
    plan = StringIO()
    read_table(table, [PYTHON]).select("key").explain(True, file=plan)
    scan = re.sub(r"[|\s]+", " ", plan.getvalue().split("== Physical Plan ==")[1]).split("ScanTaskSource")[1]
    assert 'lit("Python")' in scan.split("filter:")[1]
    assert "max_stars_repo_path" in scan.split("projection: [")[1].split("]")[0]
    assert not {"content", "unused"} & set(re.findall(r"\w+", scan.split("projection: [")[1].split("]")[0]))


@pytest.mark.parametrize(
    ("licences", "expected"),
    [
        (["MIT", None, ""], ["MIT"]),
        ("Apache-2.0", ["Apache-2.0"]),
        ("", ["ISC"]),
        ([], ["ISC"]),
        (None, ["ISC"]),
        ([None], ["ISC"]),
    ],
)
def test_licences_are_one_text_a_list_or_the_sources(tmp_path: Path, licences: object, expected: list[str]) -> None:
    table = source(write(tmp_path / "a.parquet", [v1(max_stars_repo_licenses=licences)]), licence="ISC")
    assert read(table)[0]["licences"] == expected


def test_a_list_of_several_licences_makes_one_row(tmp_path: Path) -> None:
    rows = [v1(number, max_stars_repo_licenses=[f"L{n}" for n in range(number)]) for number in range(4)]
    found = read(source(write(tmp_path / "a.parquet", rows)))
    assert [row["licences"] for row in found] == [[], ["L0"], ["L0", "L1"], ["L0", "L1", "L2"]]


def test_a_v2_row_without_a_detected_licence_has_the_repositorys(tmp_path: Path) -> None:
    rows = [v2(detected_licenses=[], gha_license_id="BSD-3-Clause")]
    assert read(source(write(tmp_path / "a.parquet", rows)))[0]["licences"] == ["BSD-3-Clause"]


def test_damaged_rows_stay_without_content(tmp_path: Path) -> None:
    rows = [
        v1(0),
        v1(1, content=None),
        v1(2, max_stars_repo_name=None),
        v1(3, max_stars_repo_path=""),
        v1(4, content="x" * 100),
        v1(5, content="é" * 5),
        v1(6, content=""),
    ]
    found = read(source(write(tmp_path / "a.parquet", rows)), max_file_bytes=10)
    assert [(row["key"], row["content"], row["damage"]) for row in found] == [
        ("?/p/f2.py", None, "no-repository: null or empty"),
        ("o/r/?", None, "no-path: null or empty"),
        ("o/r/p/f0.py", "a = 0\n", None),
        ("o/r/p/f1.py", None, "no-content: null"),
        ("o/r/p/f4.py", None, "too-large: 100 bytes"),
        ("o/r/p/f5.py", "é" * 5, None),
        ("o/r/p/f6.py", "", None),
    ]


def test_contents_in_bytes_are_rejected_row_by_row(tmp_path: Path) -> None:
    contents = [b"a\n", b"ok \xff", None, b"", b"cut \xc3", "é".encode(), b"\xff" * 50]
    found = read(
        source(write(tmp_path / "a.parquet", [v1(n, content=c) for n, c in enumerate(contents)])), max_file_bytes=20
    )
    assert [(row["content"], row["damage"]) for row in found] == [
        ("a\n", None),
        (None, "not-utf8: byte 3: invalid start byte"),
        (None, "no-content: null"),
        ("", None),
        (None, "not-utf8: byte 4: unexpected end of data"),
        ("é", None),
        (None, "too-large: 50 bytes"),
    ]


def test_stored_values_of_other_types_are_taken_where_they_can_be(tmp_path: Path) -> None:
    rows = [v1(0, size="6", max_line_length=5.0, avg_line_length=5, hexsha=3, max_stars_count=float("nan"))]
    row = read(source(write(tmp_path / "a.parquet", rows)))[0]
    assert (row["stored_size"], row["stored_max_line_length"], row["stored_avg_line_length"]) == (6, 5, 5.0)
    assert (row["stored_hexsha"], row["max_stars_count"]) == ("3", None)
    odd = [v1(0, size=["6"], max_line_length="many", hexsha={"a": 1}, max_stars_repo_licenses=[1], is_vendor="yes")]
    row = read(source(write(tmp_path / "b.parquet", odd)))[0]
    assert [row[name] for name in ("stored_size", "stored_max_line_length", "stored_hexsha", "is_vendor")] == [None] * 4
    assert (row["licences"], row["max_stars_repo_licenses"]) == ([], None)


def test_files_of_a_folder_may_differ_in_columns_and_form(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [v1(0)])
    write(tmp_path / "b.parquet", [v1(1, size=9, max_stars_repo_licenses="ISC")])
    write(tmp_path / "c" / "c.parquet", [v2()])
    write(tmp_path / "d.parquet", V3)
    write(tmp_path / "e.parquet", [v1(2, content=b"bytes")])
    write(tmp_path / "_partial" / "x.parquet", [v1(3)])
    (tmp_path / ".hidden.parquet").write_bytes(b"not this one")
    table = source(tmp_path)
    assert [Path(path).name for path in files_of(table)] == [
        "a.parquet",
        "b.parquet",
        "c.parquet",
        "d.parquet",
        "e.parquet",
    ]
    found = read(table)
    assert {(row["key"], row["stored_size"], *row["licences"]) for row in found} == {
        ("o/r/p/f0.py", None, "MIT"),
        ("o/r/p/f1.py", 9, "ISC"),
        ("o/r/src/a.cc", 4, "MIT", "Apache-2.0"),
        ("o/r/a.py", 2, "ISC"),
        ("o/r/c.h", 2),
        ("o/r/p/f2.py", None, "MIT"),
    }


def test_scans_hold_every_row_once_and_are_bounded(tmp_path: Path) -> None:
    rows = [v1(number, content=f"{number}" * 2**20) for number in range(9)]
    write(tmp_path / "a.parquet", rows, row_group_size=1)
    write(tmp_path / "b.parquet", [v1(9)])
    table = source(tmp_path)
    parts = scans(table, 4 * 2**20)
    assert len(parts) >= 3
    keys = [row["key"] for part in parts for row in read_scan(table, part, [PYTHON]).select("key").to_pylist()]
    assert sorted(keys) == sorted(f"o/r/p/f{number}.py" for number in range(10))
    assert len(scans(table)) == 1


def test_paths_are_taken_by_the_letter(tmp_path: Path) -> None:
    write(tmp_path / "x[1] #%41" / "a b*?.parquet", [v1()])
    write(tmp_path / "x1 #%41" / "a bcd.parquet", [v1(1)])
    assert [row["content"] for row in read(source(tmp_path / "x[1] #%41"))] == ["a = 0\n"]


def test_tables_without_rows(tmp_path: Path) -> None:
    schema = pa.Table.from_pylist([v1()]).schema
    assert read(source(write(tmp_path / "a.parquet", [], schema))) == []
    (tmp_path / "a.jsonl").write_bytes(b"")
    assert read(source(tmp_path, "jsonl")) == []
    assert read_table(source(tmp_path, "jsonl"), [PYTHON]).column_names == GATHERED_SCHEMA.names


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"a": 1, "b": 2},
            r"no column for the package and the path and the content.*\n.*: a, b\n(?s:.*)Stack v1(?s:.*)v2(?s:.*)v3",
        ),
        ({"repo_name": "o/r", "path": "a", "blob_id": "x"}, r"the content of a file\n(?s:.*)join the contents"),
        (v1(content=5), r"content cannot be the content of a file\n.*Int64"),
        (v1(max_stars_repo_name=["o"]), r"max_stars_repo_name cannot be the package"),
        ({"repo_path": "o/r", "files": ["a.py"]}, "the path and the content"),
        ({"repo_path": "o/r", "files": [{"file_path": "a", "content_id": "x"}]}, "the content of a file"),
    ],
)
def test_columns_that_are_not_understood_are_refused(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(source(write(tmp_path / "a.parquet", [row])))


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([v1()])
    pq.write_table(table.append_column("content", pa.array(["other"])), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"two columns of one name\n.*a.parquet: content"):
        read(source(tmp_path))


def _cut(data: bytes) -> bytes:
    return data[:-30]


def _empty(_: bytes) -> bytes:
    return b""


def _foreign(_: bytes) -> bytes:
    return b"this is no table at all, but it is long enough to be one"


def _bad_page(data: bytes) -> bytes:
    return data[:4] + b"\xff" * 40 + data[44:]


def _bad_middle(data: bytes) -> bytes:
    return data[:2000] + bytes(range(200)) + data[2200:]


@pytest.mark.parametrize("damage", [_cut, _empty, _foreign, _bad_page, _bad_middle])
@pytest.mark.parametrize("compression", ["zstd", "snappy"])
def test_a_damaged_parquet_file_is_named(tmp_path: Path, damage: Callable[[bytes], bytes], compression: str) -> None:
    write(tmp_path / "sound.parquet", [v1()])
    rows = [v1(number, content="".join(chr(97 + (number * place) % 26) for place in range(99))) for number in range(99)]
    path = write(tmp_path / "bad.parquet", rows, compression=compression)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"damaged\n.*bad\.parquet: \S+"):
        read(source(tmp_path))


def test_text_that_is_not_utf8_in_parquet_is_one_error(tmp_path: Path) -> None:
    raw = pa.array([b"ok", b"\xff\xfe"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    table = pa.Table.from_pylist([v1(0), v1(1)])
    pq.write_table(table.set_column(0, "content", text), tmp_path / "bad.parquet")
    with pytest.raises(InputError, match=r"not UTF-8\n.*bad\.parquet(?s:.*)column of bytes"):
        read(source(tmp_path))


GOOD_LINE = json.dumps(v1()).encode() + b"\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (GOOD_LINE + b"not json\n", r"line 2: "),
        (GOOD_LINE * 30_000 + b'{"content": \n' + GOOD_LINE, r"line 30001: "),
        (GOOD_LINE * 30_000 + b"[1]\n" + GOOD_LINE, r"line 30001 is no JSON object"),
        (GOOD_LINE + b"\n", r"line 2 is no JSON object"),
        (GOOD_LINE + b'{"content": "\xff"}\n', r"line 2: .*utf-8"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(GOOD_LINE)
    (tmp_path / "bad.jsonl").write_bytes(data)
    with pytest.raises(InputError, match=r"damaged\n.*bad\.jsonl: " + message):
        read(source(tmp_path, "jsonl"))


def test_packed_json_lines_that_end_too_early_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl.gz").write_bytes(gzip.compress(GOOD_LINE * 1000)[:-20])
    with pytest.raises(InputError, match=r"damaged\n.*bad\.jsonl\.gz: "):
        read(source(tmp_path, "jsonl"))


def test_missing_and_empty_places_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        read(source(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"no table is there(?s:.*)\*\.parquet"):
        read(source(tmp_path))
    with pytest.raises(InputError, match=r"cannot be read from there(?s:.*)s3://"):
        read(source("ftp://host/a.parquet"))


def test_a_file_that_goes_away_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [v1()])
    table = source(path)
    frame = read_table(table, [PYTHON])
    path.unlink()
    with pytest.raises(InputError, match=r"no such file\n.*a\.parquet"), told(table):
        frame.to_arrow()


class PanicException(BaseException):
    """As PyO3 makes it."""


def test_what_no_table_is_to_blame_for_passes(tmp_path: Path) -> None:
    table = source(write(tmp_path / "a.parquet", [v1()]))

    def faulty(keys: Series) -> pa.Array:
        raise ZeroDivisionError(f"ours, {len(keys)}")

    with pytest.raises(ZeroDivisionError, match="ours"), told(table):
        read_table(table, [PYTHON]).select(batch_function(faulty, DataType.int64())(col("key"))).to_arrow()
    with pytest.raises(PanicException), told(table):
        raise PanicException("a sound table")
    (tmp_path / "a.parquet").write_bytes(b"")
    with pytest.raises(InputError, match="damaged"), told(table):
        raise PanicException("a damaged one")


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(8)), cut=st.integers(1, 7), group=st.integers(1, 8))
def test_a_digest_is_of_the_rows_alone(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], cut: int, group: int
) -> None:
    folder = tmp_path_factory.mktemp("digest")
    rows = [v1(number // 2) for number in range(8)]
    write(folder / "one" / "a.parquet", rows)
    mixed = [rows[number] for number in order]
    write(folder / "two" / "z" / "1.parquet", mixed[:cut], row_group_size=group, compression="zstd")
    write(folder / "two" / "b.parquet", [{**row, "size": None, "more": 1} for row in mixed[cut:]])
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in mixed))
    digest = table_digest(source(folder / "one"))
    assert table_digest(source(folder / "two")) == digest
    assert table_digest(source(folder / "a.jsonl", "jsonl")) == digest
    write(folder / "one" / "b.parquet", rows[:1])
    assert table_digest(source(folder / "one")) != digest


@pytest.mark.parametrize(
    "changed",
    [
        {"content": "a = 1\n"},
        {"content": None},
        {"lang": "Java"},
        {"max_stars_repo_path": "p/f1.py"},
        {"max_stars_repo_licenses": ["MIT", "ISC"]},
        {"max_stars_repo_licenses": []},
        {"max_stars_count": None},
        {"size": 5},
        {"is_generated": True},
    ],
)
def test_a_digest_tells_every_change(tmp_path: Path, changed: dict[str, Any]) -> None:
    rows = [{**v1(0), "size": 6, "is_generated": None}, {**v1(2), "size": 6, "is_generated": False}]
    before = table_digest(source(write(tmp_path / "a.parquet", rows)))
    after = table_digest(source(write(tmp_path / "b.parquet", [{**rows[0], **changed}, rows[1]])))
    assert before != after


class Bucket(BaseHTTPRequestHandler):
    """As much of S3 as reading takes: listing, HEAD, and GET of ranges."""

    root: ClassVar[Path]
    asked: ClassVar[list[str]]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        type(self).asked.append(f"{self.command} {url.path}")
        path = self.root / unquote(url.path).lstrip("/")
        if path.is_dir() or "list-type" in url.query:
            self._send(200, self._listing(parse_qs(url.query)).encode(), "application/xml")
        elif not path.is_file():
            self._send(404, b"", "application/xml")
        elif wanted := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")):
            data, (start, end) = path.read_bytes(), wanted.groups()
            first, last = (int(start), int(end or len(data) - 1)) if start else (len(data) - int(end), len(data) - 1)
            some = data[first : last + 1]
            self._send(206, some, "binary/octet-stream", f"bytes {first}-{first + len(some) - 1}/{len(data)}")
        else:
            self._send(200, path.read_bytes(), "binary/octet-stream")

    def _listing(self, query: dict[str, list[str]]) -> str:
        prefix = query.get("prefix", [""])[0]
        files = sorted(path for path in (self.root / "bucket").rglob("*") if path.is_file())
        keys = {path.relative_to(self.root / "bucket").as_posix(): path.stat().st_size for path in files}
        inner = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size></Contents>"
            for key, size in keys.items()
            if key.startswith(prefix) and not ("delimiter" in query and "/" in key[len(prefix) :])
        )
        folders = {prefix + key[len(prefix) :].split("/")[0] + "/" for key in keys if "/" in key[len(prefix) :]}
        if "delimiter" in query:
            inner += "".join(f"<CommonPrefixes><Prefix>{one}</Prefix></CommonPrefixes>" for one in sorted(folders))
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{inner}</ListBucketResult>"

    def _send(self, status: int, body: bytes, kind: str, content_range: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keeps quiet."""


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    Bucket.root, Bucket.asked = tmp_path, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ROLE_ARN"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path / "bucket"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_table_in_a_bucket(bucket: Path) -> None:
    write(bucket / "data" / "python" / "a.parquet", [v1(0), v1(1, lang="Java")])
    write(bucket / "data" / "python" / "b.parquet", [v1(2)])
    table = source("s3://bucket/data")
    assert files_of(table) == ["s3://bucket/data/python/a.parquet", "s3://bucket/data/python/b.parquet"]
    assert [row["content"] for row in read(table)] == ["a = 0\n", "a = 2\n"]
    assert [row["content"] for row in read(source("s3://bucket/data/python/b.parquet"))] == ["a = 2\n"]
    before = table_digest(table)
    assert before == table_digest(table)
    write(bucket / "data" / "python" / "b.parquet", [v1(2), v1(3)])
    assert table_digest(table) != before
    (bucket / "data" / "python" / "b.parquet").write_bytes(b"no table, though it has the name of one")
    with pytest.raises(InputError, match=r"at the url cannot be read\n.*s3://bucket/data"):
        read(source("s3://bucket/data/python/b.parquet"))
    with pytest.raises(InputError, match=r"no table is there|cannot be read"):
        read(source("s3://bucket/elsewhere"))


def test_json_lines_in_a_bucket(bucket: Path) -> None:
    (bucket / "data").mkdir(parents=True)
    (bucket / "data" / "a.jsonl").write_bytes(GOOD_LINE)
    assert [row["key"] for row in read(source("s3://bucket/data", "jsonl"))] == ["o/r/p/f0.py"]


def test_a_table_on_the_hub_is_left_to_daft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = str(write(tmp_path / "a.parquet", [v1()]))
    asked: list[str] = []

    def glob(pattern: str, io_config: Any) -> daft.DataFrame:
        asked.append(f"{pattern} {io_config.hf.token}")
        return daft.from_pydict(
            {"path": ["hf://datasets/o/d/data/a.parquet", "hf://datasets/o/d/README"], "size": [9, 1]}
        )

    real = daft.read_parquet

    def parquet(path: str | list[str], io_config: Any, **options: Any) -> daft.DataFrame:
        assert io_config.hf.token
        asked.extend([path] if isinstance(path, str) else path)
        return real(local, **options)

    monkeypatch.setattr(daft, "from_glob_path", glob)
    monkeypatch.setattr(daft, "read_parquet", parquet)
    monkeypatch.setenv("HF_TOKEN", "a-token")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    table = source("hf://datasets/o/d")
    assert [row["key"] for row in read(table)] == ["o/r/p/f0.py"]
    assert asked == ["hf://datasets/o/d/** a-token", *["hf://datasets/o/d/data/a.parquet"] * 2]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=r"HF_HUB_OFFLINE is set(?s:.*)hf://datasets/o/d"):
        read(table)
