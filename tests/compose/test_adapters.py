"""LoRA folders as PEFT writes them. Where PEFT is installed, its own merge is the oracle."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from codechoir.compose.adapters import open_adapter
from codechoir.errors import IncompatibleModelError, InputError
from codechoir.model.checkpoint import open_checkpoint

UP, DOWN = "model.layers.0.mlp.up_proj", "model.layers.1.mlp.down_proj"
SHAPES = {f"{UP}.weight": (6, 4), f"{DOWN}.weight": (4, 6), "lm_head.weight": (9, 4)}


def pair(module, rows, columns, rank=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        f"base_model.model.{module}.lora_A.weight": torch.randn(rank, columns, generator=generator),
        f"base_model.model.{module}.lora_B.weight": torch.randn(rows, rank, generator=generator),
    }


@pytest.fixture
def adapter(tmp_path):
    """`adapter(tensors, **settings)`: a PEFT folder written by hand."""

    def write(tensors, **settings):
        settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "target_modules": ["up_proj"]} | settings
        (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
        save_file(tensors, tmp_path / "adapter_model.safetensors")
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({}, 3.0),
        ({"use_rslora": True}, 6 / 2**0.5),
        ({"alpha_pattern": {"up_proj": 8}}, 4.0),
        ({"alpha_pattern": {"down_proj": 8}}, 3.0),
        ({"r": 99, "rank_pattern": {r"layers\.0\.mlp\.up_proj": 2}}, 3.0),
    ],
)
def test_a_pair_is_added_with_its_scale(adapter, settings, scale):
    tensors = pair(UP, 6, 4)
    opened = open_adapter(adapter(tensors, **settings), SHAPES)
    base = torch.randn(6, 4, generator=torch.Generator().manual_seed(9))
    a, b = tensors.values()
    torch.testing.assert_close(opened.read(f"{UP}.weight", base), base + scale * (b @ a))
    assert set(opened.pairs) == {f"{UP}.weight"}


def test_a_transposed_module_gets_the_pair_transposed(adapter):
    tensors = pair(UP, 4, 6)
    opened = open_adapter(adapter(tensors, fan_in_fan_out=True), SHAPES)
    a, b = tensors.values()
    torch.testing.assert_close(opened.read(f"{UP}.weight", torch.zeros(6, 4)), 3 * (b @ a).T)


def test_sums_are_taken_in_float32_and_kept_in_the_bases_format(adapter):
    tensors = {name: tensor.bfloat16() for name, tensor in pair(UP, 6, 4).items()}
    opened = open_adapter(adapter(tensors), SHAPES)
    base = torch.randn(6, 4, generator=torch.Generator().manual_seed(9)).bfloat16()
    a, b = tensors.values()
    assert torch.equal(opened.read(f"{UP}.weight", base), (base.float() + 3 * (b.float() @ a.float())).bfloat16())


def test_whole_modules_take_the_bases_place(adapter):
    head = torch.ones(9, 4)
    opened = open_adapter(adapter({"base_model.model.lm_head.weight": head, **pair(UP, 6, 4)}), SHAPES)
    assert torch.equal(opened.read("lm_head.weight", torch.zeros(9, 4)), head)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"peft_type": "IA3"}, "peft_type IA3"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights pissa_niter_4"),
        ({"init_lora_weights": "olora"}, "init_lora_weights olora"),
        ({"lora_bias": True}, "lora_bias"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"some_future_variant": True}, "some_future_variant"),
    ],
)
def test_what_cannot_be_merged_exactly_is_refused_by_name(adapter, settings, told):
    with pytest.raises(IncompatibleModelError, match=told):
        open_adapter(adapter(pair(UP, 6, 4), **settings), SHAPES)


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        (pair("model.layers.7.mlp.up_proj", 6, 4), "layers.7.mlp.up_proj"),
        (pair("model.layers.0.mlp.experts", 6, 4), "mlp.experts"),
        (pair(UP, 6, 5), "(6, 4)"),
        (dict([next(iter(pair(UP, 6, 4).items()))]), "lora_B"),
        ({f"base_model.model.{UP}.lora_magnitude_vector": torch.ones(6)}, "lora_magnitude_vector"),
        ({"base_model.model.lm_head.weight": torch.ones(8, 4)}, "lm_head.weight"),
    ],
)
def test_a_tensor_without_a_place_in_the_base_is_refused_by_name(adapter, tensors, told):
    with pytest.raises(IncompatibleModelError) as refused:
        open_adapter(adapter(tensors), SHAPES)
    assert told in str(refused.value)


def test_a_pickled_adapter_is_refused_by_name(adapter):
    folder = adapter(pair(UP, 6, 4))
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(InputError, match=r"adapter_model\.bin"):
        open_adapter(folder, SHAPES)


@pytest.mark.parametrize("settings", [{"r": 0}, {"r": None}, {"r": 2, "rank_pattern": {"(": 2}}])
def test_a_config_that_does_not_tell_the_scale_is_told(adapter, settings):
    with pytest.raises(InputError, match=r"adapter_config\.json"):
        open_adapter(adapter(pair(UP, 6, 4), **settings), SHAPES)


@pytest.mark.filterwarnings("ignore")  # of the library's own
@pytest.mark.parametrize(
    "more",
    [{}, {"use_rslora": True}, {"rank_pattern": {"down_proj": 3}, "alpha_pattern": {"gate_proj": 5}}, {"bias": "all"}],
)
def test_it_is_what_peft_merges(trunk, tmp_path, more):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    settings = {"r": 2, "lora_alpha": 6, "target_modules": ["gate_proj", "up_proj", "down_proj", "q_proj"]} | more
    model = AutoModelForCausalLM.from_pretrained(trunk, dtype=torch.float32)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(init_lora_weights=False, **settings))
    wrapped.save_pretrained(tmp_path)
    base = open_checkpoint(trunk)
    opened = open_adapter(tmp_path, base.shapes())
    merged = dict(wrapped.merge_and_unload().named_parameters())
    assert len(opened.pairs) == 2 * 4
    assert len(load_file(tmp_path / "adapter_model.safetensors")) == 2 * len(opened.pairs)
    for name in opened.pairs:
        torch.testing.assert_close(opened.read(name, base.read(name)), merged[name].detach(), rtol=1e-6, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_peft_on_modules_that_keep_their_weights_transposed(tmp_path):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    config = AutoConfig.for_model("gpt2", n_embd=8, n_layer=1, n_head=2, vocab_size=9, n_positions=8)
    model = AutoModelForCausalLM.from_config(config)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    lora = peft.LoraConfig(r=2, target_modules=["mlp.c_fc"], init_lora_weights=False, fan_in_fan_out=True)
    wrapped = peft.get_peft_model(model, lora)
    wrapped.save_pretrained(tmp_path)
    opened = open_adapter(tmp_path, {name: tuple(tensor.shape) for name, tensor in before.items()})
    merged = dict(wrapped.merge_and_unload().named_parameters())
    (name,) = opened.pairs
    torch.testing.assert_close(opened.read(name, before[name]), merged[name].detach(), rtol=1e-6, atol=1e-6)
