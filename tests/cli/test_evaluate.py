"""`codechoir evaluate` on completions from anywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codechoir.records import Completion, write_records


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


def test_what_is_refused(codechoir, completions: Path, problems: Path, tmp_path: Path) -> None:
    def refused(completions: Path, problems: object, *more: object, hidden: tuple[str, ...] = ()) -> str:
        arguments = ("--completions", completions, "--problems", problems, "--out", tmp_path / "out")
        message = codechoir("evaluate", *arguments, *more, hidden=hidden).refusal()
        assert not (tmp_path / "out" / "manifest.json").exists()
        return message

    assert refused(tmp_path / "none.jsonl", problems).startswith("no such file")
    assert refused(completions, tmp_path / "none").startswith("no such folder of problems")
    assert "did you mean 'resamples'" in refused(completions, problems, "--set", "resample=100")
    assert refused(completions, problems, hidden=("bwrap",)).startswith("bubblewrap is needed")
    assert "missing: node" in refused(completions, problems, hidden=("node",))
    broken = tmp_path / "broken.jsonl"
    broken.write_text(completions.read_text() + '{"model": "mine"}\n')
    assert f"{broken}:5" in refused(broken, problems)
