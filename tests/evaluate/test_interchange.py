"""MultiPL-E's files, as its scripts write and read them; the reader and the estimator here are the tests' own."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.evaluate.made import completion

from codechoir.errors import InputError
from codechoir.evaluate.interchange import (
    STATUSES,
    language_of,
    model_of,
    problem_files,
    program_of,
    read_completions,
    write_problem,
)
from codechoir.records import Completion, Problem, Status, Verdict

PROBLEM = Problem(name="P_1_f", language="python", prompt="def f():\n", tests="assert f()\n", stop_tokens=("\ndef",))
SHEET: dict[str, Any] = {
    "name": "P_1_f", "language": "py", "temperature": 0.8, "top_p": 0.95, "max_tokens": 512, "prompt": PROBLEM.prompt,
    "tests": PROBLEM.tests, "stop_tokens": ["\ndef"], "completions": ["    return 1", "    return 0"],
}  # fmt: skip


def write(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps(value).encode()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


def results(**changes: object) -> dict[str, Any]:
    """What MultiPL-E's evaluation makes of SHEET."""
    head = {key: value for key, value in SHEET.items() if key != "completions"}
    ended = [("OK", 0), ("Exception", 1)]
    return {
        **head,
        "results": [
            {"program": f"{PROBLEM.prompt}{text}\n{PROBLEM.tests}", "timestamp": 1, "stdout": "", "stderr": "",
             "exit_code": code, "status": status}
            for text, (status, code) in zip(SHEET["completions"], ended, strict=True)
        ],
    } | changes  # fmt: skip


@pytest.mark.parametrize("name", ["P_1_f.json.gz", "P_1_f.json", "P_1_f.results.json.gz", "P_1_f.results.json"])
def test_their_completions_and_results_are_read_alike(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "mine" / name, results() if ".results" in name else SHEET)
    found = read_completions(path, PROBLEM)
    assert [each.text for each in found] == SHEET["completions"]
    assert [(each.model, each.language, each.problem, each.temperature) for each in found] == [
        ("mine", "python", "P_1_f", 0.8)
    ] * 2
    assert [each.sample for each in found] == [0, 1]
    assert language_of(path) == "python"


@given(st.text(), st.text(), st.text())
def test_a_completion_is_found_in_its_results_program(
    tmp_path_factory: pytest.TempPathFactory, prompt: str, text: str, tests: str
) -> None:
    problem = Problem(name="P", language="python", prompt=prompt, tests=tests, stop_tokens=())
    file = {"name": "P", "language": "py", "prompt": prompt, "tests": tests, "temperature": 0.2}
    file["results"] = [{"program": program_of(problem, text)}]
    (found,) = read_completions(write(tmp_path_factory.getbasetemp() / "P.results.json", file), problem)
    assert found.text == text


@pytest.mark.parametrize(
    ("folder", "model"),
    [
        ("humaneval-py-santacoder-0.2-reworded", "santacoder"),
        ("mbpp-py-bigcode_15b_1000m-0.8-keep", "bigcode_15b_1000m"),
        ("some-model", "some-model"),
        ("some-model/py", "some-model"),
        ("some-model/python", "some-model"),
    ],
)
def test_the_model_is_what_the_folder_names(tmp_path: Path, folder: str, model: str) -> None:
    assert model_of(tmp_path / folder / "P.json.gz") == model


def test_results_are_left_where_their_completions_lie_beside_them(tmp_path: Path) -> None:
    for name in ("a/P.json.gz", "a/P.results.json.gz", "a/Q.results.json.gz", "b/P.results.json"):
        write(tmp_path / name, {})
    (tmp_path / "a" / "notes.txt").write_text("")
    found = [path.relative_to(tmp_path).as_posix() for path in problem_files(tmp_path)]
    assert found == ["a/P.json.gz", "a/Q.results.json.gz", "b/P.results.json"]


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("P.json.gz", cut(gzip.compress(json.dumps(SHEET).encode(), mtime=0)), "damaged"),
        ("P.json.gz", json.dumps(SHEET).encode(), "damaged"),
        ("P.json", gzip.compress(b"{}", mtime=0), "damaged"),
        ("P.json", b"{", "damaged"),
        ("P.json", b"", "damaged"),
        ("P.json", b"[" * 100_000, "damaged"),
        ("P.json", b"[]", "not a file of MultiPL-E's"),
        ("P.json", b"{}", "name: Field required"),
        ("P.json", json.dumps({**SHEET, "completions": None}).encode(), "neither completions nor results"),
        ("P.json", json.dumps({**SHEET, "completions": "text"}).encode(), "completions: Input should be"),
        ("P.json", json.dumps({**SHEET, "completions": [1]}).encode(), "completions.0"),
        ("P.json", json.dumps({**SHEET, "temperature": "hot"}).encode(), "temperature"),
        ("P.json", json.dumps({**SHEET, "language": "klingon"}).encode(), "language is unknown"),
        ("P.results.json", json.dumps(results(results=[{"status": "OK"}])).encode(), "results.0.program"),
        ("P.results.json", json.dumps(results(results=[{"program": "other"}])).encode(), "result 0"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_message(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as refused:
        read_completions(tmp_path / name)
    assert said in str(refused.value) and str(tmp_path / name) in str(refused.value)


def test_a_missing_file_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_completions(tmp_path / "P.json.gz")


@pytest.mark.parametrize("part", ["prompt", "tests"])
def test_completions_of_another_version_of_the_problem_are_stale(tmp_path: Path, part: str) -> None:
    path = write(tmp_path / "P_1_f.json.gz", SHEET | {part: SHEET[part].replace("f", "g")})
    assert len(read_completions(path)) == 2
    with pytest.raises(InputError, match=f"stale(.|\n)*P_1_f's {part}"):
        read_completions(path, PROBLEM)


def verdict(each: Completion, status: Status) -> Verdict:
    return Verdict(
        model=each.model, language=each.language, problem=each.problem, sample=each.sample,
        temperature=each.temperature, status=status, exit_code=None if status is Status.TIME_OUT else 0, signal=None,
        cpu_seconds=0, wall_seconds=0, memory_mib=1, output=f"said {each.sample}", attempts=1, toolchain="", sandbox="",
        problems="",
    )  # fmt: skip


def test_what_is_written_is_read_back_and_has_their_fields(tmp_path: Path) -> None:
    completions = [completion("P_1_f", text, sample=n, temperature=0.8) for n, text in enumerate(("a", "é\n", ""))]
    ended = (Status.PASSED, Status.RUNTIME_ERROR, Status.TIME_OUT)
    verdicts = [verdict(each, status) for each, status in zip(completions, ended, strict=True)]
    folder = tmp_path / "base" / "python"
    write_problem(folder, PROBLEM, completions, verdicts, 77)
    sheet, found = (
        json.loads(gzip.decompress((folder / f"P_1_f{kind}.json.gz").read_bytes())) for kind in ("", ".results")
    )
    assert sheet.keys() == SHEET.keys()
    assert found.keys() == results().keys()
    assert (sheet["language"], sheet["temperature"], sheet["completions"]) == ("py", 0.8, ["a", "é\n", ""])
    assert [each.keys() for each in found["results"]] == [results()["results"][0].keys()] * 3
    assert [(each["status"], each["exit_code"], each["stdout"], each["timestamp"]) for each in found["results"]] == [
        ("OK", 0, "said 0", 77), ("Exception", 0, "said 1", 77), ("Timeout", -1, "said 2", 77)
    ]  # fmt: skip
    for kind in ("", ".results"):
        back = read_completions(folder / f"P_1_f{kind}.json.gz", PROBLEM)
        assert [(each.model, each.text, each.sample) for each in back] == [
            (each.model, each.text, each.sample) for each in completions
        ]


def test_every_status_but_a_harness_error_has_a_word_and_only_a_pass_is_ok() -> None:
    assert set(STATUSES) == set(Status) - {Status.HARNESS_ERROR}
    assert [status for status, word in STATUSES.items() if word == "OK"] == [Status.PASSED]
    assert set(STATUSES.values()) == {"OK", "Exception", "SyntaxError", "Timeout"}


def test_a_hostile_problem_name_stays_in_its_folder(tmp_path: Path) -> None:
    problem = PROBLEM.model_copy(update={"name": "../../up"})
    one = completion("../../up", "x")
    write_problem(tmp_path / "m" / "py", problem, [one], [verdict(one, Status.PASSED)], 1)
    assert [path.parent for path in tmp_path.rglob("*.gz")] == [tmp_path / "m" / "py"] * 2
