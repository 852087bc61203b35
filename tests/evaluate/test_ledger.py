"""What is counted, what is found identical, and what is refused before anything is run."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.evaluate.made import completion, problem_set, right

from codechoir.errors import InputError
from codechoir.evaluate.ledger import Ledger
from codechoir.problems import ProblemSet
from codechoir.records import Completion, Status, Verdict

PROBLEMS = problem_set()
NOTHING = ProblemSet({}, {}, "")


def verdict(each: Completion, status: Status = Status.PASSED) -> Verdict:
    return Verdict(
        model=each.model, language=each.language, problem=each.problem, sample=each.sample,
        temperature=each.temperature, status=status, exit_code=0, signal=None, cpu_seconds=0, wall_seconds=0,
        memory_mib=0, output="", attempts=1, toolchain="", sandbox="", problems="",
    )  # fmt: skip


@st.composite
def batches(draw: st.DrawFn) -> list[Completion]:
    """Every problem of two languages, n samples each, of two models, in any order; few different texts."""
    n = draw(st.integers(1, 3))
    every = itertools.product(("a", "b"), ("python", "cpp"), range(3), range(n))
    texts = st.sampled_from(["x", "y", ""])
    made = [
        completion(f"P_{number}", draw(texts), model=model, language=language, sample=sample, seed=sample)
        for model, language, number, sample in every
    ]
    return draw(st.permutations(made))


@given(batches(), st.data())
def test_the_ledger_is_the_plain_count(made: list[Completion], data: st.DataObject) -> None:
    problems = problem_set(("python", "cpp"), 3)
    ledger = Ledger(made, problems)
    assert len(ledger) == len(made)
    programs = {(each.language, each.problem, each.text) for each in made}
    assert ledger.num_programs == len(programs)
    for position, each in enumerate(made):
        assert ledger.position(verdict(each)) == position
        group = ledger.group(position)
        here = (group.model, group.language, ledger.problem(position).name, ledger.sample(position))
        assert here == (each.model, each.language, each.problem, each.sample)
        same = [(o.language, o.problem, o.text) == (each.language, each.problem, each.text) for o in made]
        assert ledger.sharers(ledger.program(position)) == [place for place, is_same in enumerate(same) if is_same]
    assert ledger.same_seeds
    statuses = {each: data.draw(st.sampled_from(Status)) for each in sorted(programs)}
    expected: dict[tuple[str, str], list[Status]] = {}
    for position, each in enumerate(made):
        status = statuses[each.language, each.problem, each.text]
        ledger.enter_verdict(position, status, 1)
        expected.setdefault((each.model, each.language), []).append(status)
    found = ledger.statuses()
    for (model, language), ended in expected.items():
        assert found[model][language] == {each.value: ended.count(each) for each in sorted(set(ended))}
        tally = ledger.tallies()[model][language]
        for place, name in enumerate(tally.problems):
            mine = [statuses[e.language, e.problem, e.text] for e in made if (e.model, e.language, e.problem) == (
                model, language, name)]  # fmt: skip
            assert tally.num_samples[place] == len(mine)
            assert tally.num_passed[place] == mine.count(Status.PASSED)
            assert tally.num_broken[place] == mine.count(Status.HARNESS_ERROR)
    for number in range(4):
        for positions in ledger.by_problem(number):
            assert [ledger.sample(position) for position in positions] == list(range(len(positions)))
            assert len({ledger.problem(position).name for position in positions}) == 1


def test_nothing_is_an_empty_ledger() -> None:
    ledger = Ledger([], NOTHING)
    assert (len(ledger), ledger.num_programs, ledger.tallies(), ledger.statuses()) == (0, 0, {}, {})
    assert list(ledger.pending({})) == [] and ledger.same_seeds


def test_the_slowest_language_comes_first_and_within_one_the_files_order_stays() -> None:
    made = [*right(model="a"), *right(model="a", language="cpp")]
    ledger = Ledger(made, problem_set(("python", "cpp")))
    assert list(ledger.pending({"python": 0.1, "cpp": 2.0})) == [4, 5, 6, 7, 0, 1, 2, 3]
    ledger.enter_verdict(5, Status.PASSED, 1)
    assert list(ledger.pending({"python": 2.0, "cpp": 1.0})) == [0, 1, 2, 3, 4, 6, 7]


def test_a_verdict_on_anything_else_is_on_none_of_these() -> None:
    ledger = Ledger(right(), PROBLEMS)
    other = verdict(right()[0])
    for changes in ({"model": "x"}, {"language": "cpp"}, {"problem": "P_9"}, {"sample": 1}, {"sample": -1}):
        assert ledger.position(other.model_copy(update=changes)) is None


def test_different_seeds_are_noticed() -> None:
    one, other = right(model="a", seed=1), right(model="b", seed=2)
    assert not Ledger([*one, *other], PROBLEMS).same_seeds
    assert Ledger([*one, *right(model="b", seed=1)], PROBLEMS).same_seeds


MORE = right(sample=1)


@pytest.mark.parametrize(
    ("given", "said", "seen"),
    [
        (right()[:2], "problems without a completion", "base, python: 2 of 4: P_2, P_3"),
        ([*right(), right()[0]], "occurs twice", "base, python, P_0, sample 0"),
        ([*right(), completion("P_9", "")], "not among the problems", "P_9"),
        ([*right(), completion("P_0", "", language="java")], "not among the problems", "java"),
        ([*right()[:3], completion("P_3", "", temperature=0.8)], "several temperatures", "0.0 and 0.8"),
        ([*right(), *right(model="b", temperature=0.2)], "several temperatures", "b, python"),
        # what a harness leaves that stops at a problem's first success
        ([*right(), *MORE[:3]], "differ in their number of completions", "base, python, P_3: 1"),
        ([*right(), *right(model="b"), *right(model="b", sample=1)], "differ in their number", "b, python, P_0: 2"),
        ([*right(), completion("P_0", "", sample=-1)], "out of range", "sample -1"),
        ([*right(), completion("P_0", "", sample=2**31)], "out of range", "sample 2147483648"),
        (right(model=".."), "cannot name a folder", "'..'"),
        (right(model="a\\0b".replace("\\0", "\0")), "cannot name a folder", "'a\\x00b'"),
        (right(model="multipl-e"), "cannot name a folder", "multipl-e"),
        (right(model="scores.json"), "cannot name a folder", "scores.json"),
        ([*right(model="a/b"), *right(model="a--b")], "cannot name a folder of its own", "a--b"),
    ],
)
def test_completions_that_would_make_a_wrong_score_are_refused(given: list[Completion], said: str, seen: str) -> None:
    with pytest.raises(InputError, match=said) as refused:
        Ledger(given, PROBLEMS)
    assert seen in str(refused.value)


def test_an_expert_need_not_answer_in_every_language() -> None:
    made = [*right(model="base"), *right(model="base", language="cpp"), *right(model="expert-cpp", language="cpp")]
    assert {model: set(by) for model, by in Ledger(made, problem_set(("python", "cpp"))).tallies().items()} == {
        "base": {"python", "cpp"}, "expert-cpp": {"cpp"}
    }  # fmt: skip
