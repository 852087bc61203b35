"""A small GGUF file, written by the gguf package alone."""

import json
from pathlib import Path
from typing import NamedTuple

import gguf
import torch
from gguf import GGMLQuantizationType as Quantised
from transformers import LlamaConfig, LlamaForCausalLM

HEADS, KEY_HEADS = 4, 2


class Written(NamedTuple):
    """A GGUF file, and the weights that it holds under transformers' names, as float32."""

    path: Path
    tensors: dict[str, torch.Tensor]


def interleaved(weight, num_heads):
    """llama.cpp's order of the rows of q and k (convert_hf_to_gguf.py, permute)."""
    rows, columns = weight.shape
    return weight.reshape(num_heads, 2, rows // num_heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def gguf_writer(random_base):
    """`write(path, architecture, pre_tokenizer)`: a two-layer Llama, matrices in Q8_0, norms in float32."""
    alphabet = json.loads((random_base / "tokenizer.json").read_text())["model"]["vocab"]
    tokens = [*sorted(alphabet, key=alphabet.get), "ĠĠ"]
    config = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS,
        tie_word_embeddings=True,
    )

    def write(path, architecture="llama", pre_tokenizer="smollm"):
        torch.manual_seed(3)
        weights = LlamaForCausalLM(config).state_dict()
        del weights["lm_head.weight"]
        writer = gguf.GGUFWriter(path, architecture)
        writer.add_context_length(256)
        writer.add_embedding_length(64)
        writer.add_block_count(2)
        writer.add_feed_forward_length(96)
        writer.add_head_count(HEADS)
        writer.add_head_count_kv(KEY_HEADS)
        writer.add_layer_norm_rms_eps(1e-6)
        writer.add_rope_freq_base(7000.0)
        writer.add_rope_dimension_count(16)
        writer.add_vocab_size(len(tokens))
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre_tokenizer)
        writer.add_token_list(tokens)
        writer.add_token_types([3] + [1] * (len(tokens) - 1))
        writer.add_token_merges(["Ġ Ġ"])
        writer.add_bos_token_id(0)
        writer.add_eos_token_id(0)
        names, held = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2), {}
        for name, weight in weights.items():
            values = weight.numpy()
            if values.ndim == 1:
                writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), values)
                held[name] = weight
                continue
            heads = {"q_proj": HEADS, "k_proj": KEY_HEADS}.get(name.split(".")[-2])
            packed = gguf.quantize(interleaved(values, heads) if heads else values, Quantised.Q8_0)
            writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), packed, raw_dtype=Quantised.Q8_0)
            # Rows are quantised one by one, so their order does not change what they hold.
            held[name] = torch.from_numpy(gguf.dequantize(gguf.quantize(values, Quantised.Q8_0), Quantised.Q8_0))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return Written(path, held)

    return write
