"""GGUF files as the gguf package, llama.cpp's own, reads them back."""

import json
import resource
from dataclasses import replace

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models
from tokenizers import pre_tokenizers as split

from codechoir.compose.export.comparison import TEXT, source_logits, tokens_of
from codechoir.compose.export.gguf_file import neighbouring, plan_gguf, write_gguf
from codechoir.compose.export.source import open_source
from codechoir.errors import DiskFullError, IncompatibleModelError, InputError
from codechoir.model.checkpoint import load_tokenizer


def read(path):
    reader = gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    return fields, {tensor.name: tensor for tensor in reader.tensors}


def dequantised(tensor):
    return torch.from_numpy(np.array(gguf.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))


def rotated(rows, position, theta, pairs):
    """One head's values rotated: `pairs` gives the two rows of each frequency."""
    out = rows.clone()
    for number, (first, second) in enumerate(pairs):
        angle = torch.tensor(position * theta ** (-number / len(pairs)))
        out[first] = rows[first] * angle.cos() - rows[second] * angle.sin()
        out[second] = rows[second] * angle.cos() + rows[first] * angle.sin()
    return out


def test_neighbouring_rows_rotated_give_the_same_products_as_halves():
    torch.manual_seed(1)
    q, k, x = torch.randn(8, 6), torch.randn(8, 6), torch.randn(6)
    halves = [(number, number + 4) for number in range(4)]
    pairs = [(2 * number, 2 * number + 1) for number in range(4)]
    expected = rotated(q @ x, 5, 100.0, halves) @ rotated(k @ x, 2, 100.0, halves)
    found = rotated(neighbouring(q, 1) @ x, 5, 100.0, pairs) @ rotated(neighbouring(k, 1) @ x, 2, 100.0, pairs)
    torch.testing.assert_close(found, expected)
    both = neighbouring(torch.cat([q, k]), 2)
    assert torch.equal(both, torch.cat([neighbouring(q, 1), neighbouring(k, 1)]))


@pytest.mark.parametrize("name", ["llama", "llama with attention biases", "qwen2, tied"])
def test_a_file_holds_every_tensor_under_llama_cpps_names(made, tmp_path, name):
    composed, experts = made(name)
    plan = plan_gguf(open_source(composed), "f16")
    fields, tensors = read(write_gguf(plan, tmp_path, "small"))
    shared, java = load_file(composed / "model.safetensors"), load_file(experts["java"] / "model.safetensors")
    expected = {"token_embd.weight", "output_norm.weight"} | (set() if "tied" in name else {"output.weight"})
    for layer in (0, 1):
        parts = ("attn_norm", "ffn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate_inp")
        expected |= {f"blk.{layer}.{part}.weight" for part in parts}
        expected |= {f"blk.{layer}.ffn_{part}_exps.weight" for part in ("gate", "up", "down")}
        biased = {"llama": "", "llama with attention biases": "qkvo", "qwen2, tied": "qkv"}[name]
        names = {"q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output"}
        expected |= {f"blk.{layer}.{names[letter]}.bias" for letter in biased}
    assert tensors.keys() == expected
    gate = dequantised(tensors["blk.1.ffn_gate_exps.weight"])
    assert gate.shape == (3, 64, 32)
    half = java["model.layers.1.mlp.gate_proj.weight"].half().float()
    assert torch.equal(gate[1], half)
    assert list(tensors["blk.1.ffn_down_exps.weight"].shape) == [64, 32, 3]  # llama.cpp counts from the innermost
    router = "block_sparse_moe.gate" if name == "llama" else "mlp.router"
    assert torch.equal(dequantised(tensors["blk.1.ffn_gate_inp.weight"]), shared[f"model.layers.1.{router}.weight"])
    assert fields["general.architecture"] == "llama"
    assert fields["llama.expert_count"] == 3 and fields["llama.expert_used_count"] == 2
    head_dim = 16 if name == "llama with attention biases" else 8
    for key in ("rope.dimension_count", "attention.key_length", "attention.value_length"):
        assert fields[f"llama.{key}"] == head_dim
    assert fields["llama.rope.freq_base"] == (500.0 if name == "llama" else 10000.0)
    assert fields["llama.attention.head_count_kv"] == 2 and fields["general.file_type"] == 1


def test_a_file_tokenizes_as_the_folder_does(made, tmp_path):
    composed, _ = made("llama")
    fields, _ = read(write_gguf(plan_gguf(open_source(composed), "f16"), tmp_path, "small"))
    assert (fields["tokenizer.ggml.model"], fields["tokenizer.ggml.pre"]) == ("gpt2", "gpt-2")
    vocabulary = {token: number for number, token in enumerate(fields["tokenizer.ggml.tokens"])}
    assert len(vocabulary) == 260
    assert fields["tokenizer.ggml.merges"] == ["▁ ▁"]  # none of bytes
    rebuilt = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    rebuilt.pre_tokenizer, rebuilt.decoder = split.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    assert rebuilt.encode(TEXT).ids == load_tokenizer(composed)(TEXT)["input_ids"]
    assert fields["tokenizer.ggml.eos_token_id"] == 0
    assert fields["tokenizer.ggml.add_bos_token"] is False
    assert fields["tokenizer.ggml.token_type"][0] == 3 and fields["tokenizer.ggml.token_type"][259] == 5


def test_q8_0_is_the_packages_own_and_other_rows_are_told(made, tmp_path):
    composed, experts = made("qwen2")
    plan = plan_gguf(open_source(composed), "q8_0")
    assert plan.unquantised() == []
    fields, tensors = read(write_gguf(plan, tmp_path, "small"))
    assert fields["general.file_type"] == 7
    kinds = {name: tensor.tensor_type for name, tensor in tensors.items()}
    assert kinds["blk.0.ffn_up_exps.weight"] == kinds["token_embd.weight"] == gguf.GGMLQuantizationType.Q8_0
    assert kinds["blk.0.ffn_gate_inp.weight"] == kinds["blk.0.attn_q.bias"] == gguf.GGMLQuantizationType.F32
    given = load_file(experts["cpp"] / "model.safetensors")["model.layers.0.mlp.up_proj.weight"].numpy()
    packed = gguf.quantize(given, gguf.GGMLQuantizationType.Q8_0)
    assert np.array_equal(tensors["blk.0.ffn_up_exps.weight"].data[2], packed)


def test_rows_that_are_no_multiple_of_a_block_stay_in_f16(made):
    source = open_source(made("llama")[0])
    narrow = dict(source.shared)
    spec = narrow["model.embed_tokens.weight"]
    source.shared = narrow | {"model.embed_tokens.weight": type(spec)(spec.dtype, (260, 48))}
    assert plan_gguf(source, "q8_0").unquantised() == ["token_embd.weight"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("starcoder2", "does not compute what starcoder2 does"),
        ("llama, layer 1", "1 of 2 layers have no experts"),
        ("mistral with a window", "a window of 16 tokens"),
    ],
)
def test_what_architecture_llama_would_compute_otherwise_is_refused(made, name, why):
    with pytest.raises(IncompatibleModelError, match=rf"cannot be exported as gguf[\s\S]*{why}"):
        plan_gguf(open_source(made(name)[0]), "f16")


@pytest.mark.parametrize(
    ("rope", "why"),
    [({"rope_type": "yarn", "factor": 2.0}, "scaled as yarn"), ({"partial_rotary_factor": 0.5}, "a part of each head")],
)
def test_positions_that_are_not_written_are_refused(made, rope, why):
    source = open_source(made("llama")[0])
    source.dense_config = dict(source.dense_config) | {"rope_parameters": {"rope_theta": 10.0, **rope}}
    with pytest.raises(IncompatibleModelError, match=why):
        plan_gguf(source, "f16")


def test_a_weight_beyond_float16_is_named_and_nothing_is_left(made, tmp_path, monkeypatch):
    source = open_source(made("llama")[0])
    plan = plan_gguf(source, "f16")
    real, large = type(source).read, "model.layers.1.self_attn.v_proj.weight"
    monkeypatch.setattr(type(source), "read", lambda own, name: real(own, name) * (1e6 if name == large else 1))
    with pytest.raises(InputError, match=r"too large for float16[\s\S]*blk\.1\.attn_v\.weight"):
        write_gguf(plan, tmp_path, "small")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_and_nothing_is_left(made, tmp_path):
    plan = plan_gguf(open_source(made("llama")[0]), "f16")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (plan.num_bytes // 2, limits[1]))
    try:
        with pytest.raises(DiskFullError, match=r"model-f16\.gguf"):
            write_gguf(plan, tmp_path, "small")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_linear_scaling_is_written(made, tmp_path):
    source = open_source(made("llama")[0])
    rope = {"rope_theta": 10.0, "rope_type": "linear", "factor": 4.0}
    source.dense_config = json.loads(json.dumps(dict(source.dense_config) | {"rope_parameters": rope}))
    fields, _ = read(write_gguf(plan_gguf(source, "f16"), tmp_path, "small"))
    assert (fields["llama.rope.scaling.type"], fields["llama.rope.scaling.factor"]) == ("linear", 4.0)


def llama_forward(fields, tensors, ids):
    """Architecture `llama` as llama.cpp computes it, written from its description and the file's metadata alone.

    Neighbouring rows of a head are rotated together; experts are chosen by softmax and their weights renormalised.
    """
    held = {name: dequantised(tensor) for name, tensor in tensors.items()}
    heads, key_heads = fields["llama.attention.head_count"], fields["llama.attention.head_count_kv"]
    head_dim, theta = fields["llama.rope.dimension_count"], fields["llama.rope.freq_base"]
    frequencies = theta ** (-torch.arange(0, head_dim, 2) / head_dim)
    turns = torch.polar(torch.ones(()), torch.arange(len(ids))[:, None] * frequencies)  # (T, pairs)

    def norm(x, name):
        eps = fields["llama.attention.layer_norm_rms_epsilon"]
        return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * held[name]

    def linear(x, name):
        return x @ held[f"{name}.weight"].T + held.get(f"{name}.bias", 0)

    def rotated_heads(x, count):
        pairs = torch.view_as_complex(x.view(len(ids), count, head_dim // 2, 2))
        return torch.view_as_real(pairs * turns[:, None]).flatten(-2)

    x = held["token_embd.weight"][ids]
    for layer in range(fields["llama.block_count"]):
        block = f"blk.{layer}."
        y = norm(x, f"{block}attn_norm.weight")
        q = rotated_heads(linear(y, f"{block}attn_q"), heads)
        k = rotated_heads(linear(y, f"{block}attn_k"), key_heads).repeat_interleave(heads // key_heads, 1)
        v = linear(y, f"{block}attn_v").view(len(ids), key_heads, -1).repeat_interleave(heads // key_heads, 1)
        scores = torch.einsum("qhd,khd->hqk", q, k) / head_dim**0.5
        scores += torch.full((len(ids), len(ids)), -torch.inf).triu(1)
        x = x + linear(torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).flatten(1), f"{block}attn_output")
        y = norm(x, f"{block}ffn_norm.weight")
        gate, up, down = (held[f"{block}ffn_{part}_exps.weight"] for part in ("gate", "up", "down"))
        each = torch.nn.functional.silu(torch.einsum("td,eid->tei", y, gate)) * torch.einsum("td,eid->tei", y, up)
        each = torch.einsum("tei,edi->ted", each, down)
        weights, chosen = linear(y, f"{block}ffn_gate_inp").softmax(-1).topk(fields["llama.expert_used_count"])
        weights = weights / weights.sum(-1, keepdim=True)
        x = x + (each.gather(1, chosen[..., None].expand(-1, -1, x.shape[-1])) * weights[..., None]).sum(1)
    head = held.get("output.weight", held["token_embd.weight"])
    return norm(x, "output_norm.weight") @ head.T


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen2, tied", "llama with attention biases"])
def test_architecture_llama_gives_the_sources_logits(made, tmp_path, name):
    """All values of a file in float32, so that routes cannot turn and the logits are those of the source."""
    source = open_source(made(name)[0])
    plan = plan_gguf(source, "f16")
    exact = tuple(replace(tensor, kind=gguf.GGMLQuantizationType.F32) for tensor in plan.tensors)
    fields, tensors = read(write_gguf(replace(plan, tensors=exact), tmp_path, "small"))
    tokens = tokens_of(source, TEXT)
    expected = source_logits(source, tokens, None)[0]
    found = llama_forward(fields, tensors, tokens[0])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_llama_cpp_gives_the_same_logits(made, tmp_path):
    """With llama-cpp-python, where it is installed: llama.cpp itself computes the file."""
    llama_cpp = pytest.importorskip("llama_cpp")
    for name in ("llama", "qwen2", "llama with attention biases"):
        source = open_source(made(name)[0])
        (tmp_path / name).mkdir()
        path = write_gguf(plan_gguf(source, "f16"), tmp_path / name, "small")
        tokens = tokens_of(source, TEXT)
        model = llama_cpp.Llama(str(path), n_ctx=192, logits_all=True, verbose=False)
        assert model.tokenize(TEXT.encode(), add_bos=False, special=False)[: tokens.shape[1]] == tokens[0].tolist()
        model.eval(tokens[0].tolist())
        found = torch.from_numpy(np.array(model.scores[: tokens.shape[1]]))
        expected = source_logits(source, tokens, None)[0]
        agree = float((found.argmax(-1) == expected.argmax(-1)).float().mean())
        apart = (found - expected).abs().amax(-1)
        assert agree > 0.95 and float(apart.median() / expected.abs().max()) < 5e-3
