import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from codechoir.compose.trunk import open_trunk
from codechoir.model.checkpoint import open_checkpoint
from codechoir.model.inspection import build_on_meta
from codechoir.model.names import named, names_of


@pytest.fixture
def neox(tmp_path):
    """A small GPT-NeoX as transformers saves it: the head under its older name."""
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = AutoConfig.for_model("gpt_neox", **sizes, vocab_size=30, bos_token_id=0, eos_token_id=0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    return tmp_path


def rewritten(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def test_an_older_name_is_the_class_s_own(neox):
    checkpoint = open_checkpoint(neox)
    assert "embed_out.weight" in checkpoint.files
    tensors = open_trunk(neox).tensors
    assert "embed_out.weight" not in tensors.files
    assert torch.equal(tensors.read("lm_head.weight"), checkpoint.read("embed_out.weight"))
    assert set(tensors.files) == set(AutoModelForCausalLM.from_pretrained(neox).state_dict())


def test_what_the_model_computes_is_left_out_and_anything_else_is_not(neox):
    def add(tensors):
        tensors["gpt_neox.layers.0.attention.bias"] = torch.ones(1, 1, 4, 4, dtype=torch.bool)
        tensors["gpt_neox.layers.1.attention.masked_bias"] = torch.tensor(-1e9)
        tensors["gpt_neox.layers.1.attention.rotary_emb.inv_freq"] = torch.ones(2)

    before = set(open_trunk(neox).specs)
    rewritten(neox, add)
    trunk = open_trunk(neox)
    assert set(trunk.specs) == before
    for name in set(trunk.tensors.files) - before:
        assert trunk.names.is_computed(name)
    assert not trunk.names.is_computed("gpt_neox.layers.0.attention.dense.bias")


def test_a_decoder_stored_without_its_prefix_is_found(trunk, tmp_path):
    checkpoint = open_checkpoint(trunk)
    save_file(
        {name.removeprefix("model."): tensor for name, tensor in checkpoint.items()}, tmp_path / "model.safetensors"
    )
    (tmp_path / "config.json").write_bytes((trunk / "config.json").read_bytes())
    assert set(open_trunk(tmp_path).specs) == set(checkpoint.files)


def test_tied_weights_have_one_first_name(trunk):
    checkpoint = open_checkpoint(trunk)
    names = names_of(build_on_meta(checkpoint.config, trunk))
    assert names.tied == {"lm_head.weight": "model.embed_tokens.weight"}
    assert set(named(checkpoint, names).files) == names.weights - {"lm_head.weight"}
    untied = names_of(build_on_meta(checkpoint.config | {"tie_word_embeddings": False}, trunk))
    assert untied.tied == {}
