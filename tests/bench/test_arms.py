"""The arms read equally much, and their page says of the runs' log-likelihoods what plain arithmetic says."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from bench.arms.arms import arms
from bench.arms.page import page

from codechoir.artifacts import StageFolder
from codechoir.recipe import Recipe, load_recipe
from codechoir.records import Infilling, LogLikelihood, write_records

RECIPES = Path(__file__).parent.parent.parent / "recipes"
# By the best dense model, the soup.
MODELS = {"universal": 1.05, "trunk": 1.1, "moe-prompt": 0.9, "moe-oracle": 0.85, "soup": 1.0}


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe(RECIPES / "tiny.yaml", ["train.learning_rates=[0.1]", "train.validation_documents=2"])


@pytest.mark.parametrize("name", ["default", "experiment", "tiny"])
def test_every_arm_reads_as_many_tokens_of_each_language(name: str) -> None:
    path = RECIPES / f"{name}.yaml"
    recipe = load_recipe(path)
    total = (recipe.train.trunk_sequences + recipe.train.expert_sequences) * recipe.train.sequence_length
    found = arms(recipe)
    assert len({arm.folder for arm in found}) == len(found)
    for arm in found:
        run = load_recipe(path, [setting.removeprefix("--set=") for setting in arm.settings()])
        read = (run.train.trunk_sequences + run.train.expert_sequences) * run.train.sequence_length
        if run.tune:
            read += run.tune.steps * run.tune.sequences_per_language * run.tune.sequence_length
        assert read == total, arm.name
        assert (run.compose.own_share < 1) == ("drawn together" in arm.name), arm.name


def drawn(language: str) -> tuple[np.ndarray, np.ndarray]:
    """Files' sizes in bytes, and the bits that the best dense model takes for a byte of each."""
    draw = np.random.default_rng(len(language))
    return draw.integers(100, 900, 24), draw.uniform(1.5, 2.5, 24)


def write_run(run: Path, recipe: Recipe, worse: float) -> None:
    """A finished run whose models take so many times the bits of the best run's."""
    for branch in ("trunk", *recipe.languages, "universal"):
        folder = StageFolder(run / "train" / branch, "train", 1, {}, {})
        folder.begin()
        tries = [{"learning_rate": 0.1, "bits_per_byte": 2.5}]
        folder.finish({"learning_rate": 0.1, "total_tokens": 4000, "search": [] if branch == "trunk" else tries})
    stage = StageFolder(run / "generate", "generate", 1, {}, {})
    stage.begin()
    for language in recipe.languages:
        sizes, bits = drawn(language)
        for model, share in MODELS.items():
            records = [
                LogLikelihood(
                    model=model,
                    language=language,
                    key=str(number),
                    package=str(number % 8),
                    num_bytes=size,
                    num_tokens=size,
                    log_likelihood=-bits[number] * share * worse * size * math.log(2),
                )
                for number, size in enumerate(sizes.tolist())
            ]
            write_records(stage.path / model / f"{language}.likelihood.jsonl", records)
    stage.finish({})


def test_the_page_tells_each_models_mean_and_its_differences(recipe: Recipe, tmp_path: Path) -> None:
    a, b, unfinished = ((name, tmp_path / name) for name in ("a", "b", "unfinished"))
    write_run(a[1], recipe, 1.0)
    write_run(b[1], recipe, 1.02)
    told = page("a command", "A machine.", recipe, [b, unfinished], [a])

    cells = [
        line.removeprefix("| ").removesuffix(" |").split(" | ")
        for line in told.splitlines()
        if re.match(r"\| [ab] \| [a-z]", line)
    ]
    rows = {(arm, model): told for arm, model, *told in cells}
    assert set(rows) == {(arm, model) for arm in "ab" for model in MODELS}
    mean = np.mean([np.average(bits, weights=sizes) for sizes, bits in map(drawn, recipe.languages)])
    for (arm, model), (bits_per_byte, *differences) in rows.items():
        worse = 1.02 if arm == "b" else 1.0
        assert float(bits_per_byte) == pytest.approx(mean * MODELS[model] * worse, abs=6e-5)
        shares = (MODELS[model] / MODELS["universal"], MODELS[model] * worse)
        for text, share in zip(differences, shares, strict=True):
            if share == 1:  # the dense model itself
                assert not text
                continue
            difference, low, high = (float(number) for number in re.findall(r"[+-]\d+\.\d+", text))
            assert difference == pytest.approx(100 * (share - 1), abs=0.006)
            assert low <= difference <= high
            p = float(text.rpartition("; ")[2].rstrip(")"))
            assert p == pytest.approx(2 / 2**8, abs=1e-4)  # all of 8 packages differ to the same side
            assert text.startswith("**") == (not low <= 0 <= high)
    assert "The best dense model of all, trunks and averaged experts among them, is `a / soup`" in told
    assert "| b / moe-prompt |" in told and "| b / moe-oracle |" not in told
    assert "| a | 4,000, 0.1 | 4,000, 0.1 (0.1: 2.5000) | 4,000, 0.1 (0.1: 2.5000) |" in told
    assert "Beside the arms, with values of their own: `a`." in told


def test_a_run_of_which_few_models_were_scored_stands_beside_the_arms(recipe: Recipe, tmp_path: Path) -> None:
    write_run(tmp_path / "arm", recipe, 1.02)
    write_run(tmp_path / "dense", recipe, 1.0)
    for unscored in ("universal", "moe-prompt", "moe-oracle"):
        shutil.rmtree(tmp_path / "dense/generate" / unscored)
    told = page("a command", "A machine.", recipe, [("arm", tmp_path / "arm")], [("dense", tmp_path / "dense")])
    assert "is `dense / soup`" in told
    assert re.findall(r"\| dense \| (\w+) \| [\d.]+ \|", told) == ["trunk", "soup"]
    assert "| arm / universal |" in told and "| dense / " not in told
    assert "| dense | 4,000, 0.1 | 4,000, 0.1 (0.1: 2.5000) |  |" in told


def test_lines_filled_in_are_told_in_points_to_the_arms_own_dense_model(recipe: Recipe, tmp_path: Path) -> None:
    """Of 16 lines a language, two of each of 8 packages, the MoE fills in one more of each package."""
    write_run(tmp_path / "arm", recipe, 1.0)
    for model, num_exact in {"universal": 4, "moe-prompt": 12}.items():
        for language in recipe.languages:
            records = [
                Infilling(
                    model=model,
                    language=language,
                    key=str(number),
                    package=str(number % 8),
                    mode="psm",
                    expected="x = 1",
                    text="x = 1" if number < num_exact else "x = 2",
                    num_tokens=3,
                )
                for number in range(16)
            ]
            write_records(tmp_path / "arm/generate" / model / f"{language}.infill.jsonl", records)
    told = page("a command", "A machine.", recipe, [("arm", tmp_path / "arm")])
    assert re.search(r"\| arm / universal \| 25\.0% \([^)]+\) \|  \|", told)
    assert re.search(r"\| arm / moe-prompt \| 75\.0% \([^)]+\) \| \*\*\+50\.00\*\* \(", told)
