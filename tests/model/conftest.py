"""What tests of models share: small random models of every family with composed ones of them."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from codechoir.model.families import FAMILIES, family_of
from codechoir.model.moe import composed_config, copy_modelling_files, packed_parts, router_name, write_routing
from codechoir.model.prompt_router import BUCKETS, PromptRouter
from codechoir.model.streaming import PlannedTensor, plan_shards, write_streaming

EXPERTS = ("python", "java", "cpp")
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 40,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT_SIZES = {
    "n_embd": 32,
    "n_head": 4,
    "n_layer": 3,
    "n_inner": 48,
    "n_positions": 64,
    "n_ctx": 64,
    "vocab_size": 40,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
OF_THEIR_OWN = {
    "gpt_bigcode": GPT_SIZES,
    "codegen": GPT_SIZES | {"rotary_dim": 4},
    "gptj": GPT_SIZES | {"rotary_dim": 4},
    **{name: SIZES | {"head_dim": 8} for name in ("gemma", "gemma2", "gemma3_text", "qwen3", "llama", "mistral")},
}


@pytest.fixture(scope="session")
def small_config():
    """`small_config(model_type, **more)`: the full config of a small model, by its real config class."""

    def make(model_type, **more):
        settings = OF_THEIR_OWN.get(model_type, SIZES) | more
        return AutoConfig.for_model(model_type, **settings).to_dict() | {"dtype": "float32"}

    return make


class SmallMoe(NamedTuple):
    """A `codechoir_moe` folder, and the dense models that it was made of, as plain transformers has them."""

    folder: Path
    config: dict[str, Any]  # the dense model's
    experts: dict[str, Any]  # name -> dense model with that expert's feed-forward weights
    moe_layers: tuple[int, ...]
    tensors: dict[str, torch.Tensor]  # as written


def random_model(config, seed):
    """A model with weights large enough that every part of it shows in the logits."""
    settings = dict(config)
    kind = AutoConfig.for_model(settings.pop("model_type"), **settings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(kind).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


@pytest.fixture(scope="session")
def small_moe(small_config, random_base, tmp_path_factory):
    """`small_moe(model_type, moe_layers=all, identical=False, **config)`: a composed folder of three experts."""

    def make(model_type, moe_layers=(0, 1, 2), identical=False, **more):
        config = small_config(model_type, **more)
        family = family_of(config, "here")
        trunk = random_model(config, 0)
        routed = tuple(family.feed_forward_prefix(layer) for layer in moe_layers)
        dense = {}
        for seed, name in enumerate(EXPERTS, 1):
            other = trunk.state_dict() if identical else random_model(config, seed).state_dict()
            dense[name] = random_model(config, 0)
            own = {key: value for key, value in other.items() if key.startswith(routed)}
            dense[name].load_state_dict(trunk.state_dict() | own)
        tied = trunk._tied_weights_keys if config.get("tie_word_embeddings") else {}
        tensors = {
            name: value.clone()
            for name, value in trunk.state_dict().items()
            if not name.startswith(routed) and name not in (tied or {})
        }
        generator = torch.Generator().manual_seed(9)
        for layer in moe_layers:
            for packed, parts in packed_parts(family, layer).items():
                states = [model.state_dict() for model in dense.values()]
                tensors[packed] = torch.stack([torch.cat([state[part] for part in parts]) for state in states])
            tensors[router_name(family, layer)] = torch.randn(len(EXPERTS), 32, generator=generator)
        folder = tmp_path_factory.mktemp(model_type)
        router = PromptRouter(
            torch.randn(BUCKETS, len(EXPERTS), generator=generator), torch.zeros(40, dtype=torch.bool), 1.0, 8
        )
        write_routing(folder, config, EXPERTS, router)
        copy_modelling_files(folder)
        shards = plan_shards([PlannedTensor(n, t.dtype, tuple(t.shape)) for n, t in tensors.items()], 20_000)
        settings = composed_config(config, family, EXPERTS, moe_layers, 1)
        write_streaming(folder, settings, shards, tensors.__getitem__, tokenizer=random_base)
        return SmallMoe(folder, config, dense, tuple(moe_layers), tensors)

    return make


@pytest.fixture(scope="session", params=[*FAMILIES, "gptj", "nemotron", "llama with biases"])
def any_moe(request, small_moe):
    """A composed folder of each family: those of the table, and some that are found by inspection."""
    if request.param == "llama with biases":
        return small_moe("llama", mlp_bias=True, attention_bias=True)
    return small_moe(request.param)
