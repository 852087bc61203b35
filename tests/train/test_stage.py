"""The train stage on the random base: the trunk, the experts and the universal model, and how they hang together."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from codechoir.artifacts import Manifest, read_manifest
from codechoir.errors import ConfigError, IncompatibleModelError, InputError, ToolMissingError
from codechoir.model.checkpoint import load_tokenizer
from codechoir.model.config import OptimiserConfig
from codechoir.model.infilling_tokens import new_rows
from codechoir.model.token_shards import open_token_shard
from codechoir.train import stage
from codechoir.train.branch import Branch
from codechoir.train.config import TrainConfig, Tuning, Watcher
from codechoir.train.stage import TrainInputs, check_it_can_be_trained, left_for_tuning, train

LANGUAGES = ("python", "cpp")
CONFIG = TrainConfig(
    sequence_length=32, trunk_sequences=4, expert_sequences=3, sequences_per_step=2, precision="float32"
)


@pytest.fixture(scope="module")
def inputs(random_base: Path, documents: Path) -> TrainInputs:
    return TrainInputs(random_base, "base", documents, "documents")


@pytest.fixture(scope="module")
def out(inputs: TrainInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    train(CONFIG, LANGUAGES, inputs, folder)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_the_branches_and_their_tokens(out: Path) -> None:
    manifests = {path.name: read_manifest(path) for path in out.iterdir() if path.name != "tokens"}
    assert manifests.keys() == {"trunk", "python", "cpp", "universal"}
    tokens = {name: manifest.facts["tokens"] for name, manifest in manifests.items()}
    assert tokens == {"trunk": 2 * 4 * 32, "python": 3 * 32, "cpp": 3 * 32, "universal": 2 * 3 * 32}
    totals = {name: manifest.facts["total_tokens"] for name, manifest in manifests.items()}
    assert totals["universal"] == tokens["trunk"] + tokens["python"] + tokens["cpp"]
    assert totals["python"] == tokens["trunk"] + tokens["python"]
    assert manifests["trunk"].facts["epochs"].keys() == set(LANGUAGES)
    trunk = manifests["trunk"].digest
    assert {name: manifest.inputs["start"] for name, manifest in manifests.items()} == {
        "trunk": "base", "python": trunk, "cpp": trunk, "universal": trunk
    }  # fmt: skip
    for manifest in manifests.values():
        assert manifest.stage.startswith("train-")
        json.dumps(dict(manifest.facts), allow_nan=False)


def test_experts_and_universal_share_all_but_the_feed_forward_weights(out: Path) -> None:
    trunk = weights(out / "trunk")
    for name in (*LANGUAGES, "universal"):
        other = weights(out / name)
        differing = {tensor for tensor in trunk if not torch.equal(trunk[tensor], other[tensor])}
        assert differing == {tensor for tensor in trunk if ".mlp." in tensor}
    assert not torch.equal(*(weights(out / name)["model.layers.0.mlp.up_proj.weight"] for name in LANGUAGES))


def test_experts_that_read_nothing_are_the_trunk(inputs: TrainInputs, tmp_path: Path) -> None:
    """The universal model reads what tuning reads, then, and no more, by tuning's optimiser."""
    copies, tuning = CONFIG.model_copy(update={"expert_sequences": 0}), OptimiserConfig(learning_rate=0.25, warmup=0.5)
    manifests = train(copies, LANGUAGES, dataclasses.replace(inputs, tuning=Tuning(5, 1, tuning)), tmp_path)
    trunk = weights(tmp_path / "trunk")
    for name in LANGUAGES:
        assert manifests[name].facts["tokens"] == 0
        expert = weights(tmp_path / name)
        assert expert.keys() == trunk.keys() and all(torch.equal(expert[tensor], trunk[tensor]) for tensor in trunk)
    facts = manifests["universal"].facts
    assert facts["tokens"] == facts["tuned_tokens"] == 2 * 5 * 32 and facts["data_matched"]
    assert facts["learning_rate"] == 0.25 and manifests["trunk"].facts["learning_rate"] == CONFIG.learning_rate
    metrics = (tmp_path / "universal" / "metrics.jsonl").read_text().splitlines()
    rates = [step["learning_rate"] for step in map(json.loads, metrics) if "learning_rate" in step]
    assert len(rates) == 5 and rates.index(max(rates)) in (2, 3)  # half of the steps warm up
    searched = copies.model_copy(update={"learning_rates": (0.01,), "validation_documents": 2})
    again = train(searched, LANGUAGES, dataclasses.replace(inputs, tuning=Tuning(5, 1, tuning)), tmp_path)
    assert again["universal"].facts["learning_rate"] == 0.01  # as every branch's


def test_the_trunk_alone_may_train_all_weights(inputs: TrainInputs, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"trainable": "all", "learning_rate": 0.02})  # enough to move bfloat16's 1
    train(config, LANGUAGES, inputs, tmp_path)
    base, trunk = weights(inputs.base), weights(tmp_path / "trunk")
    assert all(not torch.equal(trunk[name].float(), base[name].float()) for name in base)
    for name in (*LANGUAGES, "universal"):
        other = weights(tmp_path / name)
        assert all(torch.equal(other[tensor], trunk[tensor]) for tensor in trunk if ".mlp." not in tensor)


@pytest.fixture
def branches(monkeypatch: pytest.MonkeyPatch) -> list[Branch]:
    """The branches that the stage trains, as they come; nothing is trained."""
    seen: list[Branch] = []

    def note(branch: Branch, config: TrainConfig, folder: stage.StageFolder) -> dict[str, int]:
        assert (folder.path / "unfinished.json").exists() and config.trunk_sequences >= 0
        seen.append(branch)
        read = len(branch.sequences) * config.sequence_length
        return {"tokens": read, "tokens_read": read, "stopped_early": False, "skipped_steps": []}

    monkeypatch.setattr(stage, "train_branch", note)
    return seen


def test_what_each_branch_is_given(inputs: TrainInputs, tmp_path: Path, branches: list[Branch]) -> None:
    train(CONFIG, LANGUAGES, inputs, tmp_path)
    trunk, python, cpp, universal = branches
    assert [branch.name for branch in branches] == ["trunk", "python", "cpp", "universal"]
    assert trunk.start == inputs.base
    assert {branch.start for branch in (python, cpp, universal)} == {tmp_path / "trunk"}
    assert all(branch.way == "feed-forward" for branch in branches)

    def rows(branch: Branch) -> Counter[bytes]:
        batch = branch.sequences.batch(slice(0, len(branch.sequences)))
        return Counter(row.numpy().tobytes() for row in batch.tokens_BT)

    assert rows(universal) == rows(python) + rows(cpp)
    assert not rows(trunk) & rows(universal)


def test_finished_branches_are_not_trained_again(
    inputs: TrainInputs, tmp_path: Path, branches: list[Branch], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(CONFIG, LANGUAGES, inputs, tmp_path)
    branches.clear()

    def digests(manifests: dict[str, Manifest]) -> dict[str, str]:
        return {name: manifest.digest for name, manifest in manifests.items()}

    monkeypatch.setattr(stage, "make_shards", None)  # nothing is tokenised, either
    assert digests(
        train(CONFIG.model_copy(update={"checkpoint_seconds": 1.0}), LANGUAGES, inputs, tmp_path)
    ) == digests(first)
    assert branches == []
    monkeypatch.undo()


@pytest.mark.parametrize("change", [{"learning_rate": 1e-3}, {"seed": 1}, {"trainable": "all"}])
def test_a_changed_value_trains_all_anew(
    inputs: TrainInputs, tmp_path: Path, branches: list[Branch], change: dict[str, object]
) -> None:
    train(CONFIG, LANGUAGES, inputs, tmp_path)
    train(CONFIG.model_copy(update=change), LANGUAGES, inputs, tmp_path)
    assert [branch.name for branch in branches[4:]] == ["trunk", "python", "cpp", "universal"]


def test_only_what_is_missing_is_trained(inputs: TrainInputs, tmp_path: Path, branches: list[Branch]) -> None:
    train(CONFIG, LANGUAGES, inputs, tmp_path)
    (tmp_path / "cpp" / "manifest.json").unlink()
    train(CONFIG, LANGUAGES, inputs, tmp_path)
    assert [branch.name for branch in branches[4:]] == ["cpp"]


def test_what_is_left_for_tuning_the_universal_model_reads_too(
    inputs: TrainInputs, out: Path, tmp_path: Path, branches: list[Branch]
) -> None:
    """Trunk and experts stay as they are where that changes; the sequences left are those after theirs."""
    train(CONFIG, LANGUAGES, inputs, tmp_path)
    for tuned in (2, 5):
        manifests = train(CONFIG, LANGUAGES, dataclasses.replace(inputs, tuning=Tuning(tuned, 1)), tmp_path)
        facts = manifests["universal"].facts
        assert facts["tokens"] == 2 * (3 + tuned) * 32 and facts["tuned_tokens"] == 2 * tuned * 32
        assert facts["total_tokens"] == 2 * (4 + 3 + tuned) * 32
        assert facts["data_matched"] and not facts["compute_matched"]
    assert [branch.name for branch in branches[4:]] == ["universal", "universal"]
    assert left_for_tuning(CONFIG, LANGUAGES, inputs, tmp_path) is None
    shutil.rmtree(tmp_path / "tokens" / "cpp")
    (tmp_path / "tokens" / "python" / "tokens.npy").write_bytes(b"cut")
    for validation in (1, 4):  # as many more as are asked for; what is not there, or damaged, is made again
        tuning = dataclasses.replace(inputs, tuning=Tuning(5, validation))
        left = left_for_tuning(CONFIG, LANGUAGES, tuning, tmp_path)
        assert left is not None and left.first == {"python": 7, "cpp": 7}
        for name, shard in left.shards().items():
            assert shard.tokens_NT.shape == (12 + validation, 32)
            assert np.array_equal(shard.tokens_NT[:7], open_token_shard(out / "tokens" / name).tokens_NT)
    assert len(branches) == 6


@pytest.mark.parametrize(
    ("change", "tuned", "said"),
    [
        ({}, 4, "5 sequences a language for tuning"),
        ({"expert_sequences": 2}, 5, "train.expert_sequences 3"),
        ({"mixing": {"cpp": 2.0}}, 5, "train.mixing"),
        ({"sequence_length": 16}, 5, "train.sequence_length 32"),
    ],
)
@pytest.mark.usefixtures("branches")
def test_what_another_recipe_left_is_not_tuned_on(
    inputs: TrainInputs, tmp_path: Path, change: dict[str, object], tuned: int, said: str
) -> None:
    train(CONFIG, LANGUAGES, dataclasses.replace(inputs, tuning=Tuning(5, 1)), tmp_path)
    other = dataclasses.replace(inputs, tuning=Tuning(tuned, 1))
    with pytest.raises(InputError, match="trained by another recipe") as caught:
        left_for_tuning(CONFIG.model_copy(update=change), LANGUAGES, other, tmp_path)
    assert caught.value.seen is not None and said in str(caught.value.seen)


def test_another_tuning_searches_the_universal_models_rate_anew(inputs: TrainInputs, tmp_path: Path) -> None:
    """On the share of more steps; no other arm's."""
    config = CONFIG.model_copy(update={"learning_rates": (0.01,), "search_share": 0.5, "validation_documents": 2})
    before, after = (
        train(config, LANGUAGES, dataclasses.replace(inputs, tuning=tuning), tmp_path)
        for tuning in (Tuning(), Tuning(9, 1))
    )
    assert [before["universal"].facts["search"][0]["steps"], after["universal"].facts["search"][0]["steps"]] == [2, 6]
    assert all(before[name] == after[name] for name in ("trunk", *LANGUAGES))


def test_a_language_without_documents(inputs: TrainInputs, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no documents of this language"):
        train(CONFIG, ("python", "javascript"), inputs, tmp_path)
    assert not list(tmp_path.glob("*/manifest.json"))


def test_learning_rates_are_searched_alike_and_told(inputs: TrainInputs, tmp_path: Path) -> None:
    """A rate that moves nothing and one that wrecks the model: neither is taken by any arm."""
    rates = (1e-9, 0.02, 1e9)
    config = CONFIG.model_copy(
        update={"learning_rates": rates, "search_share": 1.0, "validation_documents": 2, "trunk_sequences": 8}
    )
    manifests = train(config, LANGUAGES, inputs, tmp_path)
    for name, manifest in manifests.items():
        tries = manifest.facts["search"]
        assert [one["learning_rate"] for one in tries] == list(rates)
        bits = [math.inf if one["bits_per_byte"] is None else one["bits_per_byte"] for one in tries]
        assert manifest.facts["learning_rate"] == rates[bits.index(min(bits))] == 0.02
        assert len({one["steps"] for one in tries}) == 1
        measured = manifest.facts["bits_per_byte"][-1][1]
        assert measured.keys() == ({name} if name in LANGUAGES else set(LANGUAGES))
    assert manifests["python"].facts["search"] == manifests["cpp"].facts["search"]
    assert manifests["universal"].facts["data_matched"] and manifests["universal"].facts["compute_matched"]
    assert not list((tmp_path / "search").rglob("*.safetensors"))


def test_new_tokens_rows_are_learnt_by_the_trunk(inputs: TrainInputs, tmp_path: Path) -> None:
    """Rows of the sentinels move with the feed-forward weights; no other row of the vocabulary does."""
    config = CONFIG.model_copy(update={"infilling_rate": 1.0, "learning_rate": 0.02, "trunk_sequences": 8})
    train(config, LANGUAGES, inputs, tmp_path)
    rows, name = new_rows(tmp_path / "base"), "model.embed_tokens.weight"
    assert rows is not None and len(rows.rows) == 3
    before, trunk, expert = (weights(tmp_path / folder)[name].float() for folder in ("base", "trunk", "cpp"))
    assert (before != trunk).any(dim=1).nonzero()[:, 0].tolist() == list(rows.rows)
    assert torch.equal(expert, trunk)


def test_new_tokens_need_a_trunk_that_reads(inputs: TrainInputs, tmp_path: Path, branches: list[Branch]) -> None:
    config = CONFIG.model_copy(update={"infilling_rate": 0.5, "trunk_sequences": 0})
    with pytest.raises(ConfigError, match="learned by the trunk, which reads nothing"):
        train(config, LANGUAGES, inputs, tmp_path)
    train(config.model_copy(update={"branches_trainable": "all"}), LANGUAGES, inputs, tmp_path)
    assert len(branches) == 4
    with pytest.raises(ConfigError, match="learned by the trunk, which reads nothing"):
        train(
            config.model_copy(update={"branches_trainable": "all", "expert_sequences": 0}), LANGUAGES, inputs, tmp_path
        )


@pytest.mark.parametrize("how", ["stopped_early", "skipped_steps"])
def test_branches_that_did_not_learn_all_are_not_data_matched(
    inputs: TrainInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    def stopped(branch: Branch, *_: object) -> dict[str, object]:
        read = {"universal": 20, "trunk": 8}.get(branch.name, 10)
        whole = {"tokens": read, "tokens_read": read, "stopped_early": False, "skipped_steps": []}
        return whole | ({how: [3] if how == "skipped_steps" else True} if branch.name == "cpp" else {})

    monkeypatch.setattr(stage, "train_branch", stopped)
    facts = train(CONFIG, LANGUAGES, inputs, tmp_path)["universal"].facts
    assert (facts["data_matched"], facts["compute_matched"]) == (False, True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sequence_length": 4096}, "no positions for so much text"),
        ({"branches_trainable": "last-layers", "last_layers": 9}, "more layers"),
        ({"trainable": "last-layers", "last_layers": 9}, "more layers"),
        ({"mixing": {"java": 2.0}}, "a language that is not trained"),
    ],
)
def test_what_a_base_cannot_is_told_before_any_work(
    inputs: TrainInputs, tmp_path: Path, change: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        train(CONFIG.model_copy(update=change), LANGUAGES, inputs, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["tensorboard", "wandb"])
def test_a_missing_watcher_is_told_before_any_work(
    inputs: TrainInputs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: Watcher
) -> None:
    """Though a folder that it wrote its runs to lies where Python looks for packages."""
    (tmp_path / package).mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, package, raising=False)
    with pytest.raises(ToolMissingError, match=package) as missing:
        check_it_can_be_trained(CONFIG.model_copy(update={"watch": (package,)}), LANGUAGES, inputs.base)
    assert f"codechoir[{package}]" in missing.value.next_step


def test_infilling_tokens_that_cannot_be_added_are_told_before_any_work(inputs: TrainInputs, tmp_path: Path) -> None:
    base = shutil.copytree(inputs.base, tmp_path / "base")
    tokenizer = load_tokenizer(base)
    tokenizer.add_tokens(["<fim_prefix>"], special_tokens=True)
    tokenizer.save_pretrained(base)
    check_it_can_be_trained(CONFIG, LANGUAGES, base)
    with pytest.raises(IncompatibleModelError, match="infilling tokens cannot be added"):
        check_it_can_be_trained(CONFIG.model_copy(update={"infilling_rate": 0.5}), LANGUAGES, base)


def test_new_tokens_that_nothing_would_learn_are_told_before_any_work(inputs: TrainInputs) -> None:
    with pytest.raises(ConfigError, match="learned by the trunk, which reads nothing"):
        config = CONFIG.model_copy(update={"infilling_rate": 0.5, "trunk_sequences": 0})
        check_it_can_be_trained(config, LANGUAGES, inputs.base)


@pytest.mark.parametrize("change", [{"sequences_per_forward": 1}, {"gradient_checkpointing": True}, {"max_skips": 9}])
def test_what_memory_alone_asks_for_trains_nothing_anew(
    inputs: TrainInputs, tmp_path: Path, branches: list[Branch], change: dict[str, object]
) -> None:
    train(CONFIG, LANGUAGES, inputs, tmp_path)
    train(CONFIG.model_copy(update=change), LANGUAGES, inputs, tmp_path)
    assert len(branches) == 4


@pytest.mark.parametrize("change", [{"branches_trainable": "all"}, {"lora_rank": 2}, {"lora_alpha": 1.0}])
def test_what_branches_alone_go_by_keeps_the_trunk(
    inputs: TrainInputs, tmp_path: Path, branches: list[Branch], change: dict[str, object]
) -> None:
    train(CONFIG, LANGUAGES, inputs, tmp_path)
    train(CONFIG.model_copy(update=change), LANGUAGES, inputs, tmp_path)
    assert [branch.name for branch in branches[4:]] == ["python", "cpp", "universal"]
