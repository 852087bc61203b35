"""`codechoir tune` on the finished run's model, killed on the way, and what it refuses."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file

SMALL = ("sequence_length=64", "steps=6", "validate_every=2", "validation_sequences=2", "checkpoint_seconds=0")
SET = [part for value in (*SMALL, "learning_rate=0.02") for part in ("--set", value)]


def test_killed_again_and_again_it_ends_as_if_it_had_not_been(codechoir, finished_run: Path, tmp_path: Path) -> None:
    given = ("tune", finished_run / "compose", "--documents", finished_run / "curate" / "documents")
    whole = codechoir(*given, "--out", tmp_path / "whole", *SET)
    assert whole.code == 0, whole.stderr
    facts = json.loads(whole.stdout)
    assert facts["experts"] == ["python", "javascript"]
    out, ends = tmp_path / "out", []
    for after in (6, 12, 18, 24, 10_000):
        ends.append(codechoir(*given, "--out", out, *SET, signal=(signal.SIGKILL, after, out)).code)
        if ends[-1] == 0:
            break
    assert ends[-1] == 0 and len(ends) > 3, ends
    weights = [load_file(folder / "model.safetensors") for folder in (out, tmp_path / "whole")]
    assert weights[0].keys() == weights[1].keys()
    assert all((tensor == weights[1][name]).all() for name, tensor in weights[0].items())
    found = json.loads((out / "manifest.json").read_text())["facts"]
    assert {key: value for key, value in found.items() if key != "tokens_per_second"} == {
        key: value for key, value in facts.items() if key != "tokens_per_second"
    }
    assert not [*out.glob(".*"), *out.glob("best-*"), *out.glob("resume*"), *out.glob("unfinished*")]


@pytest.mark.parametrize(
    ("model", "settings", "said"),
    [
        ("compose", ["top_k=3"], "more experts a token than there are"),
        ("compose", ["what=whole", "distillation=1"], "frozen experts"),
        ("compose", ["what=experts", "balance=switch"], "balance needs routers that move"),
        ("compose", ["what=attention"], "a value is not allowed"),
        ("compose", ["step=3"], "did you mean 'steps'"),
        ("train/python", [], "not a composed model"),
        ("nowhere", [], "not a composed model"),
    ],
)
def test_what_is_refused(
    codechoir, finished_run: Path, tmp_path: Path, model: str, settings: list[str], said: str
) -> None:
    documents = finished_run / "curate" / "documents"
    given = [part for value in settings for part in ("--set", value)]
    out = tmp_path / "out"
    assert said in codechoir("tune", finished_run / model, "--documents", documents, "--out", out, *given).refusal()
    assert not out.exists()


def test_text_that_is_missing(codechoir, finished_run: Path, tmp_path: Path) -> None:
    refused = codechoir("tune", finished_run / "compose", "--documents", tmp_path, "--out", tmp_path / "out", *SET)
    assert "no documents of this language" in refused.refusal()
