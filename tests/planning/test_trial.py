"""Trials: on small files and the random model, and what is left of one that cannot be had or is killed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from codechoir.compose.config import TuneConfig
from codechoir.documents import read_parquet
from codechoir.errors import InputError
from codechoir.model.config import HubBase
from codechoir.model.optimiser import MasterAdamW
from codechoir.planning import curate_trial, model_trial, trial
from codechoir.planning.curate_trial import sample_texts, try_curate
from codechoir.planning.memory import free_memory, peak_memory, total_memory
from codechoir.planning.model_trial import TuneTrial, try_models
from codechoir.planning.trial import run_trials
from codechoir.recipe import Recipe, resolved


@pytest.fixture
def small(recipe: Recipe, corpus: Path) -> Recipe:
    """The tiny recipe on the shared corpus, its sentences of benchmarks and the network left out."""
    return recipe.parse(
        recipe.model_dump(mode="json", exclude={"curate"})
        | {
            "curate": {
                "sources": [{"kind": "folder", "path": str(corpus), "licence": "MIT"}],
                "decontaminate": {"against": []},
            }
        },
        "test",
    )


def test_a_sample_is_curated(small: Recipe, corpus: Path, tmp_path: Path) -> None:
    tried = try_curate(small, tmp_path, tmp_path)
    files = sorted(corpus.rglob("*.*"))
    assert (tried.num_files, tried.num_bytes) == (len(files), sum(path.stat().st_size for path in files))
    assert tried.num_read == tried.num_bytes
    written = [path.stat().st_size for path in (tmp_path / "judged" / "out").rglob("*.parquet")]
    assert tried.written_bytes == sum(written) > 0
    assert min(tried.first_seconds, tried.gather_seconds, tried.judge_seconds) > 0
    assert tried.first_memory <= tried.memory <= total_memory()
    assert sorted(map(len, sample_texts(tmp_path).values())) == [23, 23]


def test_a_sample_is_some_of_each_language(
    small: Recipe, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curate_trial, "SAMPLE_BYTES", 6000)
    tried = try_curate(small, tmp_path, tmp_path)
    largest = max(path.stat().st_size for path in corpus.rglob("*.*"))
    assert 6000 <= tried.num_bytes < 6000 + 2 * largest
    languages = read_parquet(tmp_path / "sample.parquet", ["language"])["language"].to_pylist()
    assert set(languages) == {"python", "javascript"}


def test_nothing_to_sample(small: Recipe, tmp_path: Path) -> None:
    other = small.model_copy(update={"languages": ("rust", "go")})
    with pytest.raises(InputError, match="no file in the recipe's languages"):
        try_curate(other, tmp_path, tmp_path)


def sized(recipe: Recipe, **changes: Any) -> Recipe:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=changes)})


@pytest.mark.filterwarnings("default::FutureWarning")
def test_the_models_are_tried(small: Recipe, tmp_path: Path, random_base: Path) -> None:
    from codechoir.model.checkpoint import load_model, load_tokenizer

    model, tokenizer = load_model(random_base, __import__("torch").float32), load_tokenizer(random_base)
    texts = {name: ["def f():\n    return 1\n"] * 6 for name in small.languages}
    prompts = {"python": ["def a():", "def longer():", "x"]}
    changed = small.model_copy(update={"generate": small.generate.model_copy(update={"batch_size": 2})})
    tried = try_models(sized(changed, trainable="all"), tmp_path, tmp_path, texts, prompts)
    assert tried.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert tried.feed_forward == sum(p.numel() for name, p in model.named_parameters() if ".mlp." in name)
    assert tried.vocabulary == model.config.vocab_size
    long, short, shortest = (len(tokenizer(text)["input_ids"]) for text in ("def longer():", "def a():", "x"))
    assert long > short > shortest
    assert tried.prompt_tokens == {"python": 2 * (long + 1) + (shortest + 1)}
    assert min(tried.step_seconds, tried.trunk_step_seconds, tried.score_rate, tried.complete_seconds) > 0
    assert tried.router_seconds > 0
    width = model.config.hidden_size  # float32: the upper triangle of the layers' XX' and the sum of X
    assert tried.moment_bytes == 4 * model.config.num_hidden_layers * (width * (width + 1) / 2 + width)
    assert tried.folder_bytes > 2 * tried.feed_forward
    assert (tmp_path / "trunk").is_dir()
    assert tried.trained_parameters == tried.parameters > tried.feed_forward  # the trunk trains all
    assert tried.tokenize_rate > 0 and tried.branch_bytes > 2 * tried.feed_forward


@pytest.mark.parametrize(
    "settings",
    [{"what": "whole", "top_k": 1, "sequences_per_language": 3, "own_rate": 0.1}, {"what": "experts", "top_k": 1}, {}],
)
def test_tuning_is_tried(small: Recipe, tmp_path: Path, random_base: Path, settings: dict[str, Any]) -> None:
    tune = TuneConfig(sequence_length=128, validation_sequences=900, **settings)
    recipe = small.model_copy(update={"tune": tune, "compose": small.compose.model_copy(update={"generalist": True})})
    sizes = model_trial._sizes(random_base)
    tried = model_trial._try_tuning(recipe, random_base, sizes, tmp_path)
    assert isinstance(tried, TuneTrial)
    assert tried.step_seconds > 0 and tried.device_memory >= 0
    assert 0 < tried.memory <= total_memory()
    config = json.loads((tmp_path / "composed" / "config.json").read_text())
    assert (config.get("num_local_experts") or config["num_experts"]) == 3  # the real thing, the generalist with it
    held = sum(path.stat().st_size for path in (tmp_path / "composed").glob("*.safetensors"))
    assert model_trial.tuned_bytes(recipe, TuneConfig(), sizes.parameters, sizes.feed_forward, 4) < 2.2 * held


def test_memory_of_a_part_in_common(small: Recipe) -> None:
    """Two experts of 100 of a model's 150 numbers: the optimiser's own tensors, counted."""
    experts = {"packed": nn.Parameter(torch.ones(2, 100))}
    for own_rate in (None, 0.1):
        config = TuneConfig(what="whole", own_rate=own_rate)
        optimiser = MasterAdamW(experts, config, packed=[] if own_rate is None else ["packed"])
        experts["packed"].grad = torch.ones(2, 100)
        optimiser.step(0.1)
        state = {name: each.numel() for name, each in optimiser.state() if not name.startswith("step")}
        masters = sum(count for name, count in state.items() if name.startswith("master."))
        numbers = 250 + 200 + sum(state.values()) - (masters if own_rate is None else 0)  # weights, gradients, state
        gradients = 0 if own_rate is None else 100  # of the part in common, summed
        assert model_trial.tuned_bytes(small, config, 150, 100, 4) == 4 * (numbers + gradients)


def test_why_tuning_was_not_tried(
    small: Recipe, tmp_path: Path, random_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tried(recipe: Recipe) -> TuneTrial | str | None:
        return model_trial._try_tuning(recipe, random_base, model_trial._sizes(random_base), tmp_path)

    tuning = small.model_copy(update={"tune": TuneConfig()})
    assert tried(small) is None
    wrong = tuning.model_copy(update={"compose": small.compose.model_copy(update={"layers": "7"})})
    assert str(tried(wrong)).startswith("layers that the model does not have: 7")
    monkeypatch.setattr(model_trial, "free_memory", lambda: 1)
    assert str(tried(tuning)).endswith("GiB of memory at least, of 0.0 free")


def test_a_base_that_is_too_large_is_not_tried(small: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_trial, "free_memory", lambda: 1)
    with pytest.raises(InputError, match="too large to be trained on this machine"):
        try_models(small, tmp_path, tmp_path, {}, {})


def test_errors_of_the_user_are_left_as_results(small: Recipe, tmp_path: Path) -> None:
    values = small.model_dump(mode="json") | {"languages": ["rust", "go"], "base": {"kind": "folder", "path": "none"}}
    (tmp_path / "recipe.yaml").write_text(resolved(Recipe.parse(values, "test")))
    trial.main(tmp_path, tmp_path)
    left = [trial._result(tmp_path, name, "") for name in ("curate", "models")]
    assert [one.error for one in left] == [
        "the sources hold no file in the recipe's languages; seen: rust, go",
        "no such model folder; seen: none; next: give the path of a Hugging Face folder",
    ]


def test_a_base_of_the_hub_is_not_fetched_to_plan(
    small: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", unreachable)
    with pytest.raises(InputError, match="not fetched only to plan\n  seen:    some/model, revision main\n"):
        try_models(small.model_copy(update={"base": HubBase(id="some/model")}), tmp_path, tmp_path, {}, {})


def test_a_trial_may_read_tables_of_the_hub(small: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    seen: list[dict[str, str]] = []

    def ended(*_: object, env: dict[str, str] | None = None, **__: object) -> subprocess.CompletedProcess[bytes]:
        seen.append(dict(os.environ) if env is None else env)
        return subprocess.CompletedProcess([], 0)

    monkeypatch.setattr(subprocess, "run", ended)
    run_trials(small, tmp_path, tmp_path)
    assert [each.get("HF_HUB_OFFLINE") for each in seen] == [None]


@pytest.mark.parametrize("done", ["", "curate"])
def test_a_killed_trial(small: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: str) -> None:
    if done:
        (tmp_path / f"{done}.json").write_text(trial.Result(error="before").model_dump_json())
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], -9))
    trials = run_trials(small, tmp_path, tmp_path)
    killed = "the trial was ended by signal 9; memory may have run out"
    assert (trials.curate, trials.models) == ("before" if done else killed, killed)


def test_a_bug_in_a_trial_is_a_bug(small: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1))
    with pytest.raises(RuntimeError, match="ended with code 1"):
        run_trials(small, tmp_path, tmp_path)


def test_memory() -> None:
    before = peak_memory()
    held = bytearray(50 * 2**20)
    assert before < peak_memory() + 1 <= total_memory() + 1
    assert len(held) < free_memory() <= total_memory()
