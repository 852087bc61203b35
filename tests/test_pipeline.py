"""Whole runs of recipes/tiny.yaml on a small corpus: in one go, in parts, killed, damaged."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest

from codechoir.artifacts import read_manifest

STAGES = ("curate", "train/trunk", "train/python", "train/javascript", "train/universal")
STAGES += ("compose", "generate", "evaluate", "report")
MOES = ("moe-prompt", "moe-token-top1", "moe-token-top2", "moe-oracle", "moe-uniform")
MODELS = ("base", "trunk", "universal", "expert-python", "expert-javascript", "soup", *MOES)


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to change."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def times(run: Path) -> dict[str, int]:
    """When each stage was finished."""
    return {stage: (run / stage / "manifest.json").stat().st_mtime_ns for stage in STAGES}


def rerun(before: dict[str, int], run: Path) -> set[str]:
    """The stages finished anew since `before`."""
    now = times(run)
    return {stage for stage in STAGES if now[stage] != before[stage]}


def results(run: Path) -> dict[str, bytes]:
    """What a run is for: documents, weights, routers, records and scores, byte for byte."""
    files = [file for pattern in ("curate/**/*.parquet", "**/*.safetensors") for file in run.glob(pattern)]
    files += [*run.glob("generate/*/*.jsonl"), run / "evaluate" / "scores.json"]
    return {str(file.relative_to(run)): file.read_bytes() for file in sorted(files)}


def test_a_run_leaves_what_the_design_lists(finished_run: Path) -> None:
    for stage in STAGES:
        assert read_manifest(finished_run / stage).stage == stage.replace("/", "-")
    assert (finished_run / "recipe.yaml").read_text().startswith("name: tiny\n")
    names = {path.name for path in (finished_run / "curate" / "documents").iterdir()}
    assert names == {"python", "javascript"}
    for model in MODELS:
        home = model.removeprefix("expert-")
        languages = [home] if home != model else ["python", "javascript"]
        completions = sorted(finished_run.glob(f"generate/{model}/*.jsonl"))
        expected = [f"{language}.jsonl" for language in languages]
        expected += [f"{language}.likelihood.jsonl" for language in ("python", "javascript")]
        assert [path.name for path in completions] == sorted(expected), model
        assert {path.name for path in finished_run.glob(f"evaluate/{model}/*")} == {
            f"{name}.jsonl" for name in languages
        }
    scores = json.loads((finished_run / "evaluate" / "scores.json").read_text())["scores"]
    assert {score["model"] for score in scores} >= set(MODELS)
    assert (finished_run / "report" / "index.html").stat().st_size > 1000
    assert not list(finished_run.rglob("unfinished.json")) + list(finished_run.rglob("resume.safetensors"))


def test_a_finished_run_is_not_run_again(run: Path, codechoir, tiny: list[str]) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in run.rglob("*") if path.is_file()}
    again = codechoir(*tiny, "--out", run)
    assert (again.code, again.stdout) == (0, f"{run / 'report' / 'index.html'}\n")
    after = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in run.rglob("*") if path.is_file()}
    written = {path.name for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert written == {"recipe.yaml"}


def test_single_stages(run: Path, tmp_path: Path, finished_run: Path, codechoir, tiny: list[str]) -> None:
    fresh = tmp_path / "fresh"
    early = codechoir(*tiny, "--out", fresh, "--only", "compose")
    assert early.code == 2
    assert "the stage is not finished" in early.stderr
    assert str(fresh / "train" / "trunk") in early.stderr
    assert codechoir(*tiny, "--out", fresh, "--only", "curate").code == 0
    assert {path.name for path in fresh.iterdir()} == {"recipe.yaml", "curate"}
    before = times(run)
    shutil.rmtree(run / "compose")
    alone = codechoir(*tiny, "--out", run, "--only", "compose")
    assert (alone.code, alone.stdout) == (0, "")
    assert rerun(before, run) == {"compose"}
    assert results(run) == results(finished_run)


def test_a_changed_value_reruns_its_stage_and_the_later_ones(run: Path, codechoir, tiny: list[str]) -> None:
    before = times(run)
    assert codechoir(*tiny, "--out", run, "--set", "evaluate.resamples=150").code == 0
    assert rerun(before, run) == {"evaluate", "report"}
    before = times(run)
    values = ("evaluate.resamples=150", "compose.ridge=0.5", "compose.own_share=0.5", "generate.complete=[]")
    values += ("generate.held_out_part=second-half", "generate.held_out_tokens=160")
    done = codechoir(*tiny, "--out", run, *(part for value in values for part in ("--set", value)))
    assert done.code == 0
    assert "160 tokens of a file are scored, and training's sequences have 128" in done.stderr
    assert rerun(before, run) == {"compose", "generate", "evaluate", "report"}
    assert "files, 160 tokens from the line after their middle at most" in (run / "report" / "report.md").read_text()


def test_a_recipe_that_tunes_has_a_tuned_model(run: Path, codechoir, tiny: list[str]) -> None:
    before = times(run)
    budget = ("steps=3", "sequence_length=64", "validation_sequences=2", "top_k=1", "learning_rate=0.01")
    changes = [part for value in budget for part in ("--set", f"tune.{value}")]
    done = codechoir(*tiny, "--out", run, *changes)
    assert done.code == 0, done.stderr
    assert rerun(before, run) == {"generate", "evaluate", "report"}
    assert read_manifest(run / "tune").facts["top_k"] == 1
    names = {path.name for path in (run / "generate" / "moe-tuned").iterdir()}
    assert {"python.jsonl", "python.likelihood.jsonl", "javascript.jsonl"} <= names
    scores = json.loads((run / "evaluate" / "scores.json").read_text())["scores"]
    assert any(score["model"] == "moe-tuned" for score in scores)
    assert "MoE, token routing, tuned" in (run / "report" / "report.md").read_text()


def test_a_recipe_that_tunes_the_whole_gives_the_universal_model_as_much(run: Path, codechoir, tiny: list[str]) -> None:
    """Of the branches it alone is trained anew; the report judges the tuned model, at equal tokens."""
    before = times(run)
    budget = ("what=whole", "steps=3", "sequences_per_language=2", "top_k=1", "validation_sequences=2")
    changes = [part for value in budget for part in ("--set", f"tune.{value}")]
    done = codechoir(*tiny, "--out", run, *changes, "--set", "generate.complete=[]")
    assert done.code == 0, done.stderr
    assert rerun(before, run) == {"train/universal", "generate", "evaluate", "report"}
    universal, tuned = (read_manifest(run / name) for name in ("train/universal", "tune"))
    assert tuned.config["sequence_length"] == 128
    assert universal.facts["total_tokens"] == 2 * 128 * (16 + 3 * 2)
    assert universal.facts["data_matched"] and universal.facts["tuned_tokens"] == tuned.facts["tokens"]
    told = (run / "report" / "report.md").read_text()
    assert "Does the MoE with token routing, tuned beat the universal dense model?" in told
    assert "Equal total tokens: 5,632 tokens for the universal model, 5,632 for the trunk, all experts and tun" in told
    assert "the very tokens of all experts and tuning together" in told
    assert "stand beside a dense model that has read more than they have" in told
    shutil.rmtree(run / "train" / "tokens")  # what is tuned otherwise needs them again
    done = codechoir(*tiny, "--out", run, "--only", "compose", *changes, "--set", "tune.learning_rate=0.002")
    assert done.code == 0, done.stderr
    done = codechoir(*tiny, "--out", run, "--only", "compose", *changes, "--set", "tune.steps=4")
    assert done.code == 2 and "trained by another recipe" in done.stderr


def test_a_run_whose_experts_are_copies_of_the_trunk(run: Path, codechoir, tiny: list[str]) -> None:
    budget = (
        "train.expert_sequences=0",
        "tune={what: experts, own_rate: 0.3, steps: 3, top_k: 1, learning_rate: 0.01}",
    )
    score = ("generate.complete=[]", "generate.score=[universal, trunk, moe-token-top2, moe-tuned]")
    done = codechoir(*tiny, "--out", run, *(part for value in (*budget, *score) for part in ("--set", value)))
    assert done.code == 0, done.stderr
    scores = json.loads((run / "evaluate" / "scores.json").read_text())["scores"]
    means = {score["model"]: score["value"] for score in scores if score["language"] == "mean"}
    assert means["moe-token-top2"] == pytest.approx(means["trunk"], rel=1e-5)  # whatever their routers choose
    assert means["moe-tuned"] < means["trunk"]
    assert "until tuning they are copies of the trunk" in (run / "report" / "report.md").read_text()


def test_values_that_change_no_result_rerun_nothing(run: Path, codechoir, tiny: list[str]) -> None:
    before = times(run)
    same = ("train.checkpoint_seconds=9", "generate.batch_size=3", "generate.score_batch_size=2", "evaluate.workers=1")
    assert codechoir(*tiny, "--out", run, *(part for value in same for part in ("--set", value))).code == 0
    assert rerun(before, run) <= {"report"}  # it shows the recipe


def test_damaged_stages_are_made_again(run: Path, finished_run: Path, codechoir, tiny: list[str]) -> None:
    before = times(run)
    next((run / "curate" / "documents" / "python").glob("*.parquet")).unlink()
    weights = run / "train" / "javascript" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    (run / "generate" / "soup" / "python.jsonl").write_text("")
    assert codechoir(*tiny, "--out", run).code == 0
    assert rerun(before, run) == {"curate", "train/javascript", "generate"}
    assert results(run) == results(finished_run)


def test_a_run_interrupted_again_and_again_ends_as_if_it_had_not_been(
    tmp_path: Path, finished_run: Path, codechoir, tiny: list[str]
) -> None:
    """Killed or interrupted at ever later touches of its files, at every stage sooner or later."""
    run, ends = tmp_path / "run", []
    for attempt, after in enumerate(int(20 * 1.25**power) for power in range(25)):
        number = signal.SIGINT if attempt % 4 == 3 else signal.SIGKILL
        done = codechoir(*tiny, "--out", run, signal=(number, after, run))
        ends.append(done.code)
        assert "Traceback" not in done.stderr
        if done.code == 0:
            break
        assert done.code == (130 if number == signal.SIGINT else -signal.SIGKILL), done.stderr
    assert ends[-1] == 0
    assert len(ends) > 10, "it is hardly interrupted: make the first steps smaller"
    assert results(run) == results(finished_run)
    assert not list(run.rglob(".*"))  # no partial file is left


def test_several_processes_share_only_training(run: Path, codechoir, tiny: list[str]) -> None:
    stages = ("--only", "train", "--only", "report")
    done = codechoir(*tiny, "--out", run, *stages, env={"WORLD_SIZE": "2"})
    assert done.code == 2
    assert "only training is shared" in done.stderr and "--only train" in done.stderr


def test_a_prompt_that_is_too_long_is_told_before_anything_is_done(tmp_path: Path, codechoir, tiny: list[str]) -> None:
    row = {"name": "long", "language": "py", "prompt": "x" * 3000, "stop_tokens": ["\n"], "tests": ""}
    (tmp_path / "py.json").write_text(json.dumps([row]))
    told = codechoir(*tiny, "--out", tmp_path / "run", "--set", f"problems.source={tmp_path / 'py.json'}").refusal()
    assert "python long: 3001 tokens" in told
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"recipe.yaml"}
