"""The arms read equally much, and their page says of the runs' log-likelihoods what plain arithmetic says."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bench.arms.__main__ import _codechoir, main
from bench.arms.arms import arms
from bench.arms.page import page

from codechoir.artifacts import StageFolder
from codechoir.errors import ConfigError, InputError
from codechoir.recipe import Recipe, load_recipe
from codechoir.records import Infilling, LogLikelihood, write_records

ROOT = Path(__file__).parent.parent.parent
RECIPES = ROOT / "recipes"
# By the best dense model, the soup.
MODELS = {"universal": 1.05, "trunk": 1.1, "moe-prompt": 0.9, "moe-oracle": 0.85, "soup": 1.0}


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe(RECIPES / "tiny.yaml", ["train.learning_rates=[0.1]", "train.validation_documents=2"])


@pytest.mark.parametrize("name", ["default", "experiment", "tiny"])
def test_every_arm_reads_as_many_tokens_of_each_language(name: str) -> None:
    path = RECIPES / f"{name}.yaml"
    recipe = load_recipe(path)
    tuned = recipe.tune.steps * recipe.tune.sequences_per_language if recipe.tune else 0
    total = (recipe.train.trunk_sequences + recipe.train.expert_sequences + tuned) * recipe.train.sequence_length
    found = arms(recipe)
    assert len({arm.folder for arm in found}) == len(found)
    for arm in found:
        run = load_recipe(path, [setting.removeprefix("--set=") for setting in arm.settings()])
        read = (run.train.trunk_sequences + run.train.expert_sequences) * run.train.sequence_length
        if run.tune:
            read += run.tune.steps * run.tune.sequences_per_language * run.tune.sequence_length
        assert read == total, arm.name
        assert (run.compose.own_share < 1) == ("drawn together" in arm.name or "tuned" in arm.name), arm.name
        assert (run.tune is not None) == arm.name.startswith(("tuned whole", "upcycled")), arm.name
        assert (run.train.expert_sequences == 0) == arm.name.startswith("upcycled"), arm.name
        assert (run.tune is not None and run.tune.own_rate is not None) == ("in common" in arm.name), arm.name
        assert (run.tune is not None and not run.tune.moves_routers) == ("in common" in arm.name), arm.name


def drawn(language: str) -> tuple[np.ndarray, np.ndarray]:
    """Files' sizes in bytes, and the bits that the best dense model takes for a byte of each."""
    draw = np.random.default_rng(len(language))
    return draw.integers(100, 900, 24), draw.uniform(1.5, 2.5, 24)


def write_run(run: Path, recipe: Recipe, worse: float, num_packages: int = 8) -> None:
    """A finished run whose models take so many times the bits of the best run's."""
    for branch in ("trunk", *recipe.languages, "universal"):
        folder = StageFolder(run / "train" / branch, "train", 1, {}, {})
        folder.begin()
        tries = [{"learning_rate": 0.1, "bits_per_byte": 2.5}]
        read = {"tokens": 0, "search": []} if branch == "trunk" else {"tokens": 4000, "search": tries}
        folder.finish({"learning_rate": 0.1, "total_tokens": 4000} | read)
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
                    package=str(number % num_packages),
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
    assert "| a | 4,000 | 4,000, 0.1 (0.1: 2.5000) |  | 4,000, 0.1 (0.1: 2.5000) |" in told
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
    assert "| dense | 4,000 | 4,000, 0.1 (0.1: 2.5000) |  |  |" in told


def differences(told: str) -> list[str]:
    """The cells that tell the difference to the arm's own dense model."""
    return re.findall(r"\| arm \| (?:trunk|soup|moe[\w-]+) \| [\d.]+ \| ([^|]+) \|", told)


def test_a_difference_that_chance_may_have_made_is_not_bold(recipe: Recipe, tmp_path: Path) -> None:
    """Of 4 packages all differ to one side: no resample holds 0, but of their 16 signs two do as much, p = 1/8."""
    write_run(tmp_path / "arm", recipe, 1.0, num_packages=4)
    told = page("a command", "A machine.", recipe, [("arm", tmp_path / "arm")])
    cells = differences(told)
    assert len(cells) == len(MODELS) - 1
    for cell in cells:
        _, low, high = (float(number) for number in re.findall(r"[+-]\d+\.\d+", cell))
        assert low * high > 0 and cell.endswith("; 0.12)") and "*" not in cell
    assert "bold where the interval does not hold 0 and p is at most 0.05." in told


def test_where_an_interval_is_undefined_none_is_told(recipe: Recipe, tmp_path: Path) -> None:
    """One package says nothing of others: neither is p defined."""
    write_run(tmp_path / "arm", recipe, 1.0, num_packages=1)
    write_infillings(tmp_path / "arm", recipe, num_packages=1)
    told = page("a command", "A machine.", recipe, [("arm", tmp_path / "arm")])
    assert "nan" not in told
    cells = differences(told)
    assert len(cells) == len(MODELS) - 1
    assert all(re.fullmatch(r"[+-]\d+\.\d\d%", cell) for cell in cells), cells
    assert "| arm / universal | 25.0% |  |" in told and "| arm / moe-prompt | 75.0% | +50.00 |" in told


def test_the_page_names_what_it_found_beside_the_arms(recipe: Recipe, tmp_path: Path) -> None:
    write_run(tmp_path / "arm", recipe, 1.0)
    write_run(tmp_path / "other", recipe, 1.0)
    beside = [(name, tmp_path / name) for name in ("unfinished", "other")]
    told = page("a command", "A machine.", recipe, [("arm", tmp_path / "arm")], beside)
    assert "Beside the arms, with values of their own: `other`." in told
    assert "Beside" not in page("a command", "A machine.", recipe, [("arm", tmp_path / "arm")], beside[:1])


def finished(run: Path) -> str:
    (run / "generate").mkdir(parents=True)
    (run / "generate/manifest.json").write_text("{}")
    return str(run)


def test_folders_beside_the_arms_are_refused_before_anything_runs(tmp_path: Path) -> None:
    one, same, arm = (finished(tmp_path / name) for name in ("a/run", "b/run", "low rank"))
    (tmp_path / "begun/train").mkdir(parents=True)
    command = [str(RECIPES / "tiny.yaml"), f"--work={tmp_path / 'work'}", "--beside", one]
    with pytest.raises(InputError, match="no finished run") as refused:
        main([*command, str(tmp_path / "begun")])
    assert refused.value.seen == tmp_path / "begun" and refused.value.allowed and refused.value.next_step
    with pytest.raises(InputError, match="the same name") as refused:
        main([*command, same])
    assert refused.value.seen == f"{one} and {same}" and refused.value.allowed and refused.value.next_step
    with pytest.raises(InputError, match="the same name") as refused:
        main([*command, arm])
    assert refused.value.seen == f"the arm 'low rank' and {arm}"
    assert not (tmp_path / "work").exists()


def test_an_arm_that_the_recipe_lacks_is_refused_before_anything_runs(tmp_path: Path) -> None:
    command = [str(RECIPES / "tiny.yaml"), f"--work={tmp_path / 'work'}", "--only", "trunk 1/4"]
    with pytest.raises(ConfigError, match="--only") as refused:
        main([*command, "trunk 1/3"])
    assert refused.value.seen == "trunk 1/3" and refused.value.next_step
    assert refused.value.allowed.startswith("from the base; from the base, drawn together; trunk 1/4; ")
    assert not (tmp_path / "work").exists()


def test_a_users_error_is_one_message_and_exit_code_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.arms", str(RECIPES / "tiny.yaml"), "--only", "none", "--work", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("error: --only names an arm") and "Traceback" not in done.stderr


def test_an_error_that_codechoir_has_told_is_not_told_again(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        _codechoir([str(RECIPES / "tiny.yaml"), "--only=nothing"], 1)
    assert ended.value.code == 2
    assert capfd.readouterr().err.count("'nothing'") == 1


def write_infillings(run: Path, recipe: Recipe, num_packages: int) -> None:
    """Of 16 lines a language the dense model fills in four, and the MoE twelve."""
    for model, num_exact in {"universal": 4, "moe-prompt": 12}.items():
        for language in recipe.languages:
            records = [
                Infilling(
                    model=model,
                    language=language,
                    key=str(number),
                    package=str(number % num_packages),
                    mode="psm",
                    expected="x = 1",
                    text="x = 1" if number < num_exact else "x = 2",
                    num_tokens=3,
                )
                for number in range(16)
            ]
            write_records(run / "generate" / model / f"{language}.infill.jsonl", records)


def test_lines_filled_in_are_told_in_points_to_the_arms_own_dense_model(recipe: Recipe, tmp_path: Path) -> None:
    """Of 16 lines a language, two of each of 8 packages, the MoE fills in one more of each package."""
    write_run(tmp_path / "arm", recipe, 1.0)
    write_infillings(tmp_path / "arm", recipe, num_packages=8)
    told = page("a command", "A machine.", recipe, [("arm", tmp_path / "arm")])
    assert re.search(r"\| arm / universal \| 25\.0% \([^)]+\) \|  \|", told)
    assert re.search(r"\| arm / moe-prompt \| 75\.0% \([^)]+\) \| \*\*\+50\.00\*\* \(", told)
