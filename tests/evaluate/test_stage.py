"""The stage whole: files in, files out."""

from __future__ import annotations

import gzip
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.evaluate.made import Runs, completion, problem_set, right

from codechoir.artifacts import read_manifest
from codechoir.errors import InputError, ToolMissingError
from codechoir.evaluate.config import EvaluateConfig
from codechoir.evaluate.given import find
from codechoir.evaluate.stage import evaluate, evaluate_given
from codechoir.problems import ProblemSet
from codechoir.records import (
    Completion,
    Infilling,
    LogLikelihood,
    Score,
    Status,
    Verdict,
    read_records,
    write_records,
)
from codechoir.sandbox import isolation

CONFIG = EvaluateConfig(resamples=100, workers=2)
PROBLEMS = problem_set()
MIXED = [
    completion("P_0", "    return 0", model="soup"),
    completion("P_1", "    return 0", model="soup"),
    completion("P_2", "    return ((", model="soup"),
    completion("P_3", "    exit()", model="soup"),
]


def generated(folder: Path, *groups: list[Completion]) -> Path:
    for group in groups:
        write_records(folder / group[0].model / "python.jsonl", group)
    return folder


def likelihoods(folder: Path, model: str) -> Path:
    records = [
        LogLikelihood(
            model=model, language="python", key=f"d{number}", package=f"p{number}", num_bytes=10, num_tokens=4,
            log_likelihood=-10 * math.log(2) * number,
        )
        for number in range(3)
    ]  # fmt: skip
    write_records(folder / model / "python.likelihood.jsonl", records)
    return folder


def infillings(folder: Path, model: str) -> Path:
    records = [
        Infilling(
            model=model, language="python", key=f"g{number}", package="p", mode="psm", expected="x = 1",
            text="x = 1" if number else "y", num_tokens=3,
        )
        for number in range(4)
    ]  # fmt: skip
    write_records(folder / model / "python.infill.jsonl", records)
    return folder


def statuses(out: Path, model: str) -> dict[str, Status]:
    return {each.problem: each.status for each in read_records(Verdict, out / model / "python.jsonl")}


def scores(out: Path) -> dict[tuple[str, str, str], Score]:
    return {
        (each["model"], each["language"], each["metric"]): Score.model_validate(each)
        for each in json.loads((out / "scores.json").read_text())["scores"]
    }


def test_from_completions_infillings_and_likelihoods_to_scores(tmp_path: Path) -> None:
    source = infillings(likelihoods(generated(tmp_path / "generate", right(), MIXED), "base"), "base")
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
    assert found["base", "python", "infill_exact_match"].value == 0.75
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
    assert facts["time_outs"] == {"programs": 7, "first": 0, "recovered": 0, "flake_rate": 0.0}
    assert facts["same_seeds"] is True
    (one, *_) = read_records(Verdict, tmp_path / "out" / "base" / "python.jsonl")
    assert one.toolchain == facts["toolchains"]["python"] and one.sandbox == facts["sandbox"]
    assert one.memory_mib > 0 and one.problems == "digest of the problems"


@pytest.mark.usefixtures("runs")
def test_the_manifest_lists_the_verdicts_and_multipl_es_files(tmp_path: Path) -> None:
    source = generated(tmp_path / "g", right(), MIXED)
    plain = EvaluateConfig(resamples=100, multipl_e=False)
    evaluate(plain, source, PROBLEMS, {}, tmp_path / "plain")
    held = {"base/python.jsonl", "soup/python.jsonl", "scores.json"}
    assert set(read_manifest(tmp_path / "plain").outputs) == held
    evaluate(CONFIG, source, PROBLEMS, {}, tmp_path / "out")
    theirs = {
        f"multipl-e/{model}/python/P_{number}{kind}.json.gz"
        for model in ("base", "soup")
        for number in range(4)
        for kind in ("", ".results")
    }
    assert set(read_manifest(tmp_path / "out").outputs) == held | theirs


def test_what_is_done_is_not_done_again(tmp_path: Path, runs: Runs) -> None:
    source, out = generated(tmp_path / "g", right()), tmp_path / "out"
    evaluate(CONFIG, source, PROBLEMS, {"generate": "a"}, out)
    # the number of workers is no part of what was asked for
    evaluate(CONFIG.model_copy(update={"workers": 1}), source, PROBLEMS, {"generate": "a"}, out)
    assert len(runs.programs) == 4
    # completions of another origin: nothing of the first evaluation is averaged in
    evaluate(CONFIG, source, PROBLEMS, {"generate": "b"}, out)
    assert len(runs.programs) == 8
    assert len(list(read_records(Verdict, out / "base" / "python.jsonl"))) == 4


@pytest.mark.parametrize("stop_at", ["scores", "multipl-e"])
def test_a_run_that_ends_between_judging_and_the_manifest_is_taken_up(
    tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch, stop_at: str
) -> None:
    source, out = generated(tmp_path / "g", right()), tmp_path / "out"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    name = {"scores": "score", "multipl-e": "write_multipl_e"}[stop_at]
    with monkeypatch.context() as patched:
        patched.setattr(f"codechoir.evaluate.stage.{name}", stop)
        with pytest.raises(KeyboardInterrupt):
            evaluate(CONFIG, source, PROBLEMS, {}, out)
    assert not (out / "manifest.json").exists()
    evaluate(CONFIG, source, PROBLEMS, {}, out)
    assert len(runs.programs) == 4
    assert scores(out)["base", "python", "pass@1"].count == 4


def estimator(n: int, c: int, k: int) -> float:
    """The numerically stable form printed in the Codex paper, figure 3."""
    return 1.0 if n - c < k else float(1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))


def by_their_rule(folder: Path, k: int) -> float:
    """pass@k as MultiPL-E's users compute it: over the results files of one folder, OK and exit code 0."""
    rates = []
    for path in folder.glob("*.results.json.gz"):
        results: list[dict[str, Any]] = json.loads(gzip.decompress(path.read_bytes()))["results"]
        passed = sum(each["status"] == "OK" and each["exit_code"] == 0 for each in results)
        rates.append(estimator(len(results), passed, k))
    return float(np.mean(rates))


@pytest.mark.usefixtures("runs")
def test_their_pass_k_of_our_files_is_ours_and_ours_of_theirs_is_the_same(tmp_path: Path, runs: Runs) -> None:
    runs.endings = {"bad": (Status.FAILED_ASSERTION,), "slow": (Status.TIME_OUT,), "quit": (Status.RUNTIME_ERROR,)}
    texts = ["good", "bad", "slow", "quit", "good", "bad"]
    made = [
        completion(f"P_{number}", f"    {texts[(number * sample) % 6]} {sample}", sample=sample, temperature=0.2)
        for sample in range(5)
        for number in range(4)
    ]
    config = EvaluateConfig(resamples=100, pass_k=(1, 3))
    evaluate(config, generated(tmp_path / "g", made), PROBLEMS, {}, tmp_path / "out")
    ours = {k: scores(tmp_path / "out")["base", "python", f"pass@{k}"].value for k in (1, 3)}
    folder = tmp_path / "out" / "multipl-e" / "base" / "python"
    assert ours == pytest.approx({k: by_their_rule(folder, k) for k in (1, 3)})
    assert 0 < ours[1] < ours[3] < 1
    for again in ("completions", "results"):
        if again == "results":
            for path in folder.glob("P_?.json.gz"):
                path.unlink()
        evaluate_given(config, find(tmp_path / "out" / "multipl-e"), PROBLEMS, tmp_path / again)
        assert {k: scores(tmp_path / again)["base", "python", f"pass@{k}"].value for k in (1, 3)} == ours


def test_a_harness_error_leaves_the_score_undefined_and_no_files_that_would_call_it_a_failure(
    tmp_path: Path, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.endings = {"broken": (Status.HARNESS_ERROR,)}
    given = [*right()[:3], completion("P_3", "    broken")]
    manifest = evaluate(CONFIG, generated(tmp_path / "g", given, right(model="soup")), PROBLEMS, {}, tmp_path / "out")
    assert manifest.facts["statuses"]["base"]["python"] == {"harness-error": 1, "passed": 3}
    assert math.isnan(scores(tmp_path / "out")["base", "python", "pass@1"].value)
    assert [path.name for path in (tmp_path / "out" / "multipl-e").iterdir()] == ["soup"]
    assert "no MultiPL-E files of base in python" in capsys.readouterr().err


@pytest.mark.usefixtures("runs")
def test_anybodys_completions(tmp_path: Path) -> None:
    write_records(tmp_path / "completions.jsonl", right(model="some/model"))
    manifest = evaluate_given(CONFIG, find(tmp_path / "completions.jsonl"), PROBLEMS, tmp_path / "out")
    assert {"some--model/python.jsonl", "scores.json"} <= set(manifest.outputs)
    assert scores(tmp_path / "out")["some/model", "python", "pass@1"].value == 1.0
    assert evaluate_given(CONFIG, find(tmp_path / "completions.jsonl"), PROBLEMS, tmp_path / "out") == manifest
    write_records(tmp_path / "completions.jsonl", right(model="other"))
    assert evaluate_given(CONFIG, find(tmp_path / "completions.jsonl"), PROBLEMS, tmp_path / "out") != manifest


@pytest.mark.parametrize("given", [[], right()[:2]])
def test_completions_that_would_make_a_wrong_score_are_refused(
    tmp_path: Path, runs: Runs, given: list[Completion]
) -> None:
    write_records(tmp_path / "completions.jsonl", given)
    with pytest.raises(InputError, match=r"holds no completions|problems without a completion"):
        evaluate_given(CONFIG, find(tmp_path / "completions.jsonl"), PROBLEMS, tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists() and not runs.programs


def test_a_folder_without_generated_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        evaluate(CONFIG, tmp_path / "none", PROBLEMS, {}, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no completions"):
        evaluate(CONFIG, tmp_path / "empty", PROBLEMS, {}, tmp_path / "out")


def test_without_a_sandbox_completions_stop_the_stage_but_likelihoods_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "SEARCH_PATH", str(tmp_path))
    with pytest.raises(ToolMissingError, match="bubblewrap"):
        evaluate(CONFIG, generated(tmp_path / "g", right()), PROBLEMS, {}, tmp_path / "out")
    manifest = evaluate(CONFIG, likelihoods(tmp_path / "l", "base"), PROBLEMS, {}, tmp_path / "out2")
    assert manifest.facts["statuses"] == {} and manifest.facts["sandbox"] == "not needed"
    assert math.isnan(manifest.facts["time_outs"]["flake_rate"])
    assert scores(tmp_path / "out2")["base", "python", "bits_per_byte"].count == 3


_MANY = """
import resource, sys
from pathlib import Path
from codechoir.evaluate import running, verdicts
from codechoir.evaluate.config import EvaluateConfig
from codechoir.evaluate.given import find
from codechoir.evaluate.stage import evaluate_given
from codechoir.records import Status
from codechoir.sandbox.programs import Outcome
from tests.evaluate.made import problem_set

class Runner:
    def __init__(self, *_): ...
    def run(self, _language, program, _limits):
        return Outcome(Status.PASSED, 0, None, 0.1, 0.1, 1.0, "x" * 2000)
    def close(self): ...

running.Runner = Runner
verdicts.check_toolchains = lambda _s, names, _w: {name: running.Checked("", 1.0) for name in names}
given, out, problems = sys.argv[1:]
config = EvaluateConfig(sandbox="unsafe-no-sandbox", resamples=100)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
evaluate_given(config, find(Path(given)), problem_set(count=int(problems)), Path(out))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_memory_hardly_grows_with_the_number_of_completions(tmp_path: Path) -> None:
    peaks = []
    for samples in (2, 40):
        with (tmp_path / f"{samples}.jsonl").open("w") as lines:
            for sample in range(samples):
                lines.writelines(
                    completion(f"P_{n}", f"{'y' * 2000}{sample}", sample=sample).model_dump_json() + "\n"
                    for n in range(100)
                )
        command = [sys.executable, "-c", _MANY, str(tmp_path / f"{samples}.jsonl"), str(tmp_path / f"{samples}"), "100"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
        peaks.append(float(done.stdout))
    # 3,800 more completions of 2 KB, each with 2 KB of output: 15 MiB if they were held
    assert peaks[1] - peaks[0] < 5, peaks


def test_the_layout_is_what_multipl_e_reads(tmp_path: Path, runs: Runs) -> None:
    """Its scripts take folders of NAME.results.json.gz, and skip these where they look for NAME.json.gz."""
    evaluate(CONFIG, generated(tmp_path / "g", right()), PROBLEMS, {}, tmp_path / "out")
    assert runs.programs
    names = sorted(path.name for path in (tmp_path / "out" / "multipl-e" / "base" / "python").iterdir())
    assert [name for name in names if re.fullmatch(r"P_\d\.results\.json\.gz", name)] == names[1::2]
    assert [name for name in names if not name.endswith(".results.json.gz")] == names[::2]


@pytest.mark.usefixtures("runs")
def test_problems_in_several_languages(tmp_path: Path) -> None:
    problems: ProblemSet = problem_set(("python", "cpp"))
    for language in ("python", "cpp"):
        write_records(tmp_path / "g" / "base" / f"{language}.jsonl", right(language=language))
    manifest = evaluate(CONFIG, tmp_path / "g", problems, {}, tmp_path / "out")
    assert set(manifest.facts["statuses"]["base"]) == {"python", "cpp"}
    mean = scores(tmp_path / "out")["base", "mean", "pass@1"]
    assert (mean.count, mean.clusters) == (8, 4)
