"""What stages need, against figures worked out by hand from a trial's round ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codechoir.artifacts import StageFolder
from codechoir.compose.config import TuneConfig
from codechoir.planning.curate_trial import CurateTrial
from codechoir.planning.model_trial import ModelTrial, TuneTrial
from codechoir.planning.needs import MIB, Measured, Need, finished_stage, needs
from codechoir.planning.trial import Trials
from codechoir.recipe import Recipe

CHANGES = {
    "curate": {"batch_mib": 1},
    "train": {"trunk_sequences": 8, "expert_sequences": 10, "sequences_per_step": 4},
    "compose": {
        "fit_sequences": 3, "calibration_sequences": 2, "sequence_length": 100, "proof_tokens": 25,
        "prompt_documents": 50,
    },
    "generate": {
        "score": ("base", "experts", "moe-uniform"), "complete": ("experts", "moe-token-top2"), "held_out_documents": 5,
        "held_out_tokens": 20, "num_samples": 2, "max_tokens": 8, "batch_size": 4, "score_batch_size": 1,
    },
    "evaluate": {"workers": 2, "memory_mib": 100},
}  # fmt: skip


@pytest.fixture
def asked(recipe: Recipe) -> Recipe:
    """Two languages, and counts that are easy to reckon with."""
    return recipe.model_copy(
        update={name: getattr(recipe, name).model_copy(update=change) for name, change in CHANGES.items()}
    )


def needed(recipe: Recipe, out: Path, curated: CurateTrial | str, models: ModelTrial | str) -> dict[str, Need]:
    measured = Measured(2 * MIB, Trials(curated, models), {"python": 3}, {"python": 0.5})
    return {need.stage: need for need in needs(recipe, measured, out)}


def test_curate(asked: Recipe, tmp_path: Path, curate_trial: CurateTrial) -> None:
    found = needed(asked, tmp_path, curate_trial, "no base")["curate"]
    assert found.seconds == pytest.approx(3 + 2 * MIB * (1 / 2000 + 2 / 1000))
    assert found.memory == 600 + 4 * (MIB - 1000)  # a batch is smaller than the corpus
    assert found.disk == 2 * MIB // 4
    assert "a sample of 10 files" in found.how


def test_train(asked: Recipe, tmp_path: Path, model_trial: ModelTrial) -> None:
    found = needed(asked, tmp_path, "no file", model_trial)["train"]
    # trunk: 16 sequences, 4 steps; experts: 10 sequences, 3 steps, twice; universal: 20 sequences, 5 steps; 4 branches
    tokens = 2 * (8 + 10) * 128
    assert found.seconds == pytest.approx(4 * 5.0 + (2 * 3 + 5) * 2.0 + 4 * 1.0 + tokens / 1000)
    assert (found.memory, found.disk) == (7000 + 1.3 * 2000, 4 * 2500 + tokens * 4)
    assert "15 steps" in found.how and "one expert: 3 steps" in found.how


def test_train_with_a_search_and_measurements(asked: Recipe, tmp_path: Path, model_trial: ModelTrial) -> None:
    """Adapters, a wide vocabulary; two rates tried on half of each arm's steps; 3 documents measured each 2 steps."""
    changes = {"learning_rates": (1e-4, 2e-4), "search_share": 0.5, "validation_documents": 3, "validation_steps": 2}
    recipe = asked.model_copy(update={"train": asked.train.model_copy(update=changes)})
    trial = model_trial.model_copy(update={"branch_bytes": 100, "vocabulary": 2**16 + 1})
    found = needed(recipe, tmp_path, "no file", trial)["train"]
    tokens = 2 * (8 + 10) * 128
    steps = 4 * 5.0 + (2 * 3 + 5) * 2.0 + 2 * (2 * 5.0 + (2 + 3) * 2.0)  # and the tries': 2, 2 and 3 steps
    # Languages measured: trunk 2, twice; experts 1, twice; universal 2, thrice; tries 2 once, 1 once, 2 twice.
    measured = 2 * 2 + 2 * (1 * 2) + 2 * 3 + 2 * (2 * 1 + 1 * 1 + 2 * 2)
    assert found.seconds == pytest.approx(steps + 10 * 1.0 + tokens / 1000 + measured * 3 * 128 / 100)
    assert found.disk == 2500 + 3 * 100 + tokens * 6
    assert "15 steps, 14 more to try learning rates" in found.how


def test_tried_steps_are_the_share_as_written(asked: Recipe, tmp_path: Path, model_trial: ModelTrial) -> None:
    """0.28 of the trunk's 25 steps are 7, by floats 8; of an expert's 3 it is 1, of the universal model's 5 it is 2."""
    changes = {"learning_rates": (1e-4, 2e-4), "search_share": 0.28, "validation_documents": 1, "trunk_sequences": 50}
    recipe = asked.model_copy(update={"train": asked.train.model_copy(update=changes)})
    found = needed(recipe, tmp_path, "no file", model_trial)["train"]
    assert "36 steps, 20 more to try learning rates" in found.how


def test_the_universal_model_of_a_recipe_that_tunes_the_whole(
    asked: Recipe, tmp_path: Path, model_trial: ModelTrial
) -> None:
    """2 steps of 3 sequences a language: it reads 6 more of each, 32 in all, 8 steps; 4 more of each validate."""
    tune = TuneConfig(what="whole", steps=2, sequences_per_language=3, validation_sequences=4, sequence_length=128)
    found = needed(asked.model_copy(update={"tune": tune}), tmp_path, "no file", model_trial)["train"]
    tokens = 2 * (8 + 10 + 6 + 4) * 128
    assert found.seconds == pytest.approx(4 * 5.0 + (2 * 3 + 8) * 2.0 + 4 * 1.0 + tokens / 1000)
    assert "18 steps" in found.how


def test_a_universal_model_counts_as_finished_where_it_read_what_tuning_reads(
    asked: Recipe, tmp_path: Path, model_trial: ModelTrial
) -> None:
    tune = TuneConfig(what="whole", steps=2, sequences_per_language=3, sequence_length=128)
    tuning = asked.model_copy(update={"tune": tune})
    settings = asked.train.model_dump(mode="json")
    for name in ("trunk", *asked.languages, "universal"):
        finish(tmp_path / "train" / name, settings, 10.0)
    assert needed(asked, tmp_path, "no file", model_trial)["train"].seconds == 40.0
    assert needed(tuning, tmp_path, "no file", model_trial)["train"].seconds != 40.0
    finish(tmp_path / "train" / "universal", settings | {"tuned_sequences": 6}, 11.0)
    assert needed(asked, tmp_path, "no file", model_trial)["train"].seconds != 41.0
    assert needed(tuning, tmp_path, "no file", model_trial)["train"].seconds == 41.0


def test_compose(asked: Recipe, tmp_path: Path, model_trial: ModelTrial) -> None:
    found = needed(asked, tmp_path, "no file", model_trial)["compose"]
    # 2 languages: 5 sequences of 100 tokens and 4 passes over 25 each; 2 x 3 + 2 loads; the router on 50 documents
    assert found.seconds == pytest.approx(2 * (500 + 100) / 100 + 8 * 0.5 + 50 * 0.1)
    assert found.memory == 7000 + 4 * 1000
    assert found.disk == 2500 + 600 * 2 + 2 * 70


def test_generate(asked: Recipe, tmp_path: Path, model_trial: ModelTrial) -> None:
    found = needed(asked, tmp_path, "no file", model_trial)["generate"]
    # Scored: 10 files of 20 tokens are 2 s; by base, two experts and a uniform mixture of 1 + 0.6 times the work.
    scoring = 2.0 * (1 + 2 + 1.6)
    # Completed: 6 tasks in 2 batches of 8 steps, 4 s, after 3 s of prompts; by an expert, and with two experts a token.
    completing = (4.0 + 3.0) * (1 + 1.6)
    assert found.seconds == pytest.approx(scoring + completing + 5 * 0.5)  # five models are loaded
    # Logits of 4 rows, and room for 2.5 times the keys and values of 4 rows of 50 tokens of a prompt and 8 new ones.
    assert found.memory == 7000 + 4 * 1600 + 4 * 10 * 8 + 2.5 * 4 * 58 * 6
    assert "40 files scored, 12 completions and 0 infillings" in found.how


def test_memory_of_scoring_alone_and_of_a_soup(asked: Recipe, tmp_path: Path, model_trial: ModelTrial) -> None:
    def memory(**changes: object) -> int | None:
        recipe = asked.model_copy(update={"generate": asked.generate.model_copy(update={"complete": (), **changes})})
        return needed(recipe, tmp_path, "no file", model_trial)["generate"].memory

    assert memory() == 7000 + 4 * 1600 + 20 * 10 * 8
    assert memory(score=("base", "soup")) == 7000 + 16 * 1000
    infilled = memory(infill=("base",), infilling_documents=3)
    assert infilled == 7000 + 4 * 1600 + max(20 * 10 * 8, 4 * 10 * 8 + 2.5 * 4 * 28 * 6)


def test_a_generalist_is_one_expert_more(asked: Recipe, tmp_path: Path, model_trial: ModelTrial) -> None:
    recipe = asked.model_copy(
        update={"tune": TuneConfig(), "compose": asked.compose.model_copy(update={"generalist": True})}
    )
    with_it = needed(recipe, tmp_path, "no file", model_trial)
    without = needed(asked.model_copy(update={"tune": TuneConfig()}), tmp_path, "no file", model_trial)
    mixing = 2.0 * 0.6  # what is scored, by the uniform mixture
    assert with_it["generate"].seconds == pytest.approx(without["generate"].seconds + mixing)
    assert with_it["generate"].memory == without["generate"].memory + 4 * 600
    assert with_it["tune"].memory == without["tune"].memory + 4 * 600
    assert with_it["tune"].disk == without["tune"].disk + 2 * 600


def test_infillings(asked: Recipe, tmp_path: Path, model_trial: ModelTrial) -> None:
    before = needed(asked, tmp_path, "no file", model_trial)["generate"]
    changes = {"infilling_documents": 5, "infill": ("experts", "moe-uniform")}
    asked = asked.model_copy(update={"generate": asked.generate.model_copy(update=changes)})
    found = needed(asked, tmp_path, "no file", model_trial)["generate"]
    # 10 prompts of 20 tokens are 2 s, then 2 batches a language of 8 steps, 8 s; the mixture does 1.6 times the work.
    batches = 2 * -(-5 // asked.generate.batch_size)
    one = 2.0 + batches * asked.generate.max_tokens * model_trial.complete_seconds
    assert found.seconds == pytest.approx(before.seconds + one * (1 + 1.6))  # both are loaded anyway
    assert "20 infillings" in found.how


def test_tune(asked: Recipe, tmp_path: Path, model_trial: ModelTrial) -> None:
    assert "tune" not in needed(asked, tmp_path, "no file", model_trial)
    settings = {"top_k": 2, "steps": 10, "sequences_per_language": 3, "sequence_length": 20, "validate_every": 4}
    routers = TuneConfig(**settings, validation_sequences=5)
    recipe = asked.model_copy(update={"tune": routers})
    token_seconds = 2.0 / (4 * asked.train.sequence_length)  # a step of training takes 2 s
    # 2 languages: 1200 tokens, 1.6 times the dense model's work; teachers; and 200 tokens validated: step 0 by the
    # oracle, by both experts and by the routers, then thrice by the routers.
    seconds = 1200 * 1.6 * token_seconds + 1200 / 100 + 200 * (1 + 1.6 + 4 * 1.6) / 100 + 0.5
    found = needed(recipe, tmp_path, "no file", model_trial)["tune"]
    assert found.seconds == pytest.approx(seconds)
    assert found.memory == 7000 + 4 * 1600 + 2 * 20 * 10 * 4 * 4
    assert found.disk == 2500 + 2 * 600
    whole = recipe.model_copy(update={"tune": TuneConfig(**settings, validation_sequences=5, what="whole")})
    found = needed(whole, tmp_path, "no file", model_trial)["tune"]
    # No teachers; the oracle and both experts once more, at the best step.
    assert found.seconds == pytest.approx(seconds - 1200 / 100 + 200 * (1 + 1.6) / 100)
    assert found.memory == 7000 + 4 * 1600 + 12 * 1200  # no whole logits either
    assert needed(recipe, tmp_path, "no file", "no base")["tune"].how == "not measured, as train"
    finish(tmp_path / "tune", routers.model_dump(mode="json", exclude={"checkpoint_seconds"}), 77.0)
    assert needed(recipe, tmp_path, "no file", model_trial)["tune"].seconds == 77.0


def test_tune_as_it_was_tried(asked: Recipe, tmp_path: Path, model_trial: ModelTrial) -> None:
    settings = {"top_k": 2, "steps": 10, "sequence_length": 20, "validate_every": 4, "validation_sequences": 5}
    recipe = asked.model_copy(update={"tune": TuneConfig(**settings)})
    tried = TuneTrial(step_seconds=3.0, memory=11000, device_memory=2 * MIB)
    found = needed(recipe, tmp_path, "no file", model_trial.model_copy(update={"tune": tried}))["tune"]
    # Ten steps, and the validations of the test above.
    assert found.seconds == pytest.approx(10 * 3.0 + 200 * (1 + 1.6 + 4 * 1.6) / 100 + 0.5)
    assert 11000 <= (found.memory or 0) <= 7000 + 1.3 * 4000
    assert "beside 2 MiB of the device's own" in found.how
    untried = needed(recipe, tmp_path, "no file", model_trial.model_copy(update={"tune": "no room"}))["tune"]
    assert untried.how.startswith("no step was tried: no room; time: computed")


def test_the_tuned_model_counts_only_where_there_is_one(asked: Recipe, tmp_path: Path, model_trial: ModelTrial) -> None:
    choices = {"score": ("base", "moe-tuned"), "complete": ("base", "moe-tuned")}
    asked = asked.model_copy(update={"generate": asked.generate.model_copy(update=choices)})
    tuned = asked.model_copy(update={"tune": TuneConfig(top_k=2)})
    without, found = (needed(each, tmp_path, "no file", model_trial) for each in (asked, tuned))
    assert without["generate"].seconds == pytest.approx(2.0 + 7.0 + 0.5)
    assert found["generate"].seconds == pytest.approx((2.0 + 7.0) * (1 + 1.6) + 2 * 0.5)
    assert found["evaluate"].seconds == 2 * without["evaluate"].seconds == pytest.approx(2 * 6 * 0.5 / 2)


def test_evaluate(asked: Recipe, tmp_path: Path) -> None:
    found = needed(asked, tmp_path, "no file", "no base")["evaluate"]
    assert found.seconds == 12 * 0.5 / 2
    assert found.memory == 200 * MIB
    broken = Measured(0, Trials("", ""), {"python": 3}, {}, "no sandbox")
    assert [(need.seconds, need.how) for need in needs(asked, broken, tmp_path) if need.stage == "evaluate"] == [
        (None, "not measured: no sandbox")
    ]


def test_what_could_not_be_tried_is_not_known(asked: Recipe, tmp_path: Path) -> None:
    found = needed(asked, tmp_path, "no file", "no base")
    assert {name: need.how for name, need in found.items() if need.memory is None} == {
        "curate": "not measured: no file",
        "train": "not measured: no base",
        "compose": "not measured, as train",
        "generate": "not measured, as train",
        "report": "not measured: it only reads what the other stages leave",
    }
    assert all(found[stage].seconds is None for stage in ("curate", "train", "compose", "generate", "report"))


def finish(folder: Path, config: dict[str, object], seconds: float) -> None:
    stage = StageFolder(folder, folder.name, 1, config, {})
    stage.begin()
    stage.finish({})
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "seconds": seconds}))


def test_a_finished_stage_says_what_it_took(asked: Recipe, tmp_path: Path, model_trial: ModelTrial) -> None:
    settings = asked.train.model_dump(mode="json", exclude={"checkpoint_seconds"})
    for number, name in enumerate(("trunk", "python", "javascript")):
        finish(tmp_path / "train" / name, {**settings, "languages": ["javascript", "python"]}, 10.0 + number)
    computed = needed(asked, tmp_path, "no file", model_trial)["train"]
    assert computed.seconds == pytest.approx(46.0 + 4.608)  # one branch is not finished
    finish(tmp_path / "train" / "universal", {**settings, "languages": ["python", "javascript"]}, 100.0)
    found = needed(asked, tmp_path, "no file", model_trial)["train"]
    assert found.seconds == 10 + 11 + 12 + 100
    assert f"what the finished stage in {tmp_path / 'train'} took (51 s expected" in found.how
    assert (found.memory, found.disk) == (computed.memory, computed.disk)


def test_a_stage_finished_with_other_settings_does_not_count(asked: Recipe, tmp_path: Path) -> None:
    settings = {**asked.compose.model_dump(mode="json"), "experts": ["python", "javascript"]}
    finish(tmp_path / "same", settings, 1)
    finish(tmp_path / "other", {**settings, "ridge": 0.5}, 1)
    finish(tmp_path / "fewer", {**settings, "experts": ["python"]}, 1)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "manifest.json").write_text("{")
    found = {
        name: finished_stage(tmp_path / name, asked.compose, asked.languages) is not None
        for name in ("same", "other", "fewer", "damaged", "absent")
    }
    assert found == {"same": True, "other": False, "fewer": False, "damaged": False, "absent": False}
