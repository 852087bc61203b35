"""Recipes: those that ship, the round trip of a resolved one, and what is said of a wrong one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from codechoir.errors import ConfigError, InputError
from codechoir.recipe import Recipe, check_base, described, load_recipe, resolved
from codechoir.train.config import Tuning

RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("*.yaml"))
SMALL = """
name: small
curate: {sources: [{kind: folder, path: src, licence: MIT}]}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_that_ship_are_valid(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    sources = recipe.curate.sources
    for name in recipe.languages:  # every language has a source, and packages held out
        assert any(not source.languages or name in source.languages for source in sources)
    held_out = {package for packages in recipe.curate.held_out.values() for package in packages}
    names = {source.package.name for source in sources if source.kind == "package"}
    assert held_out < names or (not names and recipe.curate.held_out_fraction > 0)


def test_the_two_recipes_of_the_documentation_ship() -> None:
    assert {"default", "tiny"} <= {path.stem for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_resolved_recipe_is_the_recipe(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    (tmp_path / "resolved.yaml").write_text(resolved(recipe))
    assert load_recipe(tmp_path / "resolved.yaml") == recipe
    assert resolved(load_recipe(tmp_path / "resolved.yaml")) == resolved(recipe)


FREE = ("held_out.", "overrides.", "max_error_fractions.", "mixing.")  # mappings whose keys the user chooses


def leaves(value: Any, prefix: str = "") -> Iterator[str]:
    """The key paths of a plain value, mappings of free keys and plain lists being leaves."""
    if isinstance(value, dict) and not prefix.endswith(FREE):
        for key, inner in value.items():
            yield from leaves(inner, f"{prefix}{key}.")
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for number, inner in enumerate(value):
            yield from leaves(inner, f"{prefix}{number}.")
    else:
        yield prefix.removesuffix(".")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_value_in_force_is_described(path: Path) -> None:
    recipe = load_recipe(path)
    lines = list(described(recipe))
    assert [key for key, _, _ in lines] == list(leaves(yaml.safe_load(resolved(recipe))))
    assert all(description for _, _, description in lines)
    assert ("train.learning_rate", recipe.train.learning_rate) in [(key, value) for key, value, _ in lines]


def test_overrides(small: Path) -> None:
    recipe = load_recipe(small, ["train.seed=7", "languages=[cpp, python]", "base={kind: random, layers: 3}"])
    assert (recipe.train.seed, recipe.languages) == (7, ("cpp", "python"))
    assert recipe.base.model_dump() == {"kind": "random", "layers": 3, "width": 64, "seed": 0}


def test_a_recipe_needs_only_a_name_and_sources(small: Path) -> None:
    recipe = load_recipe(small)
    assert recipe.languages == ("python", "java", "javascript", "cpp")
    assert recipe.base.kind == "wheel"
    assert recipe.tune is None
    assert all(isinstance(getattr(recipe, name), BaseModel) for name in Recipe.model_fields if name not in
               ("name", "languages", "tune"))  # fmt: skip


@pytest.mark.parametrize(
    ("override", "what", "said"),
    [
        ("trian.seed=1", "unknown key", "did you mean 'train'"),
        ("train.sead=1", "unknown key", "did you mean 'seed'"),
        ("base={kind: random, layer: 3}", "unknown key", "did you mean 'layers'"),
        ("languages=[python, cobol]", "not allowed", "distinct languages of assembly, batchfile, c, csharp, cpp"),
        ("languages=[python, python]", "not allowed", "distinct languages"),
        ("languages=[python]", "not allowed", "at least 2"),
        ("name=a/b", "not allowed", "pattern"),
        ("name=..", "not allowed", "pattern"),
        ("train.learning_rate=0", "not allowed", "greater than 0"),
        ("train.learning_rate=.nan", "not allowed", "finite"),
        ("train.precision=float16", "not allowed", "'float32'"),
        ("generate.score=[moe]", "not allowed", "'moe-prompt'"),
        ("base={kind: magic}", "not allowed", "'wheel'"),
        ("curate=null", "not allowed", "curate"),
        ("evaluate.pass_k=[1, 2]", "not allowed", "at most generate.num_samples, which is 1"),
    ],
)
def test_what_is_refused(small: Path, override: str, what: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(small, [override])
    message = caught.value.message()
    assert what in message
    assert said in message
    assert override.partition("=")[0].split(".")[0] in message
    assert str(small) in message


@pytest.mark.parametrize("more", [["generate.num_samples=5"], ["generate.complete=[]"]])
def test_a_pass_k_is_allowed_where_the_samples_suffice_or_nothing_is_completed(small: Path, more: list[str]) -> None:
    assert load_recipe(small, ["evaluate.pass_k=[1, 5]", *more]).evaluate.pass_k == (1, 5)
    with pytest.raises(ConfigError, match=r"which is 4(?s:.*)see `codechoir recipe show`"):
        load_recipe(small, ["evaluate.pass_k=[5, 1]", "generate.num_samples=4"])


def test_experts_may_read_nothing_where_the_whole_is_tuned(small: Path) -> None:
    copies = "train.expert_sequences=0"
    tuning = load_recipe(small, [copies, "tune={what: whole, learning_rate: 0.25, warmup: 0.5}"]).left_for_tuning
    assert tuning.optimiser and (tuning.optimiser.learning_rate, tuning.optimiser.warmup) == (0.25, 0.5)
    assert load_recipe(small, [copies, "tune={what: experts, steps: 7}"]).left_for_tuning.sequences == 14
    assert load_recipe(small, ["tune={what: whole, learning_rate: 0.25}"]).left_for_tuning.optimiser is None
    for told in ([copies], [copies, "tune={what: routers}"]):
        with pytest.raises(ConfigError) as caught:
            load_recipe(small, told)
        assert caught.value.allowed and "train.expert_sequences is 0" in caught.value.allowed


def test_the_whole_is_tuned_on_what_training_leaves(small: Path) -> None:
    """In training's sequences; routers alone read what they like."""
    whole = load_recipe(small, ["train.sequence_length=96", "tune={what: whole, steps: 7, sequences_per_language: 3}"])
    assert whole.tune and whole.tune.sequence_length == 96
    assert whole.left_for_tuning == Tuning(21, whole.tune.validation_sequences)
    same = ["train.sequence_length=96", "tune={what: whole, sequence_length: 96}"]
    assert load_recipe(small, same).left_for_tuning == Tuning(400, 8)
    routers = load_recipe(small, ["train.sequence_length=96", "tune={sequence_length: 64}"])
    assert routers.tune and routers.tune.sequence_length == 64
    assert routers.left_for_tuning == load_recipe(small).left_for_tuning == Tuning()
    with pytest.raises(ConfigError, match=r"train\.sequence_length, which is 96"):
        load_recipe(small, ["train.sequence_length=96", "tune={what: whole, sequence_length: 64}"])


def test_a_missing_recipe(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such recipe"):
        load_recipe(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.sequence_length=2049", "at most 2048"),
        ("train.mixing={java: 2, kotlin: 1}", "kotlin"),
        ("train.branches_trainable=last-layers", "compose.shared to mean or base"),
        ("train.branches_trainable=all", "compose.shared to mean or base"),
        ("compose.sequence_length=2049", "at most 2048"),
        ("generate.held_out_tokens=2048", "at most 2047"),
        ("tune={sequence_length: 2049}", "at most 2048"),
    ],
)
def test_what_the_base_does_not_allow_is_refused(small: Path, random_base: Path, override: str, said: str) -> None:
    check_base(load_recipe(small), random_base)
    with pytest.raises(ConfigError, match=said):
        check_base(load_recipe(small, [override]), random_base)


@pytest.mark.parametrize("more", [["compose.shared=mean", "train.branches_trainable=all"], ["train.trainable=all"]])
def test_weights_that_experts_share_may_be_trained_where_composing_says_how(
    small: Path, random_base: Path, more: list[str]
) -> None:
    check_base(load_recipe(small, more), random_base)
