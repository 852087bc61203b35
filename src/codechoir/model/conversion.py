"""Makes Hugging Face folders out of what is not one: a GGUF file, or nothing but a seed.

A folder appears under its name whole or not at all.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
from pathlib import Path
from typing import Any

import torch

from codechoir.console import say
from codechoir.errors import InputError
from codechoir.model.checkpoint import write_checkpoint
from codechoir.model.licences import write_readme

CONVERSION_VERSION = 1  # part of a cached folder's name


def convert_gguf(file: Path, folder: Path) -> None:
    """Dequantises a GGUF file into a Hugging Face folder that appears whole. Raises InputError."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    say(f"base: dequantising {file.name} (once)")

    # transformers prefers a tokenizer.json that lies beside the file, whoever's it is: let nothing lie there.
    with tempfile.TemporaryDirectory(prefix="codechoir-gguf-") as alone:
        (Path(alone) / "model.gguf").symlink_to(file.resolve())
        try:
            tokenizer = AutoTokenizer.from_pretrained(alone, gguf_file="model.gguf")
            quantised = AutoModelForCausalLM.from_pretrained(alone, gguf_file="model.gguf", dtype=torch.float32)
        except (ValueError, KeyError, OSError, IndexError, struct.error) as error:
            raise InputError("the GGUF file cannot be read", seen=f"{file}: {error}") from None
    _set_pre_tokenizer(file, tokenizer)
    # transformers marks the model quantised and refuses to save it; its weights are plain, and so is this config.
    config = {key: value for key, value in quantised.config.to_dict().items() if key != "quantization_config"}
    config |= {"architectures": [type(quantised).__name__], "dtype": "bfloat16"}
    config.pop("_name_or_path", None)
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in quantised.state_dict().items()}
    if config.get("tie_word_embeddings"):
        tensors.pop("lm_head.weight", None)
    licence = _gguf_text(file, "general.license")
    _save(folder, tokenizer, config, tensors, {"license": licence, "model_name": file.stem} if licence else None)


def make_random(layers: int, width: int, seed: int, folder: Path) -> None:
    """Writes a small Llama with random weights and a tokenizer whose tokens are bytes and `<|endoftext|>`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_only = Tokenizer(
        models.BPE(vocab={"<|endoftext|>": 0} | {c: i for i, c in enumerate(alphabet, 1)}, merges=[])
    )
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_only, eos_token="<|endoftext|>", pad_token="<|endoftext|>", unk_token="<|endoftext|>"
    )
    config = LlamaConfig(
        vocab_size=len(alphabet) + 1,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    _save(folder, tokenizer, config.to_dict() | {"architectures": ["LlamaForCausalLM"], "dtype": "float32"}, tensors)


def _save(
    folder: Path,
    tokenizer: Any,
    config: dict[str, Any],
    tensors: dict[str, torch.Tensor],
    front_matter: dict[str, str] | None = None,
) -> None:
    """Writes a model folder that appears whole, with a README.md where there is something to say in it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".convert-") as scratch:
        whole = Path(scratch) / "model"
        tokenizer.save_pretrained(whole)
        write_checkpoint(whole, config, tensors, tokenizer=whole)
        if front_matter:
            write_readme(whole, front_matter)
        shutil.rmtree(folder, ignore_errors=True)
        whole.rename(folder)


def _set_pre_tokenizer(file: Path, tokenizer: Any) -> None:
    """Gives the tokenizer the splitting rule that the file names where transformers' GGUF reader does not know it.

    `smollm` (llama.cpp's name) splits digits one by one, then goes to bytes by GPT-2's pattern.
    """
    from tokenizers import pre_tokenizers

    if _gguf_text(file, "tokenizer.ggml.pre") == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )


def _gguf_text(file: Path, key: str) -> str:
    from gguf import GGUFReader

    field = GGUFReader(file).get_field(key)
    return str(field.contents()) if field else ""
