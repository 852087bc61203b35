"""The stage whole: files in, files out, interrupted and taken up again."""

import json
import math

import pytest

from codechoir.artifacts import read_manifest
from codechoir.errors import InputError, ToolMissingError
from codechoir.evaluate import verdicts
from codechoir.evaluate.config import EvaluateConfig
from codechoir.evaluate.stage import evaluate, evaluate_completions
from codechoir.problems import ProblemSet
from codechoir.records import Completion, LogLikelihood, Problem, Score, Status, Verdict, read_records, write_records
from codechoir.sandbox import isolation
from codechoir.sandbox.programs import Outcome

CONFIG = EvaluateConfig(resamples=100, workers=2)
PROBLEMS = ProblemSet(
    {
        "python": tuple(
            Problem(
                name=f"P_{number}",
                language="python",
                prompt=f"def f{number}():\n",
                tests=f"assert f{number}() == {number}\n",
                stop_tokens=("\ndef",),
            )
            for number in range(4)
        )
    },
    {"java": "none here"},
    "digest of the problems",
)


def completion(problem, text, model="base", sample=0, temperature=0.0):
    return Completion(
        model=model,
        language="python",
        problem=problem,
        sample=sample,
        seed=0,
        temperature=temperature,
        text=text,
        finish="stop",
        num_tokens=3,
    )


RIGHT = [completion(f"P_{number}", f"    return {number}") for number in range(4)]
MIXED = [
    completion("P_0", "    return 0", "soup"),
    completion("P_1", "    return 0", "soup"),
    completion("P_2", "    return ((", "soup"),
    completion("P_3", "    exit()", "soup"),
]


def generated(folder, *groups):
    for group in groups:
        write_records(folder / group[0].model / "python.jsonl", group)
    return folder


def likelihoods(folder, model):
    records = [
        LogLikelihood(
            model=model,
            language="python",
            key=f"d{number}",
            package="p",
            num_bytes=10,
            num_tokens=4,
            log_likelihood=-10 * math.log(2) * number,
        )
        for number in range(3)
    ]
    write_records(folder / model / "python.likelihood.jsonl", records)
    return folder


def statuses(out, model):
    return {each.problem: each.status for each in read_records(Verdict, out / model / "python.jsonl")}


def scores(out):
    return {
        (each["model"], each["language"], each["metric"]): Score.model_validate(each)
        for each in json.loads((out / "scores.json").read_text())["scores"]
    }


def test_from_completions_and_likelihoods_to_scores(tmp_path):
    source = likelihoods(generated(tmp_path / "generate", RIGHT, MIXED), "base")
    manifest = evaluate(CONFIG, source, PROBLEMS, {"generate": "abc"}, tmp_path / "out")
    assert set(statuses(tmp_path / "out", "base").values()) == {Status.PASSED}
    assert statuses(tmp_path / "out", "soup") == {
        "P_0": Status.PASSED,
        "P_1": Status.FAILED_ASSERTION,
        "P_2": Status.DOES_NOT_COMPILE,
        "P_3": Status.RUNTIME_ERROR,
    }
    found = scores(tmp_path / "out")
    assert found["base", "python", "pass@1"].value == 1.0
    assert found["soup", "python", "pass@1"].value == 0.25
    assert found["base", "python", "bits_per_byte"].value == pytest.approx(1.0)
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["skipped"] == {"java": "none here"}
    assert manifest.inputs == {"generate": "abc", "problems": "digest of the problems"}
    facts = manifest.facts
    assert facts["toolchains"]["python"].startswith("Python 3.") and facts["sandbox"].startswith("bubblewrap ")
    assert facts["statuses"]["soup"]["python"] == {
        "does-not-compile": 1,
        "failed-assertion": 1,
        "passed": 1,
        "runtime-error": 1,
    }
    assert facts["problems"] == {"python": 4} and facts["skipped"] == {"java": "none here"}
    assert set(read_manifest(tmp_path / "out").outputs) == {"base/python.jsonl", "soup/python.jsonl", "scores.json"}
    (one, *_) = read_records(Verdict, tmp_path / "out" / "base" / "python.jsonl")
    assert one.toolchain == facts["toolchains"]["python"] and one.sandbox == facts["sandbox"]


class Runs:
    """What stands in for the sandbox: it notes programs, and is interrupted where a test says so."""

    def __init__(self):
        self.programs = []
        self.die_after = 10**9


@pytest.fixture
def runs(monkeypatch):
    runs = Runs()

    def run_program(_sandbox, _toolchain, program, _limits):
        if len(runs.programs) >= runs.die_after:
            raise KeyboardInterrupt
        runs.programs.append(program)
        status = Status.HARNESS_ERROR if "broken" in program else Status.PASSED
        return Outcome(status, 0, None, 0.1, 0.1, program)

    monkeypatch.setattr(verdicts, "run_program", run_program)
    monkeypatch.setattr(verdicts, "check_toolchain", lambda _sandbox, toolchain: f"{toolchain.language} 1.0")
    return runs


def test_identical_programs_are_run_once(tmp_path, runs):
    again = [each.model_copy(update={"model": "soup"}) for each in RIGHT]
    more = [each.model_copy(update={"sample": 1}) for each in RIGHT]
    evaluate(CONFIG, generated(tmp_path / "g", [*RIGHT, *more], again), PROBLEMS, {}, tmp_path / "out")
    assert len(runs.programs) == 4
    assert runs.programs.count("def f2():\n    return 2\nassert f2() == 2\n") == 1  # prompt + completion + \n + tests
    assert len(list(read_records(Verdict, tmp_path / "out" / "base" / "python.jsonl"))) == 8
    assert len(list(read_records(Verdict, tmp_path / "out" / "soup" / "python.jsonl"))) == 4


@pytest.mark.parametrize("die_after", range(5))
def test_an_interrupted_run_loses_nothing_and_runs_nothing_twice(tmp_path, runs, die_after):
    source, out = generated(tmp_path / "g", RIGHT), tmp_path / "out"
    one = EvaluateConfig(resamples=100, workers=1)
    runs.die_after = die_after
    if die_after < 4:
        with pytest.raises(KeyboardInterrupt):
            evaluate(one, source, PROBLEMS, {}, out)
        assert not (out / "manifest.json").exists()
    runs.die_after = 10**9
    evaluate(CONFIG, source, PROBLEMS, {}, out)  # the number of workers is no part of what was asked for
    assert len(runs.programs) == len(set(runs.programs)) == 4
    lines = list(read_records(Verdict, out / "base" / "python.jsonl"))
    assert sorted(each.problem for each in lines) == ["P_0", "P_1", "P_2", "P_3"]
    assert scores(out)["base", "python", "pass@1"].count == 4
    evaluate(CONFIG, source, PROBLEMS, {}, out)
    assert len(runs.programs) == 4


def test_a_line_torn_by_a_kill_is_run_again(tmp_path, runs):
    again = [each.model_copy(update={"model": "soup"}) for each in RIGHT]
    source, out = generated(tmp_path / "g", RIGHT, again), tmp_path / "out"
    runs.die_after = 2
    with pytest.raises(KeyboardInterrupt):
        evaluate(EvaluateConfig(resamples=100, workers=1), source, PROBLEMS, {}, out)
    # as after kill -9: both programs were judged for the one model, and the second line of the other is torn
    file = out / "soup" / "python.jsonl"
    whole = file.read_text()
    file.write_text(whole[:-20])
    runs.die_after = 10**9
    evaluate(CONFIG, source, PROBLEMS, {}, out)
    assert len(runs.programs) == 4  # the torn one's verdict is the other model's of the same program
    for model in ("base", "soup"):
        assert sorted(statuses(out, model)) == ["P_0", "P_1", "P_2", "P_3"]
        assert len((out / model / "python.jsonl").read_text().splitlines()) == 4


def test_programs_that_could_not_be_run_are_reported_and_leave_the_score_undefined(tmp_path, runs, capsys):
    given = [*RIGHT[:3], completion("P_3", "    broken")]
    manifest = evaluate(CONFIG, generated(tmp_path / "g", given), PROBLEMS, {}, tmp_path / "out")
    assert manifest.facts["statuses"]["base"]["python"] == {"harness-error": 1, "passed": 3}
    assert math.isnan(scores(tmp_path / "out")["base", "python", "pass@1"].value)
    assert "1 programs could not be run" in capsys.readouterr().err
    assert runs.programs


@pytest.mark.usefixtures("runs")
def test_anybodys_completions(tmp_path):
    mine = [each.model_copy(update={"model": "some/model"}) for each in RIGHT]
    write_records(tmp_path / "completions.jsonl", mine)
    manifest = evaluate_completions(CONFIG, tmp_path / "completions.jsonl", PROBLEMS, tmp_path / "out")
    assert set(manifest.outputs) == {"some--model/python.jsonl", "scores.json"}
    assert scores(tmp_path / "out")["some/model", "python", "pass@1"].value == 1.0


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (RIGHT[:2], "problems without a completion"),
        ([*RIGHT, RIGHT[0]], "occurs twice"),
        ([*RIGHT, completion("P_9", "")], "not among the problems"),
        ([*RIGHT[:3], completion("P_3", "", temperature=0.8)], "several temperatures"),
        ([RIGHT[0].model_copy(update={"model": ".."})], "cannot name a folder"),
        ([], "holds no completions"),
    ],
)
def test_completions_that_would_make_a_wrong_score_are_refused(tmp_path, given, said):
    write_records(tmp_path / "completions.jsonl", given)
    with pytest.raises(InputError, match=said):
        evaluate_completions(CONFIG, tmp_path / "completions.jsonl", PROBLEMS, tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_missing_problems_are_named(tmp_path, runs):
    with pytest.raises(InputError, match=r"base, python: 2 of 4: P_2, P_3"):
        evaluate(CONFIG, generated(tmp_path / "g", RIGHT[:2]), PROBLEMS, {}, tmp_path / "out")
    assert not runs.programs


def test_a_folder_without_generated_files_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        evaluate(CONFIG, tmp_path / "none", PROBLEMS, {}, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no completions"):
        evaluate(CONFIG, tmp_path / "empty", PROBLEMS, {}, tmp_path / "out")


def test_without_a_sandbox_completions_stop_the_stage_but_likelihoods_do_not(tmp_path, monkeypatch):
    monkeypatch.setattr(isolation, "SEARCH_PATH", str(tmp_path))
    with pytest.raises(ToolMissingError, match="bubblewrap"):
        evaluate(CONFIG, generated(tmp_path / "g", RIGHT), PROBLEMS, {}, tmp_path / "out")
    manifest = evaluate(CONFIG, likelihoods(tmp_path / "l", "base"), PROBLEMS, {}, tmp_path / "out2")
    assert manifest.facts["statuses"] == {} and manifest.facts["sandbox"] == "not needed"
    assert scores(tmp_path / "out2")["base", "python", "bits_per_byte"].count == 3
