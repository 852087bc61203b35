import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from codechoir.errors import IncompatibleModelError
from codechoir.model.families import FAMILIES, family_of

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 40,
}


@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_table_agrees_with_the_modules_of_transformers(model_type):
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **SMALL))
    family = family_of({"model_type": model_type}, "here")
    layers = model.get_submodule(family.layers)
    assert len(layers) == 2
    expected = set()
    for number, layer in enumerate(layers):
        module = layer.get_submodule(family.feed_forward)
        assert type(module).__name__ == f"{model_type.title()}MLP"
        assert {name for name, _ in module.named_parameters()} == {
            f"{name}.weight" for name in (family.gate, family.up, family.down)
        }
        expected |= {family.feed_forward_prefix(number) + name for name, _ in module.named_parameters()}
    assert {name for name, _ in model.named_parameters() if family.is_feed_forward(name)} == expected


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, "None"),
        ({"model_type": "wonder"}, "wonder"),
        ({"model_type": "llama", "attention_bias": True}, "attention_bias"),
        ({"model_type": "llama", "mlp_bias": True}, "mlp_bias"),
        ({"model_type": "mistral", "hidden_act": "gelu"}, "gelu"),
    ],
)
def test_what_cannot_be_composed_is_refused_by_name(config, told):
    with pytest.raises(IncompatibleModelError, match=told) as refused:
        family_of(config, "some/folder")
    assert "some/folder" in str(refused.value)
    assert refused.value.allowed


def test_the_activation_may_be_left_to_its_default():
    assert family_of({"model_type": "llama", "attention_bias": False}, "here").gate == "gate_proj"
