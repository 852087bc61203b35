"""What each target is planned as, and why one is refused. The names are those that others' readers expect."""

import re
from collections.abc import Iterable

import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen2MoeConfig

from codechoir.compose.export.source import open_source
from codechoir.compose.export.targets import plan_dense, plan_mixtral, plan_own, plan_qwen2_moe
from codechoir.errors import IncompatibleModelError
from codechoir.model.checkpoint import open_checkpoint


def values(target):
    """The tensors that a target would write."""
    found = {}
    for tensor in target.tensors:
        given = target.values[tensor.name]()
        parts = [given] if isinstance(given, torch.Tensor) else list(given) if isinstance(given, Iterable) else None
        found[tensor.name] = parts[0] if isinstance(given, torch.Tensor) else torch.cat(parts)
        assert found[tensor.name].shape == tensor.shape and found[tensor.name].dtype == tensor.dtype
    return found


def test_mixtral_is_what_compose_wrote(made):
    composed, _ = made("llama")
    target = plan_mixtral(open_source(composed))
    written, found = load_file(composed / "model.safetensors"), values(target)
    assert found.keys() == written.keys()
    assert all(torch.equal(found[name], written[name]) for name in written)
    assert dict(target.config) == open_checkpoint(composed).config
    # mergekit 0.1.5 packs them, which neither vLLM nor llama.cpp's converter takes.
    experts = {name for name in found if ".experts." in name}
    shape = re.compile(r"model\.layers\.[01]\.block_sparse_moe\.experts\.[012]\.w[123]\.weight")
    assert len(experts) == 2 * 3 * 3 and all(shape.fullmatch(name) for name in experts)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        # mergekit 0.1.5 drops these biases and says nothing.
        ("llama with attention biases", r"Mixtral has no place for model\.layers\.0\.self_attn\.k_proj\.bias"),
        ("llama, layer 1", "1 of 2 layers have no experts"),
        ("qwen2", r"no place for model\.layers\.0\.self_attn\.k_proj\.bias"),
        ("starcoder2", "no place for .*bias"),
    ],
)
def test_what_mixtral_cannot_say_is_refused_and_why(made, name, why):
    with pytest.raises(IncompatibleModelError, match=rf"cannot be exported as mixtral[\s\S]*{why}"):
        plan_mixtral(open_source(made(name)[0]))


@pytest.mark.parametrize("name", ["qwen2", "qwen2, tied"])
def test_qwen2_moe_has_the_experts_and_a_shared_one_of_zeros(made, name):
    composed, experts = made(name)
    target = plan_qwen2_moe(open_source(composed))
    found = values(target)
    for index, folder in enumerate(experts.values()):
        given = load_file(folder / "model.safetensors")
        for tensor, value in given.items():
            placed = tensor.replace(".mlp.", f".mlp.experts.{index}.")
            assert torch.equal(found.pop(placed) if ".mlp." in tensor else found[placed], value)
    rest = {name for name in found if ".mlp." in name}
    assert rest == {
        f"model.layers.{layer}.mlp.{part}.weight"
        for layer in (0, 1)
        for part in (
            *("gate", "shared_expert_gate"),
            *(f"shared_expert.{module}_proj" for module in ("gate", "up", "down")),
        )
    }
    assert not any(found[name].any() for name in rest if "shared_expert" in name)
    config = Qwen2MoeConfig(**target.config)
    assert (config.norm_topk_prob, config.num_experts, config.num_experts_per_tok) == (True, 3, 2)
    assert (config.moe_intermediate_size, config.qkv_bias) == (64, True)
    assert config.tie_word_embeddings == ("tied" in name)


@pytest.mark.parametrize("name", ["llama", "starcoder2"])
def test_only_qwen2_becomes_qwen2_moe(made, name):
    with pytest.raises(IncompatibleModelError, match=rf"cannot be exported as qwen2_moe[\s\S]*{name}, not qwen2"):
        plan_qwen2_moe(open_source(made(name)[0]))


def test_qwen2_moe_with_a_window_or_some_dense_layers_is_refused(made):
    source = open_source(made("qwen2")[0])
    source.dense_config = dict(source.dense_config) | {"use_sliding_window": True}
    with pytest.raises(IncompatibleModelError, match="sliding window"):
        plan_qwen2_moe(source)
    source.layers = (1,)
    with pytest.raises(IncompatibleModelError, match="1 of 2 layers have no experts"):
        plan_qwen2_moe(source)


@pytest.mark.parametrize("name", ["llama", "qwen2, tied", "starcoder2", "llama, layer 1"])
def test_dense_is_the_expert(made, name):
    composed, experts = made(name)
    target = plan_dense(open_source(composed), "java")
    given, found = load_file(experts["java"] / "model.safetensors"), values(target)
    assert found.keys() == given.keys()
    assert all(torch.equal(found[tensor], given[tensor]) for tensor in given)
    assert target.config["model_type"] == open_checkpoint(experts["java"]).config["model_type"]


def test_our_own_form_is_the_same_from_either_form(made):
    composed, _ = made("qwen2")
    own = values(plan_own(open_source(composed)))
    written = load_file(composed / "model.safetensors")
    assert own.keys() == written.keys() and all(torch.equal(own[name], written[name]) for name in written)
    composed, experts = made("llama")
    target = plan_own(open_source(composed))
    packed = values(target)["model.layers.1.mlp.experts.gate_up_proj"]
    java = load_file(experts["java"] / "model.safetensors")
    assert torch.equal(packed[1, :64], java["model.layers.1.mlp.gate_proj.weight"])
    assert torch.equal(packed[1, 64:], java["model.layers.1.mlp.up_proj.weight"])
    assert target.config["auto_map"] and target.config["num_experts_per_tok"] == 2
