import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from codechoir.compose.export.comparison import TEXT, compare_folder, compare_gguf, source_logits, tokens_of
from codechoir.compose.export.gguf_file import plan_gguf, write_gguf
from codechoir.compose.export.source import open_source
from codechoir.errors import ProofError


@pytest.fixture
def llama(made):
    source = open_source(made("llama")[0])
    tokens = tokens_of(source, TEXT)
    return source, tokens, source_logits(source, tokens, None)


def test_the_text_is_cut_to_what_the_model_takes(llama):
    source, tokens, logits = llama
    assert tokens.shape == (1, 192)
    assert tokens_of(source, "abc").shape == (1, 3)
    assert logits.shape == (1, 192, 260)


def test_the_figures_are_those_of_the_logits(llama):
    source, tokens, logits = llama
    model = AutoModelForCausalLM.from_pretrained(source.folder, dtype=torch.float32)
    found = model(tokens, use_cache=False).logits.detach()
    comparison = compare_folder(source.folder, tokens, logits)
    assert comparison.reader.startswith("transformers") and "MixtralForCausalLM" in comparison.reader
    assert comparison.max_abs_difference == pytest.approx(float((found - logits).abs().max()), abs=1e-9)
    assert comparison.max_abs_logit == pytest.approx(float(logits.abs().max()))
    assert comparison.argmax_agreement == 1 and comparison.tokens == 192
    assert comparison.relative < 1e-5 and 0 <= comparison.kl < 1e-9


def test_another_models_logits_are_refused(llama, tmp_path):
    source, tokens, logits = llama
    folder = shutil.copytree(source.folder, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.1.block_sparse_moe.experts.2.w2.weight"
    save_file(tensors | {name: tensors[name] + 0.05}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ProofError, match="does not give its source's logits"):
        compare_folder(folder, tokens, logits)
    save_file(tensors | {"model.layers.0.self_attn.q_proj.bias": torch.ones(32)}, folder / "model.safetensors")
    with pytest.raises(ProofError, match=r"as they are[\s\S]*q_proj\.bias"):
        compare_folder(folder, tokens, logits)


@pytest.mark.parametrize(("quantise", "kl"), [("f16", 1e-4), ("q8_0", 5e-2)])
def test_a_gguf_file_is_close_and_a_wrong_one_is_refused(llama, tmp_path, monkeypatch, quantise, kl):
    source, tokens, logits = llama
    plan = plan_gguf(source, quantise)
    comparison, tensors = compare_gguf(write_gguf(plan, tmp_path, "x"), source, tokens, logits, quantise)
    assert 0 < comparison.kl < kl and comparison.argmax_agreement > 0.9
    assert 0 < tensors["max_relative_difference"] <= tensors["bound"]
    # embeddings, head, last norm; in each layer two norms, four of attention, three of experts, a router: two packed
    assert tensors["compared"] == 3 + 2 * (2 + 4 + 2 + 1)
    with monkeypatch.context() as patch:
        patch.setattr("codechoir.compose.export.gguf_file.neighbouring", lambda values, _: values)
        wrong = write_gguf(plan, tmp_path, "x")
    with pytest.raises(ProofError, match=r"is not the source's[\s\S]*self_attn\.[qk]_proj"):
        compare_gguf(wrong, source, tokens, logits, quantise)
