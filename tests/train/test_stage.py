"""The train stage on the random base: the trunk, the experts and the universal model, and how they hang together."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from codechoir.artifacts import Manifest, read_manifest
from codechoir.errors import InputError
from codechoir.train import stage
from codechoir.train.branch import Branch
from codechoir.train.config import TrainConfig
from codechoir.train.stage import TrainInputs, train

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
    manifests = {path.name: read_manifest(path) for path in out.iterdir()}
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
        return {"tokens": branch.sequences.size}

    monkeypatch.setattr(stage, "train_branch", note)
    return seen


def test_what_each_branch_is_given(inputs: TrainInputs, tmp_path: Path, branches: list[Branch]) -> None:
    train(CONFIG, LANGUAGES, inputs, tmp_path)
    trunk, python, cpp, universal = branches
    assert [branch.name for branch in branches] == ["trunk", "python", "cpp", "universal"]
    assert trunk.start == inputs.base
    assert {branch.start for branch in (python, cpp, universal)} == {tmp_path / "trunk"}
    assert all(branch.feed_forward_only for branch in branches)

    def rows(branch: Branch) -> Counter[bytes]:
        return Counter(row.tobytes() for row in branch.sequences)

    assert rows(universal) == rows(python) + rows(cpp)
    assert not rows(trunk) & rows(universal)


def test_finished_branches_are_not_trained_again(
    inputs: TrainInputs, tmp_path: Path, branches: list[Branch], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(CONFIG, LANGUAGES, inputs, tmp_path)
    branches.clear()

    def digests(manifests: dict[str, Manifest]) -> dict[str, str]:
        return {name: manifest.digest for name, manifest in manifests.items()}

    monkeypatch.setattr(stage, "pack", None)  # nothing is tokenised, either
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


def test_a_language_without_documents(inputs: TrainInputs, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no documents of this language"):
        train(CONFIG, ("python", "javascript"), inputs, tmp_path)
    assert not list(tmp_path.rglob("manifest.json"))
