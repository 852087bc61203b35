import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from codechoir.compose.experts import Kind
from codechoir.compose.stage import ComposeInputs, compose
from codechoir.compose.views import view_composed
from codechoir.errors import InputError
from codechoir.model.checkpoint import open_checkpoint

LANGUAGES = ("python", "java", "cpp")


@pytest.fixture(scope="module")
def own_form(compose_config, trunk, experts, tmp_path_factory):
    """A `codechoir_moe` folder: experts in layer 1 alone, and the generalist."""
    folder = tmp_path_factory.mktemp("views") / "own"
    config = compose_config.model_copy(
        update={"layers": "1", "generalist": True, "shared": "base", "shard_bytes": 200_000}
    )
    compose(config, ComposeInputs(trunk, experts, None, {}), folder)
    return folder


def test_each_expert_of_a_mixtral_folder_is_its_own_dense_model(composed, experts):
    view = view_composed(composed)
    assert view.is_mixtral and list(view.checkpoints) == list(LANGUAGES)
    for name, checkpoint in view.checkpoints.items():
        expected = load_file(experts[name] / "model.safetensors")
        assert set(checkpoint.files) == set(expected) == set(checkpoint.specs())
        for tensor in expected:
            assert torch.equal(checkpoint.read(tensor), expected[tensor]), tensor
            assert checkpoint.specs()[tensor].shape == expected[tensor].shape
            assert checkpoint.files[tensor] == composed / "model.safetensors"


def test_packed_rows_are_each_experts_tensors(own_form, experts, trunk):
    view = view_composed(own_form)
    assert not view.is_mixtral and list(view.checkpoints) == [*LANGUAGES, "generalist"]
    base = load_file(trunk / "model.safetensors")
    for name, checkpoint in view.checkpoints.items():
        own = load_file(experts.get(name, trunk) / "model.safetensors")
        expected = {key: own[key] if ".layers.1.mlp." in key else tensor for key, tensor in base.items()}
        assert set(checkpoint.files) == set(expected)
        for tensor in expected:
            assert torch.equal(checkpoint.read(tensor), expected[tensor]), tensor
            assert checkpoint.specs()[tensor] == open_checkpoint(trunk).specs()[tensor]


def test_an_expert_has_the_routed_layers_feed_forward_of_its_own(own_form):
    view = view_composed(own_form)
    expert = view.expert("java", view.trunk("python"))
    assert expert.kind is Kind.FEED_FORWARD
    assert {name.rpartition(".mlp.")[0] for name in expert.files} == {"model.layers.1"}
    assert torch.equal(expert.read("model.norm.weight"), view.checkpoints["python"].read("model.norm.weight"))


@pytest.mark.parametrize("form", ["mixtral", "own"])
def test_routers_are_read_as_written(composed, own_form, form):
    folder = composed if form == "mixtral" else own_form
    view = view_composed(folder)
    name = "block_sparse_moe.gate" if form == "mixtral" else "mlp.router"
    assert torch.equal(view.router(1), open_checkpoint(folder).read(f"model.layers.1.{name}.weight"))


def test_a_plain_folder_is_refused(trunk):
    with pytest.raises(InputError, match=r"routing\.json"):
        view_composed(trunk)


def test_a_sidecar_of_more_experts_than_the_weights_have_is_refused(composed, tmp_path):
    folder = shutil.copytree(composed, tmp_path / "model")
    text = (folder / "routing.json").read_text()
    (folder / "routing.json").write_text(text.replace('"cpp"', '"cpp",\n  "rust"'))
    with pytest.raises(InputError, match=r"experts\.3\.w1") as refused:
        view_composed(folder)
    assert str(folder) in str(refused.value)


def test_damage_is_told_with_the_file(composed, tmp_path):
    folder = shutil.copytree(composed, tmp_path / "model")
    view = view_composed(folder)
    checkpoint = view.checkpoints["java"]
    moved = replace(checkpoint, files=dict.fromkeys(checkpoint.files, tmp_path / "gone.safetensors"))
    with pytest.raises(InputError, match="gone"):
        moved.read("model.norm.weight")
