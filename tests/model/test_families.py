import pytest
import torch
from tests.published import PHI_2, SANTACODER
from transformers import AutoModelForCausalLM

from codechoir.errors import IncompatibleModelError
from codechoir.model.checkpoint import model_config
from codechoir.model.families import FAMILIES, Family, decoder_of, family_of
from codechoir.model.inspection import inspect_model


@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_table_says_what_inspection_finds(model_type, small_config):
    config = small_config(model_type)
    family, found = family_of(config, "here"), inspect_model(config, "here")
    assert {name: getattr(family, name) for name in found.__slots__} == {
        name: getattr(found, name) for name in found.__slots__
    }
    assert family.model_type == model_type


@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_names_are_those_of_transformers(model_type, small_config):
    config = small_config(model_type)
    family = family_of(config, "here")
    model = AutoModelForCausalLM.from_config(model_config(config, "here"))
    expected = set()
    for number, layer in enumerate(model.get_submodule(family.layers)):
        module = layer.get_submodule(family.feed_forward)
        names = {family.feed_forward_prefix(number) + name for name, _ in module.named_parameters()}
        assert set(family.feed_forward_names(number)) == names
        expected |= names
    assert {name for name, _ in model.named_parameters() if family.is_feed_forward(name)} == expected
    decoder = decoder_of(config, "here")
    assert (decoder.num_layers, decoder.width, decoder.vocabulary) == (3, 32, 40)
    assert len(model.get_submodule(family.layers)) == 3


@pytest.mark.parametrize(
    ("config", "parameters", "activation", "modules"),
    [
        (SANTACODER, 1_124_886_528, "gelu_fast", ("c_fc", "c_proj")),
        (PHI_2, 2_779_683_840, "gelu_new", ("fc1", "fc2")),
    ],
)
def test_published_models_are_known_at_full_shape(config, parameters, activation, modules):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(model_config(config, "here"))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters  # as their pages say
    family = family_of(config, "here")
    assert (family.activation, family.modules, family.has_bias, family.native) == (activation, modules, True, None)
    found = inspect_model(config, "here")
    assert all(getattr(family, name) == getattr(found, name) for name in found.__slots__)


@pytest.mark.parametrize("model_type", ["llama", "mistral"])
def test_what_mixtral_can_say_is_written_as_mixtral(model_type):
    assert family_of({"model_type": model_type}, "here").native == "mixtral"
    assert family_of({"model_type": model_type, "hidden_act": "gelu"}, "here").native is None
    assert family_of({"model_type": "qwen2"}, "here").native is None


@pytest.mark.parametrize("key", ["attention_bias", "mlp_bias"])
def test_biases_leave_mixtral_and_are_never_dropped(key, small_config):
    config = small_config("llama", **{key: True})
    family = family_of(config, "here")
    assert family.native is None
    assert family.has_bias == (key == "mlp_bias")
    assert len(family.feed_forward_names(0)) == (6 if key == "mlp_bias" else 3)


def test_a_config_that_leaves_out_its_defaults_has_those_of_its_class():
    assert family_of({"model_type": "gpt_bigcode"}, "here").activation == "gelu_pytorch_tanh"
    assert family_of({"model_type": "starcoder2"}, "here").has_bias
    assert not family_of({"model_type": "starcoder2", "use_bias": False}, "here").has_bias


@pytest.mark.parametrize("model_type", FAMILIES)
def test_what_a_family_describes_comes_back(model_type, small_config):
    family = family_of(small_config(model_type), "here")
    restored = Family.restore(model_type, family.describe())
    assert restored.describe() == family.describe()
    assert restored.native is None


@pytest.mark.parametrize(("config", "told"), [({}, "None"), ({"model_type": "wonder"}, "wonder")])
def test_what_cannot_be_composed_is_refused_by_name(config, told):
    with pytest.raises(IncompatibleModelError, match=told) as refused:
        family_of(config, "some/folder")
    assert "some/folder" in str(refused.value)
    assert len(str(refused.value)) < 1000
