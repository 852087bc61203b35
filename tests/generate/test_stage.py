"""The generate stage on small models: what is asked of whom, what is written, and resuming."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.artifacts import read_manifest
from codechoir.documents import Text, read_texts
from codechoir.generate import stage
from codechoir.generate.config import GenerateConfig
from codechoir.generate.models import Folders
from codechoir.generate.stage import GenerateInputs, choose, generate, sample_seed
from codechoir.model.checkpoint import load_tokenizer
from codechoir.problems import ProblemSet
from codechoir.records import Completion, LogLikelihood, Problem, Record, read_records

LANGUAGES = ("python", "java", "cpp")
CONFIG = GenerateConfig(
    held_out_documents=5, held_out_tokens=40, num_samples=3, temperature=0.8, max_tokens=6, batch_size=4,
    score_batch_size=2, precision="float32",
).untuned()  # fmt: skip


@pytest.fixture(scope="module")
def inputs(random_base: Path, trunk: Path, experts: dict[str, Path], composed: Path, documents: Path) -> GenerateInputs:
    problems = {
        language: tuple(
            Problem(name=f"problem-{number}", language=language, prompt="x" * number, tests="", stop_tokens=("\n",))
            for number in range(3)
        )
        for language in ("python", "java")
    }
    folders = Folders(random_base, trunk, trunk, experts, composed)
    return GenerateInputs(folders, documents, ProblemSet(problems, {"cpp": "none"}, "problems"), {"train": "t"})


@pytest.fixture(scope="module")
def out(inputs: GenerateInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every model's records."""
    folder = tmp_path_factory.mktemp("generate")
    generate(CONFIG, LANGUAGES, inputs, folder)
    return folder


def completions(out: Path, model: str, language: str) -> dict[tuple[str, int], Completion]:
    records = list(read_records(Completion, out / model / f"{language}.jsonl"))
    assert all((record.model, record.language) == (model, language) for record in records)
    found = {(record.problem, record.sample): record for record in records}
    assert len(found) == len(records)
    return found


def likelihoods(out: Path, model: str, language: str) -> dict[str, LogLikelihood]:
    records = list(read_records(LogLikelihood, out / model / f"{language}.likelihood.jsonl"))
    found = {record.key: record for record in records}
    assert len(found) == len(records)
    return found


texts = st.lists(
    st.builds(Text, st.integers(0, 10**6).map(str), st.sampled_from("abcd"), st.just("")), unique_by=lambda t: t.key
)


@given(texts, st.integers(1, 30), st.randoms())
def test_held_out_files_are_taken_from_the_packages_in_turn(some: list[Text], count: int, random: Any) -> None:
    config = CONFIG.model_copy(update={"held_out_documents": count})
    chosen = choose(some, config)
    assert len(chosen) == min(count, len(some))
    assert len({text.key for text in chosen}) == len(chosen)
    assert choose(random.sample(some, len(some)), config) == chosen
    held, taken = Counter(text.package for text in some), Counter(text.package for text in chosen)
    most = max(taken.values(), default=0)
    for package, number in held.items():  # no package lags by more than one, unless it has no more
        assert taken[package] >= min(number, most - 1)
    smaller = config.model_copy(update={"held_out_documents": max(1, count // 2)})
    assert choose(some, smaller) == chosen[: max(1, count // 2)]


def test_another_seed_chooses_other_files() -> None:
    some = [Text(str(number), "package", "") for number in range(50)]
    assert len({tuple(choose(some, CONFIG.model_copy(update={"seed": seed}))) for seed in range(5)}) == 5


def test_seeds_differ_by_problem_and_sample_and_by_nothing_else(out: Path) -> None:
    expected = {(f"problem-{p}", s): sample_seed(0, f"problem-{p}", s) for p in range(3) for s in range(3)}
    assert len(set(expected.values())) == 9
    assert sample_seed(1, "problem-0", 0) not in expected.values()
    for file in out.glob("*/*.jsonl"):
        if ".likelihood" not in file.name:
            records = completions(out, file.parent.name, file.stem)
            assert {key: record.seed for key, record in records.items()} == expected, file


def test_who_scores_and_completes_what(out: Path) -> None:
    files = {str(path.relative_to(out)) for path in out.glob("*/*.jsonl")}
    models = {path.name for path in out.iterdir() if path.is_dir()}
    assert len(models) == 9 + len(LANGUAGES)
    expected = {f"{model}/{language}.likelihood.jsonl" for model in models for language in LANGUAGES}
    dense_or_moe = {model for model in models if not model.startswith("expert-")}
    expected |= {f"{model}/{language}.jsonl" for model in dense_or_moe for language in ("python", "java")}
    expected |= {"expert-python/python.jsonl", "expert-java/java.jsonl"}
    assert files == expected


def test_documents_are_scored_as_far_as_they_are_read(out: Path, inputs: GenerateInputs) -> None:
    tokenizer = load_tokenizer(inputs.folders.base)
    held_out = {text.key: text for text in read_texts(inputs.documents, "python", "held_out")}
    for record in likelihoods(out, "base", "python").values():
        text = held_out[record.key]
        assert record.package == text.package
        ids = tokenizer(text.content)["input_ids"][: CONFIG.held_out_tokens]
        assert record.num_tokens == len(ids)
        assert record.num_bytes == len(ids)  # the tokenizer's tokens are bytes
        assert record.log_likelihood < 0


@pytest.mark.parametrize("language", ["python", "java"])
def test_the_oracle_is_the_languages_own_expert(out: Path, language: str) -> None:
    """The composed model with a known route scores and writes what the expert by itself does, to the last bit."""
    own, oracle = (likelihoods(out, model, language) for model in (f"expert-{language}", "moe-oracle"))
    assert {key: record.log_likelihood for key, record in own.items()} == {
        key: record.log_likelihood for key, record in oracle.items()
    }
    assert all(record.route == {language: 1.0} for record in oracle.values())
    written = [completions(out, model, language) for model in (f"expert-{language}", "moe-oracle")]
    ours, theirs = ({key: record.text for key, record in records.items()} for records in written)
    assert ours == theirs


def test_routes_are_recorded(out: Path) -> None:
    for model, num_experts in (("moe-prompt", 1), ("moe-uniform", 3)):
        for record in likelihoods(out, model, "cpp").values():
            assert len(record.route) == num_experts
        for record in completions(out, model, "java").values():  # of prompts too short to be sure of
            assert len(record.route) == 3
            assert sum(record.route.values()) == pytest.approx(1, abs=1e-3)
    assert all(not record.route for record in likelihoods(out, "soup", "cpp").values())
    assert {route for record in likelihoods(out, "moe-prompt", "cpp").values() for route in record.route} == {"cpp"}


def test_the_facts(out: Path) -> None:
    facts = read_manifest(out).facts
    assert facts["skipped"] == {"cpp": "none"}
    assert facts["models"].keys() == {path.name for path in out.iterdir() if path.is_dir()}
    for model, figures in facts["models"].items():
        assert figures["active_parameters"] > 0
        assert figures["scored_tokens_per_second"] > 0
        completes = model != "expert-cpp"
        assert (figures["generated_tokens_per_second"] is not None) == completes


def records_of(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.glob("*/*.jsonl"))}


class Killed(BaseException):
    """In place of a kill."""


def kill_after(monkeypatch: pytest.MonkeyPatch, count: int, torn: bytes) -> Callable[[], None]:
    """Dies at the record after `count`, of which `torn` reaches the disk."""
    append, done = stage.append_record, []

    def dying(path: Path, record: Record) -> None:
        if len(done) == count:
            path.parent.mkdir(exist_ok=True)
            with path.open("ab") as lines:
                lines.write(torn)
            raise Killed
        done.append(record)
        append(path, record)

    monkeypatch.setattr(stage, "append_record", dying)
    return done.clear


@pytest.mark.parametrize("count", [0, 1, 4, 5, 10, 15, 17, 19, 25, 31])
def test_a_killed_run_goes_on_as_if_it_had_not_been(
    out: Path, inputs: GenerateInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Killed within a batch and between batches, with half a line written: the same records in the same order."""
    config = CONFIG.model_copy(update={"score": ("moe-token-top1",), "complete": ("moe-token-top1",)})
    expected = {name: content for name, content in records_of(out).items() if name.startswith("moe-token-top1/")}
    assert sum(content.count(b"\n") for content in expected.values()) == 3 * 5 + 2 * 9
    with monkeypatch.context() as patch:
        kill_after(patch, count, b'{"model":"moe-tok')
        with pytest.raises(Killed):
            generate(config, LANGUAGES, inputs, tmp_path)
    assert not (tmp_path / "manifest.json").exists()
    generate(config, LANGUAGES, inputs, tmp_path)
    assert records_of(tmp_path) == expected


def test_models_that_are_through_are_not_run_again(
    inputs: GenerateInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIG.model_copy(update={"score": ("base", "trunk"), "complete": ()})
    with monkeypatch.context() as patch:
        kill_after(patch, 16, b"")
        with pytest.raises(Killed):
            generate(config, LANGUAGES, inputs, tmp_path)
    assert json.loads((tmp_path / "base" / "model.json").read_text())["active_parameters"] > 0
    loaded: list[str] = []
    load = stage.load
    monkeypatch.setattr(stage, "load", lambda model, *more: loaded.append(model) or load(model, *more))
    generate(config, LANGUAGES, inputs, tmp_path)
    assert loaded == ["trunk"]
    manifest = generate(config.model_copy(update={"batch_size": 7}), LANGUAGES, inputs, tmp_path)
    assert loaded == ["trunk"]
    assert manifest.facts["models"].keys() == {"base", "trunk"}


def test_a_smaller_batch_takes_up_what_a_larger_one_left(
    inputs: GenerateInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after running out of memory; every task is done once."""
    config = CONFIG.model_copy(update={"score": (), "complete": ("base",)})
    with monkeypatch.context() as patch:
        kill_after(patch, 7, b"")
        with pytest.raises(Killed):
            generate(config, LANGUAGES, inputs, tmp_path)
    generate(config.model_copy(update={"batch_size": 3}), LANGUAGES, inputs, tmp_path)
    assert len(completions(tmp_path, "base", "python")) == len(completions(tmp_path, "base", "java")) == 9
