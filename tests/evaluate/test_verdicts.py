"""The order of work: once each, time-outs again and alone, a few at a time, and on from where a kill has left it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.evaluate.made import Runs, completion, problem_set, right

from codechoir.evaluate.config import EvaluateConfig
from codechoir.evaluate.given import Completions, find
from codechoir.evaluate.ledger import problems_by_name
from codechoir.evaluate.verdicts import Judged, judge
from codechoir.problems import ProblemSet
from codechoir.records import Completion, Status, Verdict, read_records, write_records

PROBLEMS = problem_set()


def run(
    folder: Path, *groups: list[Completion], workers: int = 2, problems: ProblemSet = PROBLEMS, out: str = "out"
) -> Judged:
    for group in groups:
        write_records(folder / "given" / group[0].model / f"{group[0].language}.jsonl", group)
    config = EvaluateConfig(sandbox="unsafe-no-sandbox", workers=workers)
    return judge(Completions(find(folder / "given"), problems_by_name(problems)), problems, config, folder / out)


def verdicts(folder: Path, model: str = "base", out: str = "out") -> list[Verdict]:
    return sorted(read_records(Verdict, folder / out / model / "python.jsonl"), key=lambda each: each.problem)


def test_identical_programs_are_run_once(tmp_path: Path, runs: Runs) -> None:
    judged = run(tmp_path, [*right(), *right(sample=1)], [*right(model="soup"), *right(model="soup", sample=1)])
    assert len(runs.programs) == 4
    assert runs.programs.count("def f2():\n    return 2\nassert f2() == 2\n") == 1  # prompt + completion + \n + tests
    assert len(verdicts(tmp_path)) == 8
    assert len(verdicts(tmp_path, "soup")) == 8
    assert judged.flakes.programs == 4 and judged.flakes.rate == 0.0
    assert runs.open_runners == 0


def test_the_same_text_in_another_language_is_another_program(tmp_path: Path, runs: Runs) -> None:
    run(tmp_path, right(), right(language="cpp"), problems=problem_set(("python", "cpp")))
    assert len(runs.programs) == 8


def test_a_verdict_tells_how_it_was_come_by(tmp_path: Path, runs: Runs) -> None:
    run(tmp_path, right(temperature=0.2))
    assert runs.programs
    (found, *_) = verdicts(tmp_path)
    assert (found.toolchain, found.sandbox, found.problems) == ("python 1.0", "none", "digest of the problems")
    assert (found.attempts, found.memory_mib, found.temperature, found.cpu_seconds) == (1, 12.5, 0.2, 0.1)


def test_a_time_out_is_run_again_alone_when_all_else_is_done_and_the_second_counts(tmp_path: Path, runs: Runs) -> None:
    runs.endings = {
        "return 0": (Status.TIME_OUT, Status.PASSED),
        "return 1": (Status.TIME_OUT, Status.TIME_OUT),
        "return 2": (Status.TIME_OUT, Status.FAILED_ASSERTION),
    }
    judged = run(tmp_path, right(), right(model="soup"))
    assert len(runs.programs) == 4 + 3
    assert sorted(runs.programs[:4]) == sorted(set(runs.programs))
    assert len(set(runs.threads[4:])) == 1  # one at a time
    for model in ("base", "soup"):
        found = [(each.status, each.attempts) for each in verdicts(tmp_path, model)]
        assert found == [
            (Status.PASSED, 2), (Status.TIME_OUT, 2), (Status.FAILED_ASSERTION, 2), (Status.PASSED, 1)
        ]  # fmt: skip
    flakes = judged.flakes
    assert (flakes.programs, flakes.time_outs, flakes.recovered, flakes.rate) == (4, 3, 2, 0.5)
    first = list(read_records(Verdict, tmp_path / "out" / "first-time-outs.jsonl"))
    assert sorted(each.problem for each in first) == ["P_0", "P_1", "P_2"]
    assert {(each.status, each.attempts) for each in first} == {(Status.TIME_OUT, 1)}


def test_no_other_runner_is_up_while_a_time_out_is_run_again(tmp_path: Path, runs: Runs) -> None:
    runs.endings = {"return 0": (Status.TIME_OUT, Status.PASSED)}
    up: list[int] = []
    runs.watch = lambda _: up.append(runs.open_runners)
    run(tmp_path, right(), workers=3)
    assert up[-1] == 1 and runs.open_runners == 0


@pytest.mark.parametrize("die_after", range(6))
def test_an_interrupted_run_loses_nothing_and_runs_nothing_twice(tmp_path: Path, runs: Runs, die_after: int) -> None:
    runs.endings = {"return 1": (Status.TIME_OUT, Status.PASSED)}
    runs.die_after = die_after
    if die_after < 5:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, right(), workers=1)
    runs.die_after = 10**9
    judged = run(tmp_path, right(), workers=2)
    assert len(runs.programs) == 5 and len(set(runs.programs)) == 4  # the time-out twice in all, whenever it was killed
    assert [each.problem for each in verdicts(tmp_path)] == ["P_0", "P_1", "P_2", "P_3"]
    assert (judged.flakes.time_outs, judged.flakes.recovered) == (1, 1)
    run(tmp_path, right())
    assert len(runs.programs) == 5


def test_a_line_torn_by_a_kill_is_the_other_models_of_the_same_program(tmp_path: Path, runs: Runs) -> None:
    groups = (right(), right(model="soup"))
    runs.die_after = 2
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, *groups, workers=1)
    # as after kill -9: both programs were judged for the one model, and the second line of the other is torn
    file = tmp_path / "out" / "soup" / "python.jsonl"
    file.write_text(file.read_text()[:-20])
    runs.die_after = 10**9
    run(tmp_path, *groups)
    assert len(runs.programs) == 4
    for model in ("base", "soup"):
        assert [each.problem for each in verdicts(tmp_path, model)] == ["P_0", "P_1", "P_2", "P_3"]
        assert {each.model for each in verdicts(tmp_path, model)} == {model}


def test_verdicts_by_another_compiler_are_not_taken_up(tmp_path: Path, runs: Runs) -> None:
    runs.die_after = 2
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, right(), workers=1)
    runs.die_after, runs.version = 10**9, "2.0"
    run(tmp_path, right())
    assert {each.toolchain for each in verdicts(tmp_path)} == {"python 2.0"}
    assert len(verdicts(tmp_path)) == 4


def test_few_programs_wait_in_line(tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Completions are read as workers become free: while the first program runs, most are still unread."""
    count, read, seen = 200, [], []
    pick = Completions.__getitem__
    monkeypatch.setattr(Completions, "__getitem__", lambda self, place: read.append(place) or pick(self, place))
    started = threading.Event()

    def watch(_: str) -> None:
        if not seen:
            started.wait(0.2)  # gives the reader all the time it could want
        seen.append(len(read))

    runs.watch = watch
    run(tmp_path, right(count), workers=1, problems=problem_set(count=count))
    assert seen[0] <= 5 and seen[-1] == count


def test_slow_languages_are_run_first(tmp_path: Path, runs: Runs) -> None:
    runs.seconds = {"python": 0.1, "cpp": 2.0}
    slow = [each.model_copy(update={"text": "    slow"}) for each in right(language="cpp")]
    run(tmp_path, right(), slow, workers=1, problems=problem_set(("python", "cpp")))
    assert ["slow" in program for program in runs.programs] == [True] * 4 + [False] * 4


def test_after_a_success_the_other_samples_are_run_too(tmp_path: Path, runs: Runs) -> None:
    more = [completion(f"P_{n}", f"    return {n} + {sample}", sample=sample) for n in range(4) for sample in (1, 2)]
    judged = run(tmp_path, [*right(), *more])
    assert len(runs.programs) == 12
    assert list(judged.ledger.tallies()["base"]["python"].num_samples) == [3] * 4


def test_programs_that_could_not_be_run_are_told(
    tmp_path: Path, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.endings = {"return 3": (Status.HARNESS_ERROR,)}
    judged = run(tmp_path, right(), right(model="soup"))
    assert "2 completions could not be run" in capsys.readouterr().err
    assert list(judged.ledger.tallies()["soup"]["python"].num_broken) == [0, 0, 0, 1]


def test_nothing_to_judge_needs_no_sandbox(tmp_path: Path, runs: Runs) -> None:
    completions = Completions(find(_empty(tmp_path)), {})
    judged = judge(completions, ProblemSet({}, {}, ""), EvaluateConfig(), tmp_path / "out")
    assert judged.sandbox == "not needed" and runs.programs == []


def _empty(folder: Path) -> Path:
    (folder / "none.jsonl").write_text("")
    return folder / "none.jsonl"
