"""`codechoir export` of the finished run's composed model."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import AutoModelForCausalLM


def test_it_prints_the_figures_and_others_load_it(codechoir, finished_run: Path, tmp_path: Path) -> None:
    model, out = finished_run / "compose", tmp_path / "out"
    done = codechoir("export", model, "--format", "mixtral", "--out", out)
    assert done.code == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["logits"]["relative"] < 1e-5
    assert type(AutoModelForCausalLM.from_pretrained(out)).__name__ == "MixtralForCausalLM"
    card = (out / "README.md").read_text()
    assert "python, javascript" in card and "## Scores" in card and "| universal |" in card


def test_gguf_on_a_text_of_ones_own(codechoir, finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "text.py").write_text("def f(x):\n    return x\n")
    model, out = finished_run / "compose", tmp_path / "out"
    given = ("--format", "gguf", "--quantise", "q8_0", "--text", tmp_path / "text.py")
    done = codechoir("export", model, *given, "--out", out)
    assert done.code == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["logits"]["tokens"] == 23
    assert (out / "model-q8_0.gguf").is_file()


def test_a_disk_that_fills_leaves_no_model(codechoir, finished_run: Path, tmp_path: Path) -> None:
    model, out = finished_run / "compose", tmp_path / "out"
    limit = (model / "model.safetensors").stat().st_size // 4
    for target in ("mixtral", "gguf"):
        message = codechoir("export", model, "--format", target, "--out", out, file_limit=limit).refusal()
        assert message.startswith("the disk is full")
        assert [path.name for path in out.iterdir()] == ["unfinished.json"]


def test_what_does_not_go_together_is_told(codechoir, finished_run: Path, tmp_path: Path) -> None:
    model, out = finished_run / "compose", ("--out", tmp_path / "out")
    message = codechoir("export", model, "--format", "qwen2_moe", *out).refusal()
    assert "cannot be exported as qwen2_moe" in message and "llama, not qwen2" in message
    message = codechoir("export", model, "--format", "dense", *out).refusal()
    assert "name the expert" in message and "python, javascript" in message
    assert "only gguf" in codechoir("export", model, "--format", "hf", "--quantise", "f16", *out).refusal()
    given = ("--format", "hf", "--scores", finished_run / "compose" / "manifest.json")
    assert "not a file of scores" in codechoir("export", model, *given, *out).refusal()
    (tmp_path / "empty").write_text(" \n")
    given = ("--format", "mixtral", "--text", tmp_path / "empty")
    assert "the text is empty" in codechoir("export", model, *given, *out).refusal()
    assert not (tmp_path / "out").exists()
    message = codechoir("export", tmp_path, "--format", "hf", *out).refusal()
    assert str(tmp_path) in message
    message = codechoir("export", model, "--format", "mixtral", "--out", finished_run / "train" / "trunk").refusal()
    assert "holds other files" in message
