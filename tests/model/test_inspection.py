import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from codechoir.errors import IncompatibleModelError
from codechoir.model.checkpoint import model_config
from codechoir.model.families import FAMILIES
from codechoir.model.inspection import inspect_model


@pytest.mark.parametrize(
    ("model_type", "expected"),
    [
        ("gptj", ("transformer.h", "mlp", None, "fc_in", "fc_out", True, "gelu_new")),
        ("nemotron", ("model.layers", "mlp", None, "up_proj", "down_proj", False, "relu2")),
        ("stablelm", ("model.layers", "mlp", "gate_proj", "up_proj", "down_proj", False, "silu")),
        ("cohere", ("model.layers", "mlp", "gate_proj", "up_proj", "down_proj", False, "silu")),
    ],
)
def test_a_family_that_no_table_has_is_found(model_type, expected, small_config):
    assert model_type not in FAMILIES
    found = inspect_model(small_config(model_type), "here")
    assert tuple(getattr(found, name) for name in found.__slots__) == expected


@pytest.mark.parametrize("model_type", ["gptj", "nemotron", "stablelm"])
@torch.no_grad()
def test_what_is_found_is_what_the_module_computes(model_type, small_config):
    from transformers.activations import ACT2FN

    config = small_config(model_type)
    found = inspect_model(config, "here")
    model = AutoModelForCausalLM.from_config(model_config(config, "here")).eval()
    module = model.get_submodule(f"{found.layers}.1.{found.feed_forward}")
    x, parts = torch.randn(2, 5, 32), dict(module.named_children())
    inner = ACT2FN[found.activation](parts[found.gate or found.up](x))
    if found.gate:
        inner = inner * parts[found.up](x)
    assert torch.equal(parts[found.down](inner), module(x))


@pytest.mark.parametrize(
    ("model_type", "told"),
    [
        ("gpt2", "Conv1D"),
        ("phi3", "fused.*gate_up_proj"),
        ("opt", "itself: fc1, fc2"),
        ("bloom", "BloomMLP with dense_h_to_4h"),  # takes the residual, too
        ("mixtral", "two or three Linear"),
        ("mamba", "two or three Linear"),
        ("t5", "causal language model"),
        ("gemma3n", "causal language model"),  # needs timm
        ("dbrx", "causal language model"),  # reads a setting that its config lacks
        ("blt", "its config has no (hidden_size|num_hidden_layers)"),
        ("wonder", "wonder"),
    ],
)
def test_what_could_not_be_told_is_named(model_type, told, small_config):
    config = {"model_type": model_type}
    if model_type not in ("wonder", "gemma3n", "dbrx", "blt"):
        config = small_config(model_type)
    with pytest.raises(IncompatibleModelError, match=told) as refused:
        inspect_model(config, "some/folder")
    assert "some/folder" in str(refused.value)
    assert len(str(refused.value)) < 1000


class Crooked(nn.Module):
    """A feed-forward module that looks as the known ones do and computes something else."""

    def __init__(self, dense):
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = dense.gate_proj, dense.up_proj, dense.down_proj

    def forward(self, x):
        return self.down_proj(torch.sigmoid(self.gate_proj(x)) * self.up_proj(x))


def changed(monkeypatch, change):
    """Lets transformers build models whose layers `change` has changed."""
    build = AutoModelForCausalLM.from_config

    def from_config(config):
        model = build(config)
        for number, layer in enumerate(model.model.layers):
            change(number, layer)
        return model

    monkeypatch.setattr(AutoModelForCausalLM, "from_config", from_config)


def crooked(_number, layer):
    layer.mlp = Crooked(layer.mlp)


def half_biased(_number, layer):
    layer.mlp.up_proj = nn.Linear(32, 48, bias=True)


def unlike(number, layer):
    if number == 1:
        layer.other = layer.mlp
        del layer.mlp


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (crooked, "what its feed-forward module computes could not be told"),
        (half_biased, "only some of its feed-forward layers have biases"),
        (unlike, "different feed-forward modules"),
    ],
)
def test_a_module_is_believed_by_what_it_computes(change, told, monkeypatch, small_config):
    config = small_config("llama")
    changed(monkeypatch, change)
    with pytest.raises(IncompatibleModelError, match=told):
        inspect_model(config, "here")


def test_two_feed_forward_modules_in_a_layer_are_told(monkeypatch, small_config):
    def two_of_their_own(_number, layer):
        second = type(layer.mlp)(layer.mlp.config)
        layer.second = second

    config = small_config("llama")
    changed(monkeypatch, two_of_their_own)
    with pytest.raises(IncompatibleModelError, match="2 modules that could be its feed-forward: mlp, second"):
        inspect_model(config, "here")


def test_a_model_with_two_lists_of_layers_is_told(monkeypatch, small_config):
    build = AutoModelForCausalLM.from_config

    def from_config(config):
        model = build(config)
        model.others = nn.ModuleList(nn.Identity() for _ in range(3))
        return model

    monkeypatch.setattr(AutoModelForCausalLM, "from_config", from_config)
    with pytest.raises(IncompatibleModelError, match="which modules are its layers"):
        inspect_model(small_config("llama"), "here")
