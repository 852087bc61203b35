import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from codechoir.compose.export.source import open_source
from codechoir.errors import ConfigError, IncompatibleModelError, InputError
from codechoir.model.checkpoint import CHECKSUMS


@pytest.mark.parametrize("name", ["llama", "qwen2", "starcoder2", "llama, layer 1"])
def test_every_expert_is_given_back_as_it_came(made, name):
    composed, experts = made(name)
    source = open_source(composed)
    assert source.is_mixtral == (name == "llama")
    for index, (language, folder) in enumerate(experts.items()):
        assert source.expert_index(language) == index
        given = load_file(folder / "model.safetensors")
        found = {name: source.read(name) for name in source.shared}
        for layer in source.layers:
            for tensor in source.family.feed_forward_names(layer):
                found[tensor] = source.expert(index, tensor)
                spec = source.expert_spec(tensor)
                assert (spec.shape, spec.dtype) == (found[tensor].shape, found[tensor].dtype)
        assert found.keys() == given.keys()
        assert all(torch.equal(found[tensor], given[tensor]) for tensor in given)
    assert source.top_k == 2
    assert source.router(source.layers[0]).shape == source.router_spec(source.layers[0]).shape == (3, 32)


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_tensors_that_are_missing_or_unknown_are_named(made, tmp_path, name):
    folder = shutil.copytree(made(name)[0], tmp_path / "model")
    (folder / CHECKSUMS).unlink()
    whole = load_file(folder / "model.safetensors")
    router = next(tensor for tensor in whole if ".gate.weight" in tensor or ".router.weight" in tensor)
    save_file({key: value for key, value in whole.items() if key != router}, folder / "model.safetensors")
    with pytest.raises(InputError, match=router):
        open_source(folder)
    save_file(whole | {"model.layers.0.self_attn.q_norm.weight": torch.ones(8)}, folder / "model.safetensors")
    with pytest.raises(IncompatibleModelError, match="q_norm"):
        open_source(folder)


def test_an_unknown_expert_is_told(made):
    source = open_source(made("llama")[0])
    with pytest.raises(ConfigError, match=r"no such expert[\s\S]*ruby[\s\S]*python, java, cpp"):
        source.expert_index("ruby")
    with pytest.raises(ConfigError, match=r"name the expert[\s\S]*--expert"):
        source.expert_index(None)
