"""The split: named packages, seeded choice, and the errors of an empty side."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.data.config import CurateConfig
from codechoir.data.split import held_out_packages
from codechoir.errors import ConfigError

NAMES = st.sets(st.text(alphabet="abcdefgh", min_size=1, max_size=6), min_size=2, max_size=30)


def config(**values: Any) -> CurateConfig:
    source = {"kind": "folder", "path": "x", "licence": "MIT"}
    return CurateConfig.parse({"sources": [source], **values}, "test")


def test_named_packages_are_held_out_in_all_their_languages() -> None:
    packages = {"java": {"both", "a"}, "cpp": {"both", "b", "c"}}
    assert held_out_packages(packages, config(held_out={"java": ["both"], "cpp": ["b"]})) == {"both", "b"}


def test_names_for_languages_that_are_not_run_are_not_looked_at() -> None:
    assert held_out_packages({"java": {"a", "b"}}, config(held_out={"java": ["a"], "cpp": ["zzz"]})) == {"a"}


@given(NAMES, st.integers(0, 9), st.floats(0.01, 0.5))
def test_the_choice_is_a_share_and_depends_on_names_and_seed_alone(names: set[str], seed: int, fraction: float) -> None:
    chosen = held_out_packages({"python": names}, config(seed=seed, held_out_fraction=fraction))
    assert chosen == held_out_packages({"python": sorted(names)}, config(seed=seed, held_out_fraction=fraction))
    assert 1 <= len(chosen) < len(names)
    assert fraction * len(names) <= len(chosen) < fraction * len(names) + 1


def test_another_seed_chooses_others() -> None:
    names = {"python": {f"package-{number}" for number in range(40)}}
    choices = {held_out_packages(names, config(seed=seed)) for seed in range(5)}
    assert len(choices) == 5
    assert all(len(chosen) == 4 for chosen in choices)


@pytest.mark.parametrize(
    ("packages", "values", "message"),
    [
        ({"java": {"a"}}, {}, "no train package for java"),
        ({"java": {"a", "b"}}, {"held_out": {"java": ["a", "b"]}}, "no train package for java"),
        ({"java": {"a", "b"}}, {"held_out": {"java": ["c"]}}, "have no java documents"),
        ({"java": {"a", "b"}, "cpp": {"a"}}, {"held_out": {"java": ["a"]}}, "no train package for cpp"),
    ],
)
def test_a_side_without_packages_is_an_error(packages: dict[str, set[str]], values: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        held_out_packages(packages, config(**values))


def test_an_empty_list_of_held_out_packages_is_refused() -> None:
    with pytest.raises(ConfigError, match="held_out names no package for java"):
        config(held_out={"java": []})
