"""The proposal: examples worked out by hand, and what holds whatever is at hand."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from codechoir.planning.corpus import Amount
from codechoir.planning.proposal import NUM_PROPOSED, AtHand, propose, shortcomings

ASKED = 100  # tokens
ENOUGH = Amount(1, 400, 1)


def at_hand(language: str, **changes: Any) -> AtHand:
    values: dict[str, Any] = {
        "language": language,
        "in_recipe": False,
        "there": ENOUGH,
        "taken": Amount(),
        "kept": None,
        "toolchain": "works",
        "toolchain_detail": "",
        "num_problems": 10,
        "problems_reason": "",
    }
    return AtHand(**(values | changes))


def proposed(*languages: AtHand) -> list[str]:
    return [choice.language for choice in propose(languages, ASKED) if choice.proposed]


def test_more_demands_met_come_first_then_the_recipes_own_then_more_data() -> None:
    ranked = propose(
        [
            at_hand("go", toolchain="none known"),
            at_hand("php", there=Amount(9, 9000, 1)),
            at_hand("lua", there=Amount(9, 500, 1)),
            at_hand("perl", in_recipe=True, taken=ENOUGH),
            at_hand("sql", toolchain="none known", num_problems=0, there=Amount(99, 10**9, 9)),
        ],
        ASKED,
    )
    assert [(choice.language, choice.proposed) for choice in ranked] == [
        ("perl", True), ("php", True), ("lua", True), ("go", True), ("sql", False)
    ]  # fmt: skip


def test_a_fifth_that_lacks_nothing_says_so() -> None:
    languages = [at_hand(name, there=Amount(1, 1000 - number, 1)) for number, name in enumerate("abcde")]
    assert proposed(*languages) == ["a", "b", "c", "d"]
    assert propose(languages, ASKED)[4].reason.endswith("but four others have as much, and more data")


def test_the_amount_that_counts() -> None:
    mine = {"in_recipe": True, "taken": Amount(1, 399, 1), "there": Amount(1, 10**6, 1)}
    short = propose([at_hand("python", **mine)], ASKED)[0].reason
    assert "only about 99 tokens of 100 asked for" in short
    kept = propose([at_hand("python", kept=Amount(1, 404, 1), **mine)], ASKED)[0].reason
    assert "about 101 tokens of 100 asked for" in kept and "only" not in kept
    assert "about 250,000 tokens" in propose([at_hand("python", there=Amount(1, 10**6, 1))], ASKED)[0].reason


def test_what_the_recipes_own_languages_lack_is_told() -> None:
    languages = [
        at_hand("python", in_recipe=True, taken=ENOUGH),
        at_hand("java", in_recipe=True, there=Amount(3, 77, 1), toolchain="missing", toolchain_detail="missing: javac"),
        at_hand("cpp", in_recipe=True, taken=ENOUGH, num_problems=0, problems_reason="no translation"),
        at_hand("go", num_problems=0),
    ]
    assert shortcomings(languages, ASKED) == [
        "java, which the recipe names, lacks data, a toolchain",
        "cpp, which the recipe names, lacks problems",
    ]
    reasons = {choice.language: choice.reason for choice in propose(languages, ASKED)}
    assert reasons["java"] == (
        "the sources give no file of it (77 bytes of it are there), its toolchain is missing (missing: javac); "
        "but 10 problems"
    )
    assert reasons["cpp"].endswith("; but no problems (no translation)")
    assert reasons["python"] == "about 100 tokens of 100 asked for, its toolchain works, 10 problems"
    assert proposed(*languages) == ["python", "cpp", "go"]


amounts = st.builds(Amount, st.just(1), st.integers(0, 1000), st.just(1))


@given(
    st.lists(
        st.builds(
            at_hand,
            st.sampled_from("abcdefgh"),
            in_recipe=st.booleans(),
            there=amounts,
            taken=amounts,
            kept=st.none() | amounts,
            toolchain=st.sampled_from(["works", "installed", "broken", "missing", "none known"]),
            num_problems=st.integers(0, 2),
        ),
        unique_by=lambda one: one.language,
    )
)
def test_whatever_is_at_hand(languages: list[AtHand]) -> None:
    choices = propose(languages, ASKED)
    assert [choice.proposed for choice in choices] == sorted((choice.proposed for choice in choices), reverse=True)
    assert sum(choice.proposed for choice in choices) <= NUM_PROPOSED
    by_name = {one.language: one for one in languages}
    assert {choice.language for choice in choices} == {
        one.language for one in languages if one.usable_bytes or one.in_recipe
    }
    for choice in choices:
        one = by_name[choice.language]
        demands = (one.num_tokens >= ASKED) + (one.toolchain == "works") + (one.num_problems > 0)
        assert choice.reason
        if choice.proposed:
            assert one.usable_bytes and demands >= 2
    assert set(proposed(*reversed(languages))) == set(proposed(*languages))  # their order says nothing
