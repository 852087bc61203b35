"""`codechoir expert` on the finished run's model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SMALL = ("--set", "sequence_length=128", "--set", "fit_sequences=8", "--set", "prompt_documents=20")


@pytest.fixture
def third(finished_run: Path, vary, tmp_path: Path) -> Path:
    """Another expert."""
    return vary(finished_run / "train" / "python", tmp_path / "third", 4)


def test_an_expert_joins_and_another_leaves(codechoir, finished_run: Path, third: Path, tmp_path: Path) -> None:
    model, larger, smaller = finished_run / "compose", tmp_path / "larger", tmp_path / "smaller"
    added = codechoir("expert", "add", model, f"ts={third}", "--out", larger)
    assert added.code == 0, added.stderr
    facts = json.loads(added.stdout)
    assert (facts["change"], facts["experts"]) == ("add", ["python", "javascript", "typescript"])
    assert "does not know typescript" in added.stderr
    assert facts["proofs"]["fixed_route"]["typescript"]["max_abs_difference"] == 0
    documents = finished_run / "curate" / "documents"
    dropped = codechoir("expert", "drop", larger, "typescript", "--documents", documents, "--out", smaller, *SMALL)
    assert dropped.code == 0, dropped.stderr
    facts = json.loads(dropped.stdout)
    assert facts["retention"]["python"]["tokens"] > 0
    assert facts["prompt_router"]["how"] == "refitted on documents of all languages"
    before, after = (load_file(folder / "model.safetensors") for folder in (model, smaller))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        if "gate" not in name:
            assert torch.equal(after[name], tensor), name
    (smaller / "manifest.json").stat()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["drop", "MODEL", "python"], "at least two experts"),
        (["drop", "MODEL", "rust"], "the model has no such expert"),
        (["add", "MODEL", "python=/nowhere"], "the model already has this expert"),
        (["add", "MODEL", "rust=/nowhere"], "no such model folder"),
        (["add", "MODEL", "rust"], "an expert is LANG=PATH"),
        (["add", "MODEL", "rust=/nowhere", "--set", "top_k=1"], "the composed model decides this"),
        (["drop", "/nowhere", "rust"], "no such model folder"),
    ],
)
def test_what_is_refused(codechoir, finished_run: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    given = [finished_run / "compose" if each == "MODEL" else each for each in arguments]
    assert said in codechoir("expert", *given, "--out", tmp_path / "out").refusal()
    assert not (tmp_path / "out").exists()
