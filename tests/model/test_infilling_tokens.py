"""Sentinels against the strings of the families' model cards, and enlarged models against those they were made of."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from codechoir.errors import IncompatibleModelError
from codechoir.model.checkpoint import load_model, load_tokenizer, open_checkpoint, separator_id
from codechoir.model.encoding import TextEncoder
from codechoir.model.infilling_tokens import (
    NEW_ROWS,
    Sentinels,
    find_sentinels,
    learns_infilling_tokens,
    new_rows,
    with_infilling_tokens,
)
from codechoir.model.licences import origin_of

PUBLISHED = {  # prompts for the prefix "a" and the suffix "b", as the model cards write them; then what ends a middle
    "santacoder": ("<fim-prefix>a<fim-suffix>b<fim-middle>", "<|endoftext|>"),
    "starcoder and granite": ("<fim_prefix>a<fim_suffix>b<fim_middle>", "<|endoftext|>"),
    "qwen2.5-coder": ("<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>", "<|endoftext|>"),
    "codegemma": ("<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>", "<|file_separator|>"),
    "codellama": ("▁<PRE>a▁<SUF>b▁<MID>", "▁<EOT>"),
    "deepseek-coder": ("<｜fim▁begin｜>a<｜fim▁hole｜>b<｜fim▁end｜>", "<|endoftext|>"),
}


@pytest.mark.parametrize("family", PUBLISHED)
def test_the_prompt_of_the_model_card(random_base: Path, family: str) -> None:
    prompt, end = PUBLISHED[family]
    tokenizer = load_tokenizer(random_base)
    tokenizer.add_tokens([*re.split("(?<=>)[ab](?=[<▁])", prompt), end], special_tokens=True)
    sentinels = find_sentinels(tokenizer)
    assert sentinels is not None
    a, b = (TextEncoder(tokenizer).encode(letter) for letter in "ab")
    assert sentinels.psm(a, b) == tokenizer(prompt, add_special_tokens=False)["input_ids"]
    assert sentinels.end == tokenizer.convert_tokens_to_ids(end)


def test_the_two_orders() -> None:
    """As NVIDIA's Megatron-LM documents its FIM dataset, which SantaCoder's training was the first version of."""
    sentinels = Sentinels(prefix=101, suffix=102, middle=103, end=100)
    assert sentinels.psm([1, 2], [5], [3, 4]) == [101, 1, 2, 102, 5, 103, 3, 4]
    assert sentinels.spm([1, 2], [5], [3, 4]) == [101, 102, 5, 103, 1, 2, 3, 4]
    assert sentinels.psm([], [5], [3, 4]) == sentinels.spm([], [5], [3, 4])


def test_a_model_that_has_sentinels_stays(random_base: Path, tmp_path: Path) -> None:
    first = with_infilling_tokens(random_base, "base", tmp_path / "first")
    assert first == tmp_path / "first"
    assert with_infilling_tokens(first, "first", tmp_path / "second") == first
    assert not (tmp_path / "second").exists()


SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
GPT = {"n_embd": 32, "n_inner": 48, "n_layer": 2, "n_head": 4, "n_positions": 64, "activation_function": "gelu"}
KINDS = {
    "llama": (SIZES | {"tie_word_embeddings": False}, 257, ["lm_head.weight", "model.embed_tokens.weight"]),
    "llama, tied": (SIZES | {"tie_word_embeddings": True}, 257, ["model.embed_tokens.weight"]),
    "llama, padded": (SIZES | {"tie_word_embeddings": True}, 264, ["model.embed_tokens.weight"]),
    "phi": (SIZES, 257, ["lm_head.bias", "lm_head.weight", "model.embed_tokens.weight"]),
    "gpt_bigcode": (GPT, 257, ["transformer.wte.weight"]),
}


@pytest.fixture(params=KINDS)
def base(request: pytest.FixtureRequest, random_base: Path, tmp_path: Path) -> tuple[Path, int, list[str]]:
    settings, size, tensors = KINDS[request.param]
    torch.manual_seed(0)
    config = AutoConfig.for_model(request.param.split(",")[0], **settings, vocab_size=size, eos_token_id=0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "base" / name).write_bytes((random_base / name).read_bytes())
    return tmp_path / "base", size, tensors


def test_old_tokens_are_as_before(base: tuple[Path, int, list[str]], tmp_path: Path) -> None:
    folder, size, tensors = base
    enlarged = with_infilling_tokens(folder, "digest", tmp_path / "enlarged")
    found = new_rows(enlarged)
    assert found is not None
    assert (found.rows, sorted(found.tensors)) == (range(257, 260), tensors)
    assert new_rows(folder) is None
    before, after = load_model(folder, torch.float32), load_model(enlarged, torch.float32)
    assert after.config.vocab_size == max(size, 260)
    old, new = load_tokenizer(folder), load_tokenizer(enlarged)
    assert new.convert_tokens_to_ids(["<fim_prefix>", "<fim_middle>", "<fim_suffix>"]) == [257, 258, 259]
    assert find_sentinels(new) == Sentinels(257, 259, 258, separator_id(old))
    text = "def f(x):\n    return x  # é <fim_prefix>"
    ids = TextEncoder(old).encode(text)
    assert TextEncoder(new).encode(text) == ids
    with torch.no_grad():
        expected, logits = (model(torch.tensor([ids]), use_cache=False).logits for model in (before, after))
    assert torch.equal(logits[..., :257], expected[..., :257])
    old_tensors, new_tensors = dict(open_checkpoint(folder).items()), dict(open_checkpoint(enlarged).items())
    for name, tensor in old_tensors.items():
        assert torch.equal(new_tensors[name][:257], tensor[:257])
        if name not in tensors:
            assert torch.equal(new_tensors[name], tensor)


def test_new_rows_lie_about_the_mean(base: tuple[Path, int, list[str]], tmp_path: Path) -> None:
    folder, _, tensors = base
    enlarged = open_checkpoint(with_infilling_tokens(folder, "digest", tmp_path / "enlarged"))
    for name in tensors:
        rows = enlarged.read(name)
        away = (rows[257:260] - rows[:257].mean(0)).abs()
        assert bool((away <= 0.5 * rows[:257].std(0)).all())  # five of the noise's deviations
        assert len(torch.unique(rows[257:260], dim=0)) == (1 if not bool(rows[:257].any()) else 3)


@pytest.mark.parametrize("kind", ["gpt_neox", "gpt_bigcode"])
def test_tensors_of_other_names_get_the_rows_too(random_base: Path, tmp_path: Path, kind: str) -> None:
    """GPT-NeoX as transformers stores it, and a decoder that was stored without its prefix."""
    settings = GPT if kind == "gpt_bigcode" else SIZES
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings, vocab_size=257, eos_token_id=0))
    (model.transformer if kind == "gpt_bigcode" else model).save_pretrained(tmp_path / "base")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "base" / name).write_bytes((random_base / name).read_bytes())
    enlarged = load_model(with_infilling_tokens(tmp_path / "base", "one", tmp_path / "enlarged"), torch.float32)
    before = load_model(tmp_path / "base", torch.float32)
    for new, old in zip(layers_of(enlarged), layers_of(before), strict=True):
        assert new.weight.shape == (260, 32)
        assert torch.equal(new.weight[:257], old.weight)


def layers_of(model: Any) -> tuple[Any, Any]:
    return model.get_input_embeddings(), model.get_output_embeddings()


@pytest.mark.parametrize(
    ("name", "number", "said"),
    [("<fim_prefix>", 257, "<fim_prefix>"), ("<|pad|>", 261, "258 tokens with ids up to 261")],  # gaps as cl100k has
)
def test_sentinels_that_cannot_be_added_are_refused(
    random_base: Path, tmp_path: Path, name: str, number: int, said: str
) -> None:
    base, flags = shutil.copytree(random_base, tmp_path / "base"), ("single_word", "lstrip", "rstrip", "normalized")
    told = json.loads((base / "tokenizer.json").read_text())
    told["model"]["vocab"][name] = number
    told["added_tokens"].append({"id": number, "content": name, "special": True, **dict.fromkeys(flags, False)})
    (base / "tokenizer.json").write_text(json.dumps(told))
    assert load_tokenizer(base).convert_tokens_to_ids(name) == number
    for refused in (learns_infilling_tokens, lambda base: with_infilling_tokens(base, "one", tmp_path / "enlarged")):
        with pytest.raises(IncompatibleModelError, match="infilling tokens cannot be added") as error:
            refused(base)
        assert error.value.seen == f"{said} ({base})"
        assert "without gaps" in error.value.allowed and "train.infilling_rate to 0" in error.value.next_step
    assert not (tmp_path / "enlarged").exists()


def test_who_learns_sentinels(random_base: Path, tmp_path: Path) -> None:
    assert learns_infilling_tokens(random_base)
    enlarged = with_infilling_tokens(random_base, "one", tmp_path)
    assert learns_infilling_tokens(enlarged)  # its rows are new
    (enlarged / NEW_ROWS).unlink()
    assert not learns_infilling_tokens(enlarged)


def test_the_base_s_licence_goes_along(random_base: Path, tmp_path: Path) -> None:
    base = shutil.copytree(random_base, tmp_path / "base")
    (base / "LICENSE").write_text("do as you like")
    (base / "README.md").write_text("---\nlicense: mit\n---\n")
    folder = with_infilling_tokens(base, "one", tmp_path / "enlarged")
    assert (folder / "LICENSE").read_text() == "do as you like"
    assert origin_of(folder).licence == "mit"


def test_a_whole_folder_of_the_same_base_is_taken(random_base: Path, tmp_path: Path) -> None:
    folder = with_infilling_tokens(random_base, "one", tmp_path)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert (with_infilling_tokens(random_base, "one", tmp_path) / "model.safetensors").stat().st_mtime_ns == written
    with_infilling_tokens(random_base, "other", tmp_path)
    assert (folder / "model.safetensors").stat().st_mtime_ns != written


@pytest.mark.parametrize("missing", ["config.json", NEW_ROWS])
def test_half_a_folder_is_written_anew(random_base: Path, tmp_path: Path, missing: str) -> None:
    folder = with_infilling_tokens(random_base, "one", tmp_path)
    (folder / missing).unlink()
    (folder / "model.safetensors").write_bytes(b"half")
    load_model(with_infilling_tokens(random_base, "one", tmp_path), torch.float32)
    assert new_rows(folder) is not None


def test_the_embedded_base_learns_where_to_infill(embedded_base: Path, tmp_path: Path) -> None:
    """SmolLM2 has no sentinels: its own logits stay bit for bit, and the new tokens take no probability from them."""
    assert find_sentinels(load_tokenizer(embedded_base)) is None
    enlarged = with_infilling_tokens(embedded_base, "smollm2", tmp_path)
    found = new_rows(enlarged)
    assert found is not None and found.rows == range(49152, 49155)
    encoder = TextEncoder(load_tokenizer(enlarged))
    text = Path(__file__).read_text(encoding="utf-8")
    assert encoder.encode(text) == TextEncoder(load_tokenizer(embedded_base)).encode(text)
    ids = torch.tensor([encoder.encode(text)[:64]])
    with torch.no_grad():
        expected = load_model(embedded_base, torch.bfloat16)(ids, use_cache=False).logits
        logits = load_model(enlarged, torch.bfloat16)(ids, use_cache=False).logits
    assert logits.shape[-1] == 49155
    assert torch.equal(logits[..., :49152], expected)
    assert float(logits.float().softmax(-1)[..., 49152:].sum(-1).max()) < 1e-3
