import json
import shutil

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from codechoir.compose.plan import Form, mixtral_config, plan
from codechoir.errors import IncompatibleModelError, InputError
from codechoir.model.checkpoint import full_config, open_checkpoint, write_checkpoint

UP = "model.layers.1.mlp.up_proj.weight"
Q_BIAS = "model.layers.0.self_attn.q_proj.bias"


@pytest.fixture
def changed(experts, tmp_path):
    """`changed(config, tensors)`: the experts, the Java one with another config or other tensors."""

    def change(config=None, tensors=None):
        checkpoint = open_checkpoint(experts["java"])
        held = dict(checkpoint.items())
        if tensors:
            tensors(held)
        folder = tmp_path / "java"
        write_checkpoint(folder, {**checkpoint.config, **(config or {})}, held, tokenizer=experts["java"])
        return experts | {"java": folder}

    return change


def refusal(trunk, experts):
    with pytest.raises(IncompatibleModelError) as refused:
        plan(trunk, experts)
    assert "\n" in str(refused.value)
    return str(refused.value)


def test_experts_of_one_trunk_fit(trunk, experts):
    found = plan(trunk, experts)
    assert list(found.experts) == ["python", "java", "cpp"]
    model = AutoModelForCausalLM.from_pretrained(trunk)
    names = {name for name, _ in model.named_parameters()}
    assert set(found.feed_forward_names()) == {name for name in names if ".mlp." in name}
    assert len(found.feed_forward_names()) == 6
    assert sorted([*found.feed_forward_names(), *found.shared_names()]) == sorted(names)


def test_the_same_weights_in_another_number_format_fit(trunk, changed):
    """Weights are compared by value."""

    def widen(tensors):
        tensors.update({name: tensor.double() for name, tensor in tensors.items() if ".mlp." not in name})

    experts = changed(tensors=widen)
    assert list(plan(trunk, experts).experts) == list(experts)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"model_type": "mistral"}, "model_type mistral"),
        ({"model_type": "wonder"}, "model_type wonder"),
        ({"vocab_size": 300}, "vocab_size 300"),
        ({"num_hidden_layers": 3}, "num_hidden_layers 3"),
        ({"intermediate_size": 256}, "intermediate_size 256"),
        ({"num_key_value_heads": 4}, "num_key_value_heads 4"),
        ({"rms_norm_eps": 0.1}, "rms_norm_eps 0.1"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5.0}}, "rope_parameters"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings False"),
    ],
)
def test_an_expert_of_another_architecture_is_told(trunk, changed, config, told):
    message = refusal(trunk, changed(config=config))
    assert "java expert is of another architecture" in message
    assert told in message


def test_a_default_that_is_left_out_is_no_other_architecture(trunk, experts, tmp_path):
    folder = shutil.copytree(experts["java"], tmp_path / "java")
    config = json.loads((folder / "config.json").read_text())
    for key in ("rope_parameters", "head_dim", "rms_norm_eps", "hidden_act"):  # all at Llama's defaults
        del config[key]
    (folder / "config.json").write_text(json.dumps(config))
    assert plan(trunk, experts | {"java": folder})


def test_a_config_that_cannot_be_read_is_told(trunk, changed):
    message = refusal(trunk, changed(config={"num_attention_heads": "four"}))
    assert "num_attention_heads" in message


def test_an_expert_of_another_vocabulary_is_told(trunk, changed):
    folders = changed()
    path = folders["java"] / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["model"]["vocab"]["!"], tokenizer["model"]["vocab"]['"'] = 2, 1
    path.write_text(json.dumps(tokenizer))
    message = refusal(trunk, folders)
    assert "java expert has another vocabulary" in message
    assert str(path) in message


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda tensors: tensors.update({UP: tensors[UP][:, :10].clone()}),
            ["another shape", UP, "(128, 10)", "(128, 64)"],
        ),
        (lambda tensors: tensors.update({"odd.weight": torch.ones(2)}), ["odd.weight only in the expert"]),
        (lambda tensors: tensors.pop(UP), [f"{UP} only in the base"]),
    ],
)
def test_a_tensor_that_does_not_fit_is_told(trunk, changed, change, told):
    message = refusal(trunk, changed(tensors=change))
    assert "java" in message
    assert all(part in message for part in told)


def test_one_expert_is_too_few(trunk, experts):
    assert "python" in refusal(trunk, {"python": experts["python"]})
    assert "none" in refusal(trunk, {})


@pytest.mark.parametrize("folder", ["trunk", "expert"])
def test_a_number_format_that_is_not_read_is_told(trunk, experts, tmp_path, folder):
    """Such as eight-bit floats, which need scales that no tensor here says anything of."""
    source = trunk if folder == "trunk" else experts["java"]
    narrow = rewritten(source, tmp_path / folder, lambda held: held.update({UP: held[UP].to(torch.float8_e4m3fn)}))
    with pytest.raises((IncompatibleModelError, InputError), match=r"F8_E4M3|float8"):
        plan(narrow if folder == "trunk" else trunk, experts if folder == "trunk" else experts | {"java": narrow})


def test_a_missing_folder_is_told(trunk, experts, tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        plan(trunk, experts | {"java": tmp_path / "nowhere"})
    with pytest.raises(InputError, match="nowhere"):
        plan(tmp_path / "nowhere", experts)


def test_pickled_experts_are_refused_by_name(trunk, experts, tmp_path):
    folder = shutil.copytree(experts["java"], tmp_path / "java")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model\.bin"):
        plan(trunk, experts | {"java": folder})


def rewritten(folder, out, change, config=None):
    checkpoint = open_checkpoint(folder)
    tensors = dict(checkpoint.items())
    change(tensors)
    write_checkpoint(out, {**checkpoint.config, **(config or {})}, tensors, tokenizer=folder)
    return out


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda tensors: tensors.update({"model.layers.0.mlp.up_proj.bias": torch.ones(128)}),
            "no place for\n  seen:    model.layers.0.mlp.up_proj.bias",
        ),
        (lambda tensors: tensors.update({Q_BIAS: torch.ones(64)}), f"no place for\n  seen:    {Q_BIAS}"),
        (lambda tensors: tensors.pop(UP), f"lacks a tensor of its model class\n  seen:    {UP}"),
    ],
)
def test_a_trunk_that_is_not_as_its_model_class_is_told(trunk, experts, tmp_path, change, told):
    base = rewritten(trunk, tmp_path / "trunk", change)
    folders = {name: rewritten(folder, tmp_path / name, change) for name, folder in experts.items()}
    assert told in refusal(base, folders)


def test_biases_that_the_config_tells_of_must_be_there(trunk, experts, tmp_path):
    config = {"attention_bias": True}
    base = rewritten(trunk, tmp_path / "trunk", dict, config)
    folders = {name: rewritten(folder, tmp_path / name, dict, config) for name, folder in experts.items()}
    assert "self_attn.k_proj.bias" in refusal(base, folders)


def test_what_mixtral_has_no_place_for_makes_the_format_our_own(trunk, experts, tmp_path):
    def add(tensors):
        for layer in (0, 1):
            for module, width in (("q_proj", 64), ("k_proj", 32), ("v_proj", 32), ("o_proj", 64)):
                tensors[f"model.layers.{layer}.self_attn.{module}.bias"] = torch.ones(width)

    config = {"attention_bias": True}
    base = rewritten(trunk, tmp_path / "trunk", add, config)
    folders = {name: rewritten(folder, tmp_path / name, add, config) for name, folder in experts.items()}
    found = plan(base, folders)
    assert found.form is Form.OWN
    assert Q_BIAS in {output.tensor.name for output in found.outputs}
    assert plan(trunk, experts).form is Form.MIXTRAL


def test_the_written_config_says_what_the_dense_one_leaves_to_defaults(trunk, tmp_path):
    """Mixtral's defaults are other than Llama's (rope base 1e6 and 1e4, epsilon 1e-5 and 1e-6)."""
    sizes = ("model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    checkpoint = open_checkpoint(trunk)
    bare = tmp_path / "bare"
    write_checkpoint(bare, {key: checkpoint.config[key] for key in sizes}, dict(checkpoint.items()), tokenizer=trunk)
    dense = AutoConfig.from_pretrained(bare)
    written = mixtral_config(full_config(open_checkpoint(bare)), 4, 2)
    read = AutoConfig.for_model(**written)
    for key in ("rms_norm_eps", "num_key_value_heads", "head_dim", "rope_parameters", "tie_word_embeddings"):
        assert getattr(read, key) == getattr(dense, key), key
    assert (read.model_type, read.num_local_experts, read.num_experts_per_tok) == ("mixtral", 4, 2)
    assert read.max_position_embeddings == dense.max_position_embeddings


def test_top_k_is_at_most_the_number_of_experts(trunk):
    assert mixtral_config(full_config(open_checkpoint(trunk)), 2, 8)["num_experts_per_tok"] == 2


def test_a_sliding_window_is_kept():
    dense = AutoConfig.for_model("mistral", hidden_size=64, num_attention_heads=4, sliding_window=33, head_dim=32)
    written = mixtral_config(dense.to_dict(), 4, 2)
    assert (written["sliding_window"], written["head_dim"]) == (33, 32)
