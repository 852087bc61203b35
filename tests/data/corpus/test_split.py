"""The split: named packages, seeded choice, packages that near-duplicates link, and the errors of an empty side."""

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.data.config import CurateConfig
from codechoir.data.corpus.split import held_out_packages
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


def below(names: set[str], seed: int, fraction: float) -> set[str]:
    """The names whose SHA-256, read as a fraction, lies below the share."""
    digests = {name: hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()[:16] for name in names}
    return {name for name in names if int(digests[name], 16) / 2**64 < fraction}


@given(NAMES, st.integers(0, 9), st.floats(0.01, 0.9))
def test_the_choice_is_the_names_below_the_share_with_one_on_each_side(
    names: set[str], seed: int, fraction: float
) -> None:
    chosen = held_out_packages({"python": names}, config(seed=seed, held_out_fraction=fraction))
    assert chosen == held_out_packages({"python": sorted(names)}, config(seed=seed, held_out_fraction=fraction))
    assert 1 <= len(chosen) < len(names)
    expected = below(names, seed, fraction)
    if 0 < len(expected) < len(names):
        assert chosen == expected
    else:
        assert len(chosen) in (1, len(names) - 1)


@given(NAMES, NAMES, st.integers(0, 9))
def test_packages_added_move_no_other(names: set[str], added: set[str], seed: int) -> None:
    values = {"seed": seed, "held_out_fraction": 0.4}
    if 0 < len(below(names, seed, 0.4)) < len(names):
        before, after = (held_out_packages({"python": some}, config(**values)) for some in (names, names | added))
        assert after & names == before


def test_the_share_of_many_packages_is_held_out() -> None:
    names = {"python": {f"package-{number}" for number in range(2000)}}
    choices = {held_out_packages(names, config(seed=seed)) for seed in range(5)}
    assert len(choices) == 5
    assert all(150 < len(chosen) < 250 for chosen in choices)  # 200, and 3.7 standard deviations


PAIRS = st.lists(st.tuples(st.sampled_from("abcdefghz"), st.sampled_from("abcdefghz")), max_size=4)


@given(PAIRS, st.integers(0, 9), st.sampled_from([None, ["a"], ["a", "c"]]))
def test_linked_packages_are_on_one_side(links: list[tuple[str, str]], seed: int, named: list[str] | None) -> None:
    packages = {"java": set("abcdefgh"), "cpp": set("xy")}
    values: dict[str, Any] = {"seed": seed, "held_out": {"java": named} if named else {}}
    chosen = held_out_packages(packages, config(**values), links)
    assert chosen == held_out_packages(packages, config(**values), [(b, a) for a, b in reversed(links)])
    for one, other in links:  # z has no documents
        assert "z" in (one, other) or (one in chosen) == (other in chosen)
    assert set(named or ()) <= chosen


def test_a_link_crosses_languages_and_other_links() -> None:
    packages = {"java": {"a", "b", "c", "d"}, "cpp": {"c", "e", "f"}}
    held_out = {"java": ["a"], "cpp": ["f"]}
    assert held_out_packages(packages, config(held_out=held_out), [("a", "b"), ("b", "c")]) == {"a", "b", "c", "f"}


def test_linked_packages_go_where_the_first_by_name_goes() -> None:
    names = {f"package-{number}" for number in range(10, 50)}
    for seed in range(40):
        before, after = (
            held_out_packages({"cpp": names}, config(seed=seed, held_out_fraction=0.3), links)
            for links in ([], [("package-31", "package-20")])
        )
        assert ("package-31" in after) == ("package-20" in before)
        assert after - {"package-31"} == before - {"package-31"}


def test_links_that_leave_nothing_to_train_on_are_told() -> None:
    packages = {"java": {"a", "b", "c"}}
    with pytest.raises(ConfigError, match="no train package for java") as caught:
        held_out_packages(packages, config(held_out={"java": ["b"]}), [("c", "b"), ("a", "c")])
    assert "near-duplicates tie together: a, b, c" in str(caught.value)
    with pytest.raises(ConfigError, match="near-duplicates tie together: a, b, c"):
        held_out_packages(packages, config(), [("c", "b"), ("a", "c")])


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
