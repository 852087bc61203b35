"""Every family goes the whole way, small and random, as the real config class makes it: composed, proven, read back."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from codechoir.compose.config import ComposeConfig
from codechoir.compose.stage import ComposeInputs, compose
from codechoir.model.checkpoint import load_model, open_checkpoint
from codechoir.model.families import family_of
from codechoir.model.moe import Routing, load_composed

_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 257,
    "max_position_embeddings": 128,
}
_GROUPED = _SIZES | {"num_key_value_heads": 2}
_GPT = {"n_embd": 32, "n_inner": 48, "n_layer": 2, "n_head": 4, "vocab_size": 257, "n_positions": 128}
FAMILIES = {
    "llama": ("llama", _GROUPED | {"attention_bias": False}),
    "llama with attention biases": ("llama", _GROUPED | {"attention_bias": True}),
    "llama with biases everywhere": ("llama", _GROUPED | {"attention_bias": True, "mlp_bias": True}),
    "llama, tied": ("llama", _GROUPED | {"tie_word_embeddings": True}),
    "mistral": ("mistral", _GROUPED | {"sliding_window": 16}),
    "qwen2": ("qwen2", _GROUPED),
    "qwen3": ("qwen3", _GROUPED | {"head_dim": 8}),
    "gemma": ("gemma", _GROUPED | {"head_dim": 8}),
    "gemma2": ("gemma2", _GROUPED | {"head_dim": 8, "query_pre_attn_scalar": 8}),
    "gemma3": ("gemma3_text", _GROUPED | {"head_dim": 8, "query_pre_attn_scalar": 8}),
    "starcoder2": ("starcoder2", _GROUPED),
    "santacoder": ("gpt_bigcode", _GPT | {"multi_query": True, "activation_function": "gelu_pytorch_tanh"}),
    "phi": ("phi", _GROUPED | {"partial_rotary_factor": 0.5}),
    "gpt_neox": ("gpt_neox", _SIZES),
    "codegen": ("codegen", _GPT | {"rotary_dim": 4}),
    "olmo2": ("olmo2", _GROUPED),
    "found by inspection": ("stablelm", _GROUPED),
}
LANGUAGES = ("python", "java", "cpp")


@pytest.fixture(scope="module")
def models(random_base, vary, tmp_path_factory):
    """`models(family)`: a trunk and its experts' folders, weights large enough that every part shows in the logits."""
    made = {}

    def make(family):
        if family not in made:
            folder = tmp_path_factory.mktemp("family")
            kind, settings = FAMILIES[family]
            special = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
            torch.manual_seed(0)
            config = AutoConfig.for_model(kind, **settings, **special)
            AutoModelForCausalLM.from_config(config).save_pretrained(folder / "made")
            for name in ("tokenizer.json", "tokenizer_config.json"):
                (folder / "made" / name).write_bytes((random_base / name).read_bytes())
            trunk = vary(folder / "made", folder / "trunk", 1, lambda name: "norm" not in name and "ln_" not in name)
            told = family_of(open_checkpoint(trunk).config, trunk)
            experts = {
                name: vary(trunk, folder / name, seed, told.is_feed_forward) for seed, name in enumerate(LANGUAGES, 2)
            }
            made[family] = trunk, experts
        return made[family]

    return make


@pytest.mark.parametrize("family", FAMILIES)
def test_it_composes_and_both_proofs_hold(models, family, tmp_path):
    trunk, experts = models(family)
    manifest = compose(ComposeConfig(proof_tokens=24), ComposeInputs(trunk, experts, None, {"all": family}), tmp_path)
    proofs = manifest.facts["proofs"]
    assert [figure["max_abs_difference"] for figure in proofs["fixed_route"].values()] == [0, 0, 0]
    assert proofs["identical_experts"]["relative"] < 1e-5
    assert proofs["fixed_route"]["java"]["max_abs_logit"] > 0.1
    native = family in ("llama", "llama, tied", "mistral")
    assert manifest.facts["form"]["name"] == ("mixtral" if native else "codechoir_moe")
    tokens = torch.randint(257, (1, 20), generator=torch.Generator().manual_seed(3))
    composed = load_composed(tmp_path, Routing.FIXED, 1, torch.float32)
    seen = []
    for name, folder in experts.items():
        composed.fix_routes([name])
        dense = load_model(folder, torch.float32)
        with torch.no_grad():
            expected = dense(tokens, use_cache=False).logits
            torch.testing.assert_close(composed(tokens, use_cache=False).logits, expected, rtol=1e-5, atol=1e-5)
        seen.append(expected)
    assert not torch.allclose(seen[0], seen[1], atol=1e-2)  # the experts do differ
    dense_size = sum(parameter.numel() for parameter in dense.parameters())
    assert manifest.facts["active_parameters"]["dense"] == dense_size
