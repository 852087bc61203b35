"""The models that a run compares: their ids, where each is loaded from, and the experts' average."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file

from codechoir.generate.config import ALL_MODELS, GenerateConfig, ModelChoice
from codechoir.generate.models import Folders, home_language, is_oracle, load, model_ids
from codechoir.model.moe import MoeForCausalLM, Routing


@pytest.fixture(scope="module")
def folders(random_base: Path, trunk: Path, experts: dict[str, Path], composed: Path) -> Folders:
    return Folders(random_base, trunk, trunk, experts, composed)


def test_the_default_is_every_model() -> None:
    assert set(ALL_MODELS) == set(get_args(ModelChoice))
    assert len(ALL_MODELS) == 11
    assert GenerateConfig().score == GenerateConfig().complete == GenerateConfig().infill == ALL_MODELS


def test_the_tuned_model_is_left_out_of_a_run_without_one() -> None:
    config = GenerateConfig(score=("base", "moe-tuned"), complete=("moe-tuned",), infill=("moe-tuned", "soup"), seed=3)
    config = config.untuned()
    assert (config.score, config.complete, config.infill, config.seed) == (("base",), (), ("soup",), 3)
    assert len(GenerateConfig().untuned().score) == 10


def test_ids() -> None:
    assert model_ids(("base", "experts", "soup"), ("python", "cpp")) == ["base", "expert-python", "expert-cpp", "soup"]
    assert model_ids((), ("python", "cpp")) == []
    assert [home_language(id) for id in ("expert-cpp", "base", "moe-oracle")] == ["cpp", None, None]
    assert [id for id in model_ids(ALL_MODELS, ("python", "cpp")) if is_oracle(id)] == ["moe-oracle"]


def test_the_soup_is_the_mean_of_the_experts(folders: Folders, experts: dict[str, Path]) -> None:
    loaded = load("soup", folders, torch.float32)
    files = [load_file(folder / "model.safetensors") for folder in experts.values()]
    assert {name for name, _ in loaded.model.named_parameters()} == files[0].keys()
    for name, parameter in loaded.model.named_parameters():
        expected = sum(file[name].double() for file in files) / len(files)
        torch.testing.assert_close(parameter.detach().double(), expected, rtol=1e-6, atol=1e-7)
        if ".mlp." not in name:
            assert torch.equal(parameter, files[0][name].float())


@pytest.mark.parametrize("id", ["base", "trunk", "universal", "expert-python", "expert-java"])
def test_dense_models_come_from_their_folders(folders: Folders, id: str) -> None:
    expected = {"base": folders.base, "trunk": folders.trunk, "universal": folders.universal}
    folder = expected.get(id) or folders.experts[id.removeprefix("expert-")]
    loaded = load(id, folders, torch.float32)
    tensors = load_file(folder / "model.safetensors")
    assert all(torch.equal(parameter, tensors[name].float()) for name, parameter in loaded.model.named_parameters())
    assert loaded.active_parameters == sum(tensor.numel() for tensor in tensors.values())


@pytest.mark.parametrize(
    ("id", "routing", "top_k", "num_active", "routers"),
    [
        ("moe-prompt", Routing.PROMPT, 1, 1, False),
        ("moe-token-top1", Routing.TOKEN, 1, 1, True),
        ("moe-token-top2", Routing.TOKEN, 2, 2, True),
        ("moe-oracle", Routing.FIXED, 1, 1, False),
        ("moe-uniform", Routing.UNIFORM, 1, 3, False),
    ],
)
def test_composed_models_route_as_their_name_says(
    folders: Folders, id: str, routing: Routing, top_k: int, num_active: int, routers: bool
) -> None:
    loaded = load(id, folders, torch.bfloat16)
    assert isinstance(loaded.model, MoeForCausalLM)
    assert (loaded.model.route.routing, loaded.model.route.top_k) == (routing, top_k)
    assert loaded.model.dense.dtype == torch.bfloat16
    tensors = load_file(folders.trunk / "model.safetensors")
    feed_forward = sum(tensor.numel() for name, tensor in tensors.items() if ".mlp." in name)
    shared = sum(tensor.numel() for name, tensor in tensors.items() if ".mlp." not in name)
    expected = shared + num_active * feed_forward + (2 * 3 * 64 if routers else 0)  # layers, experts, width
    assert loaded.active_parameters == expected


def test_the_tuned_model_comes_from_its_folder_with_its_own_top_k(folders: Folders, tmp_path: Path) -> None:
    tuned = shutil.copytree(folders.composed, tmp_path / "tuned")
    config = json.loads((tuned / "config.json").read_text())
    for top_k, other in ((1, "moe-token-top1"), (2, "moe-token-top2")):
        (tuned / "config.json").write_text(json.dumps(config | {"num_experts_per_tok": top_k}))
        loaded = load("moe-tuned", replace(folders, tuned=tuned), torch.float32)
        assert loaded.model.name_or_path == str(tuned)
        assert (loaded.model.route.routing, loaded.model.route.top_k) == (Routing.TOKEN, top_k)
        assert loaded.active_parameters == load(other, folders, torch.float32).active_parameters
