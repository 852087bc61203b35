"""What is found at a path, and that any completion can be read again by its number."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.evaluate.made import completion, problem_set, right

from codechoir.errors import InputError
from codechoir.evaluate.given import Completions, find
from codechoir.evaluate.ledger import problems_by_name
from codechoir.records import Completion, write_records

KNOWN = problems_by_name(problem_set())


def sheet(path: Path, problem: str, texts: list[str], **changes: object) -> None:
    known = KNOWN["python", problem]
    value = {"name": problem, "language": "py", "temperature": 0.2, "prompt": known.prompt, "tests": known.tests,
             "completions": texts} | changes  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(json.dumps(value).encode()))


def test_a_file_is_what_its_name_says(tmp_path: Path) -> None:
    for name, kind in (
        ("a.jsonl", "lines"),
        ("a.likelihood.jsonl", "likelihoods"),
        ("a.infill.jsonl", "infillings"),
        ("a.json.gz", "sheets"),
        ("a.json", "sheets"),
        ("a.txt", "lines"),
    ):
        (tmp_path / name).write_text("")
        found = find(tmp_path / name)
        held = {each: getattr(found, each) for each in ("lines", "likelihoods", "infillings", "sheets")}
        assert {each for each, files in held.items() if files} == {kind}, name
        assert held[kind] == (tmp_path / name,)


def test_generates_folder_is_told_from_multipl_es(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    write_records(ours / "base" / "python.jsonl", right())
    (ours / "base" / "model.json").write_text("{}")
    sheet(theirs / "humaneval-py-mine-0.2-reworded" / "P_0.json.gz", "P_0", ["x"])
    found = find(ours)
    assert found.is_generated and found.languages() == ["python"] and not found.sheets
    found = find(theirs)
    assert not found.is_generated and found.languages() == ["python"] and not found.lines


def test_nothing_to_read_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        find(tmp_path / "none")
    with pytest.raises(InputError, match="holds no completions"):
        find(tmp_path)


def test_the_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    write_records(tmp_path / "a" / "python.jsonl", right())
    first = find(tmp_path).digest
    assert find(tmp_path).digest == first
    write_records(tmp_path / "a" / "python.jsonl", right(3))
    second = find(tmp_path).digest
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, find(tmp_path).digest}) == 3


@given(st.lists(st.lists(st.text(), max_size=4), min_size=1, max_size=3), st.randoms())
def test_any_completion_is_read_again_by_its_number(tmp_path_factory, texts, random) -> None:
    root = tmp_path_factory.mktemp("numbers")
    for number, file in enumerate(texts):
        records = [completion("P_0", text, sample=n, model=f"m{number}") for n, text in enumerate(file)]
        write_records(root / f"m{number}" / "python.jsonl", records)
    completions = Completions(find(root), KNOWN)
    assert [each.text for each in completions] == [text for file in texts for text in file]
    every = list(completions)
    order = list(range(len(every)))
    random.shuffle(order)
    for position in order:
        assert completions[position] == every[position]
    completions.close()


def test_a_last_line_without_its_end_is_read_again_too(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(each.model_dump_json() for each in right()))
    completions = Completions(find(tmp_path / "a.jsonl"), KNOWN)
    assert list(completions) == right()
    assert completions[3] == right()[3]
    completions.close()


def test_multipl_es_files_are_read_again_too(tmp_path: Path) -> None:
    for number in range(3):
        sheet(tmp_path / "mine" / f"P_{number}.json.gz", f"P_{number}", [f"{number}a", f"{number}b"])
    completions = Completions(find(tmp_path), KNOWN)
    every = list(completions)
    assert [(each.problem, each.sample, each.text) for each in every][2:4] == [("P_1", 0, "1a"), ("P_1", 1, "1b")]
    assert [completions[position] for position in (5, 0, 3, 1, 4, 2)] == [every[n] for n in (5, 0, 3, 1, 4, 2)]
    completions.close()


@pytest.mark.parametrize("whose", [{"model": "soup"}, {"language": "java"}])
def test_a_file_that_holds_anothers_completions_is_stale(tmp_path: Path, whose: dict[str, str]) -> None:
    write_records(tmp_path / "base" / "python.jsonl", [*right(), completion("P_0", "", sample=1, **whose)])
    with pytest.raises(InputError, match=r"stale(.|\n)*python\.jsonl:5"):
        list(Completions(find(tmp_path), KNOWN))
    # anybody's one file may hold several
    found: list[Completion] = list(Completions(find(tmp_path / "base" / "python.jsonl"), KNOWN))
    assert len(found) == 5


def test_their_stale_and_empty_files_are_refused(tmp_path: Path) -> None:
    sheet(tmp_path / "a" / "P_0.json.gz", "P_0", ["x"], prompt="def other():\n")
    with pytest.raises(InputError, match="stale"):
        list(Completions(find(tmp_path / "a"), KNOWN))
    sheet(tmp_path / "b" / "P_0.json.gz", "P_0", [])
    with pytest.raises(InputError, match="holds no completions"):
        list(Completions(find(tmp_path / "b"), KNOWN))
