"""Configs: what is accepted, and what is said of everything else."""

import hashlib
import json
import random
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, field_validator

from codechoir.config import Config, digest_of, load_config
from codechoir.errors import ConfigError, InputError


class Wheel(Config):
    kind: Literal["wheel"] = Field(description="")
    package: str = Field(description="")
    checksum: str = Field("", description="")


class Folder(Config):
    kind: Literal["folder"] = Field(description="")
    path: str = Field(description="")
    licence: str = Field("MIT", description="")


class Package(Config):
    """Its own name is a tag of `Source`, and its field `path` a field of `Folder`."""

    kind: Literal["package"] = Field(description="")
    package: Wheel | None = Field(None, description="")
    include: tuple[str, ...] = Field((), description="")


Source = Annotated[Wheel | Folder | Package, Field(discriminator="kind")]


class Optimiser(Config):
    rate: float = Field(1e-4, gt=0, description="")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="")


class Stage(Config):
    optimiser: Optimiser = Field(default=Optimiser(), description="")


class Recipe(Config):
    seed: int = Field(0, description="")
    optimiser: Optimiser = Field(default=Optimiser(), description="")
    sources: tuple[Source, ...] = Field((), description="")
    by_language: dict[str, Optimiser] = Field({}, description="")
    named: dict[str, list[Source]] = Field({}, description="")
    either: Optimiser | Folder | None = Field(None, description="")
    stage: Stage | None = Field(None, description="")


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def error_of(values: dict[str, Any]) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        Recipe.parse(values, "recipe.yaml")
    return caught.value


@pytest.mark.parametrize(
    ("values", "key", "meant", "names"),
    [
        ({"sede": 1}, "sede", "seed", Recipe),
        ({"optimiser": {"rte": 1}}, "optimiser.rte", "rate", Optimiser),
        (
            {"sources": [{"kind": "folder", "path": "a", "licnce": "MIT"}]},
            "sources.0.folder.licnce",
            "licence",
            Folder,
        ),
        (
            {"sources": [{"kind": "package", "inclde": []}]},
            "sources.0.package.inclde",
            "include",
            Package,  # not Wheel, which is what its field `package` holds
        ),
        (
            {"sources": [{"kind": "package", "package": {"kind": "wheel", "package": "a", "chcksum": ""}}]},
            "sources.0.package.package.chcksum",
            "checksum",
            Wheel,
        ),
        ({"stage": {"optimiser": {"rte": 1}}}, "stage.optimiser.rte", "rate", Optimiser),
        ({"by_language": {"seed": {"rae": 1}}}, "by_language.seed.rae", "rate", Optimiser),
        (
            {"named": {"python": [{"kind": "wheel", "package": "a", "checksm": ""}]}},
            "named.python.0.wheel.checksm",
            "checksum",
            Wheel,
        ),
        ({"either": {"rate": 1, "schedul": "cosine"}}, "either.Optimiser.schedul", "schedule", Optimiser),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_valid_one(
    values: dict[str, Any], key: str, meant: str, names: type[Config]
) -> None:
    error = error_of(values)
    assert error.what == "unknown key"
    assert error.seen == f"{key} in recipe.yaml"
    assert error.next_step == f"did you mean {meant!r}?"
    assert error.allowed == ", ".join(sorted(names.model_fields))


def test_a_key_of_another_kind_of_source_is_not_suggested() -> None:
    error = error_of({"sources": [{"kind": "wheel", "package": "a", "licence": "MIT"}]})
    assert error.allowed == "checksum, kind, package"
    assert "licence" not in error.next_step


def test_a_misspelt_key_is_told_before_the_missing_one_that_it_leaves() -> None:
    error = error_of({"sources": [{"kind": "folder", "pth": "a"}]})
    assert error.next_step == "did you mean 'path'?"


def test_a_key_like_no_other() -> None:
    assert error_of({"zzz": 1}).next_step == "remove the key"


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"seed": "many"}, ("seed in recipe.yaml: 'many'", "integer")),
        ({"optimiser": {"schedule": "linear"}}, ("optimiser.schedule", "'linear'", "'cosine' or 'constant'")),
        ({"optimiser": {"rate": 0}}, ("optimiser.rate", "greater than 0")),
        ({"optimiser": {"rate": float("nan")}}, ("optimiser.rate", "finite")),
        ({"optimiser": None}, ("optimiser", "None")),
        ({"sources": [{"kind": "wheal"}]}, ("sources.0", "'wheel', 'folder', 'package'")),
        ({"sources": [{"kind": "folder"}]}, ("sources.0.folder.path", "missing")),
        ({1: 2}, ("1 in recipe.yaml",)),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(values: dict[str, Any], parts: tuple[str, ...]) -> None:
    message = str(error_of(values))
    assert all(part in message for part in parts), message
    assert "pydantic" not in message


def test_what_a_validator_says_is_told_as_it_stands() -> None:
    class Even(Config):
        number: int = Field(0, description="")

        @field_validator("number")
        @classmethod
        def _is_even(cls, number: int) -> int:
            if number % 2:
                raise ValueError("an even number")
            return number

    with pytest.raises(ConfigError) as caught:
        Even.parse({"number": 3}, "recipe.yaml")
    assert caught.value.allowed == "an even number"


def test_a_huge_wrong_value_is_cut() -> None:
    assert len(str(error_of({"seed": ["x" * 100] * 1000}))) < 500


def test_a_config_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Recipe().seed = 3  # type: ignore[misc]


def test_a_recipe_is_read_with_overrides(tmp_path: Path) -> None:
    path = written(tmp_path, "seed: 1\noptimiser:\nby_language: {python: {rate: 1.0e-3}}\n")
    recipe = load_config(
        Recipe,
        path,
        [
            "optimiser.rate=3e-4",
            "seed = 7",
            "by_language.java.schedule=constant",
            'sources=[{kind: folder, path: "a=b"}]',
        ],
    )
    assert recipe.seed == 7
    assert recipe.optimiser.rate == 3e-4
    assert {name: one.model_dump() for name, one in recipe.by_language.items()} == {
        "python": {"rate": 1e-3, "schedule": "cosine"},
        "java": {"rate": 1e-4, "schedule": "constant"},
    }
    assert recipe.sources == (Folder(kind="folder", path="a=b"),)


def test_an_empty_recipe_is_every_default(tmp_path: Path) -> None:
    assert load_config(Recipe, written(tmp_path, "# nothing\n")) == Recipe()


@pytest.mark.parametrize("override", ["seed", "=3", "a..b=1", ".seed=1", "seed.=1", "seed=[", "seed={a: 1, a: 2}"])
def test_a_bad_override_is_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Recipe, written(tmp_path, "seed: 1"), [override])
    assert caught.value.seen == override


def test_an_override_cannot_go_through_a_plain_value(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no keys"):
        load_config(Recipe, written(tmp_path, "seed: 1"), ["seed.low=1"])


def test_an_unknown_key_of_an_override_is_told_as_such(tmp_path: Path) -> None:
    path = written(tmp_path, "seed: 1")
    with pytest.raises(ConfigError) as caught:
        load_config(Recipe, path, ["optimser.rate=1"])
    assert caught.value.seen == f"optimser in {path} with --set"
    assert "did you mean 'optimiser'?" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "seed: [1",
        "seed: 1\n\tx: 2",
        "seed: !!python/object/apply:os.getcwd []",
        "a: 2024-99-99",
        "seed: \x01",
        "[" * 5000,
    ],
)
def test_bad_yaml_is_told_without_a_traceback(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(Recipe, path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("seed: 1\nseed: 2", "seed"),
        ("optimiser:\n  rate: 1\n  schedule: cosine\n  rate: 2", "rate"),
        ("sources: [{kind: folder, kind: wheel}]", "kind"),
        ('seed: 1\n"seed": 2', "seed"),
    ],
)
def test_a_key_given_twice_is_refused(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(ConfigError, match=f"found the key '{key}' twice"):
        load_config(Recipe, written(tmp_path, text))


def test_a_merged_key_may_be_given_again(tmp_path: Path) -> None:
    text = "by_language:\n  a: &a {rate: 1}\n  b: &b {<<: *a, rate: 2}\n  c: {<<: *b, rate: 3}"
    recipe = load_config(Recipe, written(tmp_path, text))
    assert [one.rate for one in recipe.by_language.values()] == [1, 2, 3]


@pytest.mark.parametrize("text", ["- 1\n- 2", "word", "3"])
def test_a_recipe_that_is_no_mapping(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="a recipe is a mapping"):
        load_config(Recipe, written(tmp_path, text))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such recipe"):
        load_config(Recipe, tmp_path / "absent.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        load_config(Recipe, tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"seed: \xe9")
    with pytest.raises(InputError, match="cannot be read"):
        load_config(Recipe, tmp_path / "latin.yaml")


def test_the_digest_is_the_sha256_of_compact_sorted_json() -> None:
    assert digest_of({"b": [1, None], "a": "é"}) == hashlib.sha256('{"a":"é","b":[1,null]}'.encode()).hexdigest()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def shuffled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict):
        items = [(key, shuffled(inner, chance)) for key, inner in value.items()]
        chance.shuffle(items)
        return dict(items)
    return [shuffled(inner, chance) for inner in value] if isinstance(value, list) else value


@given(VALUES, st.randoms())
def test_the_digest_does_not_see_the_order_of_keys(value: Any, chance: random.Random) -> None:
    assert digest_of(shuffled(value, chance)) == digest_of(value)


def unordered(value: Any) -> Any:
    """The value as something hashable, in which only the order of keys is lost."""
    if isinstance(value, dict):
        return frozenset((key, unordered(inner)) for key, inner in value.items())
    return (*map(unordered, value),) if isinstance(value, list) else (type(value), repr(value))


@given(VALUES, VALUES)
def test_other_values_have_another_digest(one: Any, other: Any) -> None:
    if unordered(one) != unordered(other):
        assert digest_of(one) != digest_of(other)


@given(st.integers(), st.floats(min_value=1e-9, max_value=1e9))
def test_a_config_comes_back_from_its_own_dump(seed: int, rate: float) -> None:
    recipe = Recipe(seed=seed, optimiser=Optimiser(rate=rate))
    copy = Recipe.parse(json.loads(json.dumps(recipe.model_dump(mode="json"))), "dump")
    assert copy == recipe
    assert copy.digest() == recipe.digest()


def test_every_value_in_force_is_in_the_digest() -> None:
    assert Recipe().digest() == Recipe(seed=0, optimiser=Optimiser()).digest()
    changed = [
        Recipe(seed=1),
        Recipe(optimiser=Optimiser(rate=1)),
        Recipe(by_language={"python": Optimiser()}),
        Recipe(sources=(Folder(kind="folder", path="a"),)),
    ]
    assert len({recipe.digest() for recipe in [Recipe(), *changed]}) == 1 + len(changed)


class Loose(Config, extra="allow"):
    """Any keys."""


NAMES = st.text("abc", min_size=1, max_size=2)
TREES = st.recursive(st.integers(), lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=8)


@given(st.dictionaries(NAMES, TREES, max_size=3), st.lists(NAMES, min_size=1, max_size=3), st.integers())
def test_an_override_sets_one_value_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any], path: list[str], value: int
) -> None:
    file = written(tmp_path_factory.getbasetemp(), json.dumps(values))  # JSON is YAML, too
    override = f"{'.'.join(path)}={value}"
    here = expected = json.loads(json.dumps(values))
    for name in path[:-1]:
        here = here.setdefault(name, {})
        if not isinstance(here, dict):
            with pytest.raises(ConfigError, match="no keys"):
                load_config(Loose, file, [override])
            return
    here[path[-1]] = value
    assert load_config(Loose, file, [override]).model_dump() == expected
