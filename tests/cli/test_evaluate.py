"""`codechoir evaluate` on completions from anywhere."""

from __future__ import annotations

import gzip
import json
import signal
from pathlib import Path

import pytest

from codechoir.records import Completion, Infilling, write_records


def completion(model: str, language: str, problem: str, text: str) -> Completion:
    return Completion(
        model=model, language=language, problem=problem, sample=0, seed=0, temperature=0.0, text=text, finish="stop",
        num_tokens=1,
    )  # fmt: skip


@pytest.fixture
def completions(tmp_path: Path) -> Path:
    """A model that solves one of two Python problems and both in JavaScript."""
    records = [
        completion("mine", "python", "one", " a comment"),
        completion("mine", "python", "two", "3"),
        completion("mine", "javascript", "one", " a comment"),
        completion("mine", "javascript", "two", "2"),
    ]
    write_records(tmp_path / "completions.jsonl", records)
    return tmp_path / "completions.jsonl"


def test_pass_rates(codechoir, completions: Path, problems: Path, tmp_path: Path) -> None:
    arguments = ("evaluate", "--completions", completions, "--problems", problems, "--out", tmp_path / "out")
    done = codechoir(*arguments, "--set", "resamples=100")
    assert done.code == 0, done.stderr
    found = {(score["language"], score["metric"]): score["value"] for score in json.loads(done.stdout)["scores"]}
    assert found["python", "pass@1"] == 0.5
    assert found["javascript", "pass@1"] == 1.0
    assert json.loads((tmp_path / "out" / "scores.json").read_text()) == json.loads(done.stdout)
    again = codechoir(*arguments, "--set", "resamples=100")
    assert (again.stdout, again.stderr) == (done.stdout, "")
    # what was written for MultiPL-E's users is itself anybody's completions
    theirs = ("--completions", tmp_path / "out" / "multipl-e", "--problems", problems, "--out", tmp_path / "theirs")
    done = codechoir("evaluate", *theirs, "--set", "resamples=100")
    assert {(each["model"], each["language"]): each["value"] for each in json.loads(done.stdout)["scores"]} == {
        ("mine", "python"): 0.5, ("mine", "javascript"): 1.0, ("mine", "mean"): 0.75
    }, done.stderr  # fmt: skip


@pytest.mark.parametrize("after", [12, 17, 20, 34])
def test_killed_and_taken_up_again(codechoir, completions: Path, problems: Path, tmp_path: Path, after: int) -> None:
    """kill -9 at some touch of the folder of results: no verdict is lost, and none is there twice."""
    out = tmp_path / "out"
    arguments = ("evaluate", "--completions", completions, "--problems", problems, "--out", out)
    killed = codechoir(*arguments, signal=(signal.SIGKILL, after, out))
    assert killed.code == -signal.SIGKILL and not (out / "manifest.json").exists()
    before = {path: path.read_text() for path in out.glob("mine/*.jsonl")}
    done = codechoir(*arguments)
    assert done.code == 0, done.stderr
    for language in ("python", "javascript"):
        lines = (out / "mine" / f"{language}.jsonl").read_text()
        assert sorted(json.loads(line)["problem"] for line in lines.splitlines()) == ["one", "two"]
        whole, _, _ = before.get(out / "mine" / f"{language}.jsonl", "").rpartition("\n")
        assert lines.startswith(whole)  # what was judged before the kill stands as it was


def test_without_walls_only_where_it_is_asked_for(codechoir, completions: Path, problems: Path, tmp_path: Path) -> None:
    arguments = ("evaluate", "--completions", completions, "--problems", problems, "--out", tmp_path / "out")
    assert codechoir(*arguments, hidden=("bwrap",)).refusal().startswith("bubblewrap is needed")
    done = codechoir(*arguments, "--unsafe-no-sandbox", hidden=("bwrap",))
    assert done.code == 0, done.stderr
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["facts"]["sandbox"] == "none"


def test_infillings_and_log_likelihoods_need_no_problems(codechoir, tmp_path: Path) -> None:
    gaps = [
        Infilling(
            model="mine", language="python", key=str(number), package="p", mode="psm", expected="x = 1",
            text=" x = 1\n" if number else "y", num_tokens=3,
        )
        for number in range(4)
    ]  # fmt: skip
    write_records(tmp_path / "mine.infill.jsonl", gaps)
    done = codechoir("evaluate", "--completions", tmp_path / "mine.infill.jsonl", "--out", tmp_path / "out")
    (score, _mean) = json.loads(done.stdout)["scores"]
    assert (score["metric"], score["value"], score["count"]) == ("infill_exact_match", 0.75, 4)


def test_what_is_refused(codechoir, completions: Path, problems: Path, tmp_path: Path) -> None:
    def refused(completions: Path, problems: object, *more: object, hidden: tuple[str, ...] = ()) -> str:
        arguments = ("--completions", completions, "--problems", problems, "--out", tmp_path / "out")
        message = codechoir("evaluate", *arguments, *more, hidden=hidden).refusal()
        assert not (tmp_path / "out" / "manifest.json").exists()
        return message

    assert refused(tmp_path / "none.jsonl", problems).startswith("no such file")
    assert refused(completions, tmp_path / "none").startswith("no such folder of problems")
    assert "did you mean 'resamples'" in refused(completions, problems, "--set", "resample=100")
    assert "missing: node" in refused(completions, problems, hidden=("node",))
    broken = tmp_path / "broken.jsonl"
    broken.write_text(completions.read_text() + '{"model": "mine"}\n')
    assert f"{broken}:5" in refused(broken, problems)
    torn = tmp_path / "torn.json.gz"
    torn.write_bytes(gzip.compress(b"{}" * 100)[:20])
    assert refused(torn, problems).startswith("the file is damaged")
    message = codechoir("evaluate", "--completions", completions, "--out", tmp_path / "out").refusal()
    assert "give them with --problems" in message
