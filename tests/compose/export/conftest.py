"""Small composed models of several families, with fitted routers, to be exported."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from codechoir.compose.stage import ComposeInputs, compose
from codechoir.model.checkpoint import open_checkpoint
from codechoir.model.families import family_of

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 260,  # three ids more than the tokenizer has
    "max_position_embeddings": 192,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
MADE = {
    "llama": ("llama", SIZES | {"rope_theta": 500.0}, "all"),
    "llama with attention biases": ("llama", SIZES | {"attention_bias": True, "head_dim": 16}, "all"),
    "llama, layer 1": ("llama", SIZES, "1"),
    "mistral with a window": ("mistral", SIZES | {"sliding_window": 16}, "all"),
    "qwen2": ("qwen2", SIZES, "all"),
    "qwen2, tied": ("qwen2", SIZES | {"tie_word_embeddings": True}, "all"),
    "starcoder2": ("starcoder2", SIZES, "all"),
}
LANGUAGES = ("python", "java", "cpp")


@pytest.fixture(scope="session")
def made(random_base, vary, documents, compose_config, tmp_path_factory):
    """`made(name)`: the composed folder, and its experts' folders."""
    done = {}

    def make(name):
        if name not in done:
            folder = tmp_path_factory.mktemp("made")
            kind, settings, layers = MADE[name]
            torch.manual_seed(0)
            AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).save_pretrained(folder / "plain")
            for file in ("tokenizer.json", "tokenizer_config.json"):
                (folder / "plain" / file).write_bytes((random_base / file).read_bytes())
            trunk = vary(folder / "plain", folder / "trunk", 1, lambda tensor: "norm" not in tensor)
            family = family_of(open_checkpoint(trunk).config, trunk)
            chosen = family.is_feed_forward
            if layers != "all":
                chosen = lambda tensor: tensor.startswith(family.feed_forward_prefix(int(layers)))  # noqa: E731
            experts = {
                language: vary(trunk, folder / language, seed, chosen) for seed, language in enumerate(LANGUAGES, 2)
            }
            config = compose_config.model_copy(update={"prove": False, "layers": layers})
            inputs = ComposeInputs(trunk, experts, documents, {"all": name})
            compose(config, inputs, folder / "composed")
            done[name] = folder / "composed", experts
        return done[name]

    return make
