"""`codechoir compose` on the finished run's experts, and on what does not fit together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from codechoir.model.config import RandomBase
from codechoir.model.sources import prepare

SETTINGS = ("fit_sequences=8", "calibration_sequences=2", "sequence_length=128", "prompt_documents=20")


@pytest.fixture
def arguments(finished_run: Path, tmp_path: Path) -> list[object]:
    """All but the experts."""
    documents = finished_run / "curate" / "documents"
    values = [part for value in SETTINGS for part in ("--set", value)]
    base = finished_run / "train" / "trunk"
    return ["compose", "--base", base, "--documents", documents, "--out", tmp_path / "out", *values]


def experts(run: Path, **others: Path) -> list[str]:
    folders = {name: run / "train" / name for name in ("python", "javascript")} | others
    return [part for name, folder in folders.items() for part in ("--expert", f"{name}={folder}")]


def test_it_is_the_runs_own_stage(codechoir, arguments: list[object], finished_run: Path, tmp_path: Path) -> None:
    done = codechoir(*arguments, *experts(finished_run))
    assert done.code == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["experts"] == ["python", "javascript"]
    assert facts["proofs"]["fixed_route"]["python"]["max_abs_difference"] == 0
    assert facts["proofs"]["identical_experts"]["relative"] < 1e-5
    for name in ("model.safetensors", "routing.safetensors", "routing.json", "config.json", "tokenizer.json"):
        assert (tmp_path / "out" / name).read_bytes() == (finished_run / "compose" / name).read_bytes(), name
    again = codechoir(*arguments, *experts(finished_run))
    assert (again.code, json.loads(again.stdout), again.stderr) == (0, facts, "")


def test_a_dry_run_tells_what_the_run_then_does(codechoir, arguments: list[object], finished_run, tmp_path) -> None:
    told = codechoir(*arguments, *experts(finished_run), "--dry-run", "--json")
    assert (told.code, told.stderr) == (0, "")
    assert not (tmp_path / "out").exists()
    plan = json.loads(told.stdout)
    facts = json.loads(codechoir(*arguments, *experts(finished_run)).stdout)
    assert {key: plan[key] for key in ("total_parameters", "active_parameters")} == {
        key: facts[key] for key in ("total_parameters", "active_parameters")
    }
    assert {"name": plan["form"], "why": plan["why"]} == facts["form"]
    sources = [finished_run / "train" / name / "model.safetensors" for name in ("trunk", "python", "javascript")]
    assert {each["file"]: each["bytes"] for each in plan["reads"]} == {
        str(path): path.stat().st_size for path in sources
    }
    for each in plan["writes"]:  # headers are not counted
        size = Path(each["file"]).stat().st_size
        assert each["bytes"] <= size <= each["bytes"] + 20_000, each
    assert any(each["file"].endswith("moments.safetensors") for each in plan["writes"])
    assert plan["memory_to_load"]["as_stored"] == plan["writes"][0]["bytes"]
    assert plan["memory_to_load"]["float32"] == 4 * plan["total_parameters"]


def test_a_dry_run_in_words(codechoir, arguments: list[object], finished_run, tmp_path) -> None:
    told = codechoir(*arguments, *experts(finished_run), "--dry-run", "--layers", "1", "--generalist")
    assert told.code == 0, told.stderr
    assert "codechoir_moe: Mixtral has experts in every layer, here 1 of 2 have them" in told.stdout
    assert "generalist: base in" in told.stdout
    assert "in all" in told.stdout and "parameters" in told.stdout
    assert not (tmp_path / "out").exists()


def test_without_documents_no_router_is_fitted_and_that_is_said(codechoir, finished_run, tmp_path) -> None:
    base = finished_run / "train" / "trunk"
    done = codechoir("compose", "--base", base, *experts(finished_run), "--out", tmp_path / "out")
    assert done.code == 0
    assert "no routers are fitted" in done.stderr
    facts = json.loads(done.stdout)
    assert facts["proofs"]["fixed_route"]["javascript"]["max_abs_difference"] == 0
    assert "token_router" not in facts


def test_a_disk_that_fills_leaves_no_model(codechoir, arguments: list[object], finished_run, tmp_path) -> None:
    whole = (finished_run / "compose" / "model.safetensors").stat().st_size
    message = codechoir(*arguments, *experts(finished_run), file_limit=whole - 1000).refusal()
    assert message.startswith("the disk is full")
    assert str(tmp_path / "out") in message
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {"unfinished.json"}
    assert codechoir(*arguments, *experts(finished_run)).code == 0


def test_drifted_experts_are_refused_unless_a_policy_is_named(
    codechoir, arguments, finished_run, vary, tmp_path
) -> None:
    drifted = vary(finished_run / "train" / "python", tmp_path / "python", 1, lambda name: name == "model.norm.weight")
    given = [*arguments, *experts(finished_run, python=drifted)]
    message = codechoir(*given).refusal()
    assert "model.norm.weight" in message and str(drifted) in message and "--" not in message.splitlines()[0]
    facts = json.loads(codechoir(*given, "--shared", "mean").stdout)
    assert set(facts["drift"]["tensors"]) == {"model.norm.weight"}


@pytest.fixture
def other_model(tmp_path: Path) -> Path:
    """An expert of three layers."""
    return prepare(RandomBase(layers=3), tmp_path / "cache").folder


@pytest.fixture
def other_vocabulary(finished_run: Path, tmp_path: Path) -> Path:
    """An expert whose tokenizer numbers two tokens the other way round."""
    folder = Path(shutil.copytree(finished_run / "train" / "python", tmp_path / "vocabulary"))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


def test_an_expert_of_another_architecture(codechoir, arguments, finished_run, tmp_path, other_model) -> None:
    message = codechoir(*arguments, *experts(finished_run, python=other_model)).refusal()
    assert message.startswith("the python expert is of another architecture than the base")
    assert "num_hidden_layers 3" in message and "num_hidden_layers 2" in message
    assert not (tmp_path / "out").exists()


def test_an_expert_of_another_vocabulary(codechoir, arguments, finished_run, tmp_path, other_vocabulary) -> None:
    message = codechoir(*arguments, *experts(finished_run, python=other_vocabulary)).refusal()
    assert message.startswith("the python expert has another vocabulary than the base")
    assert not (tmp_path / "out").exists()


def test_a_truncated_expert(codechoir, arguments, finished_run, tmp_path) -> None:
    folder = Path(shutil.copytree(finished_run / "train" / "python", tmp_path / "truncated"))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    message = codechoir(*arguments, *experts(finished_run, python=folder)).refusal()
    assert message.startswith("the weights file is damaged")
    assert str(weights) in message


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--expert", "python=/nowhere", "--expert", "cpp=/nowhere"], "no such model folder"),
        (["--expert", "python"], "an expert is LANG=PATH"),
        (["--expert", "python="], "an expert is LANG=PATH"),
        (["--expert", "cobol=/nowhere"], "unknown language"),
        (["--expert", "python=/nowhere", "--expert", "Python=/nowhere"], "a language is named twice"),
        (["--set", "topk=1"], "unknown key"),
        ([], "at least two experts"),
    ],
)
def test_what_is_refused(codechoir, arguments: list[object], given: list[str], said: str, tmp_path: Path) -> None:
    assert said in codechoir(*arguments, *given).refusal()
    assert not (tmp_path / "out").exists()


def test_documents_that_lack_a_language(codechoir, arguments, finished_run, tmp_path) -> None:
    others = {"python": finished_run / "train" / "python", "cpp": finished_run / "train" / "javascript"}
    pairs = [part for name, folder in others.items() for part in ("--expert", f"{name}={folder}")]
    message = codechoir(*arguments, *pairs).refusal()
    assert message.startswith("no documents of this language")
    assert not (tmp_path / "out" / "manifest.json").exists()
