"""The generate stage on small models: what is asked of whom, what is written, and resuming."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codechoir.artifacts import read_manifest
from codechoir.compose.config import ComposeConfig
from codechoir.compose.stage import ComposeInputs, compose
from codechoir.documents import DOCUMENT_SCHEMA, Text, read_texts, write_parquet
from codechoir.errors import InputError
from codechoir.evaluate.given import find
from codechoir.generate import stage
from codechoir.generate.config import GenerateConfig
from codechoir.generate.models import Folders
from codechoir.generate.stage import GenerateInputs, generate, in_order, sample_seed, second_half
from codechoir.model.checkpoint import load_model, load_tokenizer
from codechoir.model.engine import Engine, Request
from codechoir.model.infilling_tokens import with_infilling_tokens
from codechoir.model.moe import Routing, load_composed
from codechoir.problems import ProblemSet
from codechoir.records import Completion, Infilling, LogLikelihood, Problem, Record, read_records

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
    ordered = in_order(some, CONFIG)
    assert sorted(ordered, key=lambda text: text.key) == sorted(some, key=lambda text: text.key)
    assert in_order(random.sample(some, len(some)), CONFIG) == ordered
    chosen = ordered[:count]
    held, taken = Counter(text.package for text in some), Counter(text.package for text in chosen)
    most = max(taken.values(), default=0)
    for package, number in held.items():  # no package lags by more than one, unless it has no more
        assert taken[package] >= min(number, most - 1)


def test_another_seed_chooses_other_files() -> None:
    some = [Text(str(number), "package", "") for number in range(50)]
    assert len({tuple(in_order(some, CONFIG.model_copy(update={"seed": seed}))[:5]) for seed in range(5)}) == 5


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


def test_what_follows_the_middle_is_scored_where_that_is_asked_for(
    out: Path, inputs: GenerateInputs, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"held_out_part": "second-half", "score": ("base",), "complete": ()})
    generate(config, LANGUAGES, inputs, tmp_path)
    found = likelihoods(tmp_path, "base", "java")
    assert found.keys() == likelihoods(out, "base", "java").keys()
    engine = Engine(load_model(inputs.folders.base, torch.float32), load_tokenizer(inputs.folders.base), 1)
    held_out = {text.key: text.content for text in read_texts(inputs.documents, "java", "held_out")}
    for key, record in found.items():
        lines = held_out[key].splitlines(keepends=True)
        middle = next(n for n in range(len(lines)) if len("".join(lines[: n + 1])) > len(held_out[key]) // 2)
        [(_, alone)] = engine.log_likelihoods(["".join(lines[middle + 1 :])], CONFIG.held_out_tokens, None)
        assert record.num_bytes == alone.num_bytes
        assert record.log_likelihood == pytest.approx(alone.log_likelihood, rel=1e-5)


@given(st.text(alphabet="ab\n", max_size=40))
def test_the_second_half_begins_at_a_line_after_the_middle(content: str) -> None:
    half = second_half(content)
    if half == content:
        assert "\n" not in content[len(content) // 2 : -1]
    else:
        assert half and content.endswith("\n" + half) and len(half) <= len(content) - len(content) // 2
        assert "\n" not in content[len(content) // 2 : -len(half) - 1]


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


def test_a_prompt_that_is_too_long_is_told_before_anything_is_done(inputs: GenerateInputs, tmp_path: Path) -> None:
    long = Problem(name="long", language="java", prompt="x" * 3000, tests="", stop_tokens=())
    problems = ProblemSet({"java": (long,)}, {}, "long")
    with pytest.raises(InputError, match="java long: 3001 tokens"):
        generate(CONFIG, LANGUAGES, replace(inputs, problems=problems), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_facts(out: Path) -> None:
    facts = read_manifest(out).facts
    assert facts["skipped"] == {"cpp": "none"}
    assert facts["gaps"] == facts["not_infilled"] == {}  # nobody asked for infillings
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


FILL = CONFIG.model_copy(
    update={
        "score": (), "complete": (), "infilling_documents": 4, "held_out_tokens": 200, "max_tokens": 30, "batch_size": 2
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def filling(
    random_base: Path,
    vary: Callable[..., Path],
    documents: Path,
    compose_config: ComposeConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> GenerateInputs:
    """Models that know infilling tokens, from a base that does not."""
    root = tmp_path_factory.mktemp("filling")
    enlarged = with_infilling_tokens(random_base, "base", root / "base")
    trunk = vary(enlarged, root / "trunk", 1, lambda name: "norm" not in name, 0.15)
    experts = {language: vary(trunk, root / language, seed) for seed, language in enumerate(LANGUAGES, 2)}
    compose(compose_config, ComposeInputs(trunk, experts, documents, {"train": "t", "documents": "d"}), root / "moe")
    folders = Folders(random_base, trunk, trunk, experts, root / "moe")
    return GenerateInputs(folders, documents, ProblemSet({}, {}, "problems"), {"train": "t"})


@pytest.fixture(scope="module")
def filled(filling: GenerateInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every model's infillings."""
    folder = tmp_path_factory.mktemp("filled")
    generate(FILL, LANGUAGES, filling, folder)
    return folder


def infillings(out: Path, model: str, language: str) -> dict[str, Infilling]:
    records = list(read_records(Infilling, out / model / f"{language}.infill.jsonl"))
    assert all((record.model, record.language, record.mode) == (model, language, "psm") for record in records)
    return {record.key: record for record in records}


def cuts(text: Text, record: Infilling) -> list[tuple[str, str]]:
    """What may be before and after the gap: the line may stand in the file more than once. Tokens are bytes."""
    beginning = text.content[: FILL.held_out_tokens - 4]
    places = re.finditer(rf"(?<=\n) *({re.escape(record.expected)})(?= *\n)", beginning)
    return [(beginning[: place.start(1)], beginning[place.end(1) :]) for place in places]


def test_who_fills_in_what(filled: Path) -> None:
    models = {path.name for path in filled.iterdir() if path.is_dir()}
    assert len(models) == 8 + len(LANGUAGES) and "base" not in models
    shared = {model for model in models if not model.startswith("expert-")}
    expected = {f"{model}/{language}.infill.jsonl" for model in shared for language in LANGUAGES}
    expected |= {f"expert-{language}/{language}.infill.jsonl" for language in LANGUAGES}
    assert set(records_of(filled)) == expected
    assert {str(path.relative_to(filled)) for path in find(filled).infillings} == expected  # where evaluation looks
    facts = read_manifest(filled).facts
    assert facts["gaps"] == dict.fromkeys(LANGUAGES, 4)
    assert facts["not_infilled"] == {"base": "its tokenizer has no infilling tokens"}
    for model in models:
        assert facts["models"][model]["generated_tokens_per_second"] > 0
    for language in LANGUAGES:
        gaps = [
            {key: (record.package, record.expected) for key, record in infillings(filled, model, language).items()}
            for model in (*shared, f"expert-{language}")
        ]
        assert len(gaps[0]) == 4 and all(each == gaps[0] for each in gaps)


def test_what_is_filled_in_is_transformers_greedy_text_up_to_the_lines_end(
    filled: Path, filling: GenerateInputs
) -> None:
    """The prompts are spelt out by hand: this tokenizer reads sentinels in a prompt."""
    tokenizer, model = load_tokenizer(filling.folders.trunk), load_model(filling.folders.trunk, torch.float32)
    num_stopped = 0
    for language in LANGUAGES:
        texts = {text.key: text for text in read_texts(filling.documents, language, "held_out")}
        records = infillings(filled, "universal", language)
        assert set(records) == {text.key for text in in_order(list(texts.values()), FILL)[:4]}
        for key, record in records.items():
            assert record.package == texts[key].package
            written = set()
            for before, after in cuts(texts[key], record):
                spelt = f"<|endoftext|><fim_prefix>{before}<fim_suffix>{after}<fim_middle>"
                ids = tokenizer(spelt, return_tensors="pt")["input_ids"]
                assert ids.shape[1] <= FILL.held_out_tokens
                more = model.generate(
                    ids, attention_mask=torch.ones_like(ids), max_new_tokens=FILL.max_tokens, do_sample=False,
                    pad_token_id=0,
                )  # fmt: skip
                text = tokenizer.decode(more[0, ids.shape[1] :], skip_special_tokens=True)
                num_stopped += "\n" in text
                written.add(text.partition("\n")[0])
            assert record.text in written
    assert num_stopped


def test_prompt_routing_reads_what_is_before_the_gap(filling: GenerateInputs, tmp_path: Path) -> None:
    """In files of two languages, the route is that of a prompt which ends at the gap, whatever the suffix is."""
    python = "def alpha(self):\n    return beta + 1\n"
    java = "    private int {0};\n    String {0}() {{ }}\n"
    content = python + "for value in items:\n" + "".join(java.format(name) for name in ("left", "right", "other"))
    rows = [{"key": str(n), "package": "p", "content": content, "split": "held_out"} for n in range(6)]
    write_parquet(tmp_path / "documents" / "python" / "part.parquet", rows, DOCUMENT_SCHEMA)
    inputs = replace(filling, documents=tmp_path / "documents")
    config = FILL.model_copy(update={"infill": ("moe-prompt",), "infilling_documents": 6})
    generate(config, ("python",), inputs, tmp_path / "out")
    tokenizer = load_tokenizer(filling.folders.trunk)
    engine = Engine(load_composed(filling.folders.composed, Routing.PROMPT, 1, torch.float32), tokenizer, 1)

    def route(prompt: str) -> dict[str, float]:
        ((_, output),) = engine.complete([Request((0, *tokenizer(prompt)["input_ids"]), (), 1)])
        return output.route

    others = []
    for record in infillings(tmp_path / "out", "moe-prompt", "python").values():
        ((before, after),) = cuts(Text(record.key, "p", content), record)
        assert record.route == route(before)
        others.append(route(before + after) != record.route)
    assert len(others) == 6 and any(others)


def test_the_oracle_fills_in_as_the_languages_own_expert(filled: Path) -> None:
    for language in LANGUAGES:
        own, oracle = (infillings(filled, model, language) for model in (f"expert-{language}", "moe-oracle"))
        assert {key: record.text for key, record in own.items()} == {k: record.text for k, record in oracle.items()}
        assert all(record.route == {language: 1.0} for record in oracle.values())
        assert all(not record.route for record in own.values())
    texts = [[record.text for record in infillings(filled, m, "cpp").values()] for m in ("expert-cpp", "universal")]
    assert texts[0] != texts[1]


def test_no_more_is_filled_in_than_there_are_files(filling: GenerateInputs, tmp_path: Path) -> None:
    config = FILL.model_copy(update={"infill": ("trunk",), "infilling_documents": 99, "held_out_documents": 1})
    assert generate(config, LANGUAGES, filling, tmp_path).facts["gaps"] == dict.fromkeys(LANGUAGES, 5)
    assert len(infillings(tmp_path, "trunk", "java")) == 5


def test_a_model_that_cannot_do_what_alone_it_is_asked_for_is_not_run(filling: GenerateInputs, tmp_path: Path) -> None:
    facts = generate(FILL.model_copy(update={"infill": ("base",)}), LANGUAGES, filling, tmp_path).facts
    assert (facts["models"], facts["gaps"], list(facts["not_infilled"])) == ({}, {}, ["base"])


@pytest.mark.parametrize("count", [0, 1, 2, 5, 11])
def test_killed_infilling_goes_on_as_if_it_had_not_been(
    filled: Path, filling: GenerateInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    config = FILL.model_copy(update={"infill": ("moe-prompt",)})
    with monkeypatch.context() as patch:
        kill_after(patch, count, b'{"model":"moe-pro')
        with pytest.raises(Killed):
            generate(config, LANGUAGES, filling, tmp_path)
    generate(config, LANGUAGES, filling, tmp_path)
    expected = {name: content for name, content in records_of(filled).items() if name.startswith("moe-prompt/")}
    assert records_of(tmp_path) == expected
