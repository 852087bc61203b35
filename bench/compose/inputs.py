"""Makes what is composed: `python -m bench.compose.inputs FOLDER small|large|tiny`, in a process of its own.

`small` is the embedded base (SmolLM2-135M-Instruct) and four experts of it: its own tensors, with other random
feed-forward weights; `tiny` the same of a small random model. Beside them lie documents of four languages out of pinned
packages, in curate's layout, and prompts cut from the same documents. `large` is a Llama of 1.3 billion parameters, all
random, and its experts as whole models and as feed-forward weights alone (the same files). What lies there is left.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors.torch import save_file

from bench.compose.layout import LANGUAGES, PACKAGE_OF
from bench.curate.corpus import PACKAGES
from codechoir.artifacts import cache_dir
from codechoir.documents import DOCUMENT_SCHEMA, write_parquet
from codechoir.model.checkpoint import INDEX, SINGLE, TOKENIZER_FILES, load_tokenizer, open_checkpoint
from codechoir.model.config import EMBEDDED, RandomBase
from codechoir.model.sources import prepare
from codechoir.packages import Package, fetch, read_members

SUFFIXES = {"python": ".py", "java": ".java", "javascript": ".js", "cpp": ".cc"}
TRAINING, HELD_OUT = 600, 40  # documents a language, at most
CHARACTERS = (500, 40_000)
PROMPTS = {"few": (10, 64)}  # how many an expert, and of how many tokens
STD = 0.02
HEADS = 16


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama's size."""

    width: int
    layers: int
    inner: int
    vocabulary: int


SHAPES = {"large": Shape(2048, 24, 5504, 32000), "tiny-large": Shape(256, 4, 704, 2000)}


def make_small(folder: Path, *, tiny: bool) -> None:
    """The base, its experts, documents and prompts."""
    base = prepare(RandomBase(layers=3) if tiny else EMBEDDED, cache_dir())
    target = folder / "base"
    shutil.copytree(base.folder, target, dirs_exist_ok=True)
    checkpoint = open_checkpoint(target)
    for seed, language in enumerate(LANGUAGES, 1):
        generator = torch.Generator().manual_seed(seed)
        tensors = {
            name: _random(tensor.shape, tensor.dtype, generator) if ".mlp." in name else tensor
            for name, tensor in checkpoint.items()
        }
        expert = folder / language
        expert.mkdir(exist_ok=True)
        for name in ("config.json", *TOKENIZER_FILES):
            if (target / name).exists():
                shutil.copyfile(target / name, expert / name)
        save_file(tensors, expert / SINGLE, {"format": "pt"})
    texts = {language: _documents(language) for language in LANGUAGES}
    for language, documents in texts.items():
        _write_documents(folder / "documents" / language / "part.parquet", language, documents)
    tokenizer = load_tokenizer(target)
    prompts = {
        volume: {language: _prompts(documents, tokenizer, *size) for language, documents in texts.items()}
        for volume, size in PROMPTS.items()
    }
    (folder / "prompts.json").write_text(json.dumps(prompts), encoding="utf-8")


def _random(shape: Iterable[int], dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    return torch.empty(tuple(shape)).normal_(std=STD, generator=generator).to(dtype)


def _documents(language: str) -> list[str]:
    name = PACKAGE_OF[language]
    pinned = next(each for each in reversed(PACKAGES) if each.name == name)
    fields = {key: getattr(pinned, key) for key in ("registry", "name", "version", "sha256")}
    archive = fetch(Package.model_validate(fields), cache_dir())
    members = read_members(archive, lambda member: PurePosixPath(member).suffix == SUFFIXES[language])
    texts = (data.decode(errors="ignore") for _, data in sorted(members.items()))
    kept = [text for text in texts if CHARACTERS[0] <= len(text) <= CHARACTERS[1]]
    step = max(1, len(kept) // (TRAINING + HELD_OUT))
    return kept[::step][: TRAINING + HELD_OUT]


def _write_documents(path: Path, language: str, documents: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    every = max(2, len(documents) // HELD_OUT)
    rows = [
        {
            "content": text,
            "size": len(text.encode()),
            "lang": language,
            "key": f"{language}-{number:05d}",
            "package": f"package-{number % 20}",
            "split": "held_out" if number % every == every - 1 else "train",
        }
        for number, text in enumerate(documents)
    ]
    write_parquet(path, rows, DOCUMENT_SCHEMA)


def _prompts(documents: list[str], tokenizer: Any, number: int, num_tokens: int) -> list[str]:
    """Stretches from the middle of documents that are long enough (beginnings are licence headers), as text."""
    found = []
    for text in documents:
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if len(ids) >= num_tokens:
            start = (len(ids) - num_tokens) // 2
            found.append(tokenizer.decode(ids[start : start + num_tokens]))
        if len(found) == number:
            return found
    return found


def make_large(folder: Path, shape: Shape) -> None:
    """A base and its experts, in two files each: the feed-forward weights, and the rest."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.width,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    rest = {
        name: _random(size, torch.bfloat16, torch.Generator().manual_seed(0)) for name, size in _rest(shape).items()
    }
    for seed, name in enumerate(("base", *LANGUAGES)):
        generator = torch.Generator().manual_seed(seed)
        whole, alone = folder / name, folder / "feed-forward" / name
        whole.mkdir(parents=True, exist_ok=True)
        alone.mkdir(parents=True, exist_ok=True)
        feed_forward = {key: _random(size, torch.bfloat16, generator) for key, size in _feed_forward(shape).items()}
        files = {"model-00001-of-00002.safetensors": rest, "model-00002-of-00002.safetensors": feed_forward}
        for file, tensors in files.items():
            save_file(tensors, whole / file, {"format": "pt"})
        (alone / SINGLE).unlink(missing_ok=True)
        (alone / SINGLE).hardlink_to(whole / "model-00002-of-00002.safetensors")
        index = {"metadata": {}, "weight_map": {key: file for file, tensors in files.items() for key in tensors}}
        (whole / INDEX).write_text(json.dumps(index), encoding="utf-8")
        (whole / "config.json").write_text(json.dumps(config), encoding="utf-8")


def _rest(shape: Shape) -> dict[str, tuple[int, ...]]:
    sizes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (shape.vocabulary, shape.width),
        "lm_head.weight": (shape.vocabulary, shape.width),
        "model.norm.weight": (shape.width,),
    }
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}."
        for part in "qkvo":
            sizes[f"{prefix}self_attn.{part}_proj.weight"] = (shape.width, shape.width)
        for part in ("input", "post_attention"):
            sizes[f"{prefix}{part}_layernorm.weight"] = (shape.width,)
    return sizes


def _feed_forward(shape: Shape) -> dict[str, tuple[int, ...]]:
    sizes: dict[str, tuple[int, ...]] = {}
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}.mlp."
        sizes[f"{prefix}gate_proj.weight"] = sizes[f"{prefix}up_proj.weight"] = (shape.inner, shape.width)
        sizes[f"{prefix}down_proj.weight"] = (shape.width, shape.inner)
    return sizes


def main() -> None:
    folder, kind = Path(sys.argv[1]), sys.argv[2]
    mark = folder / "made"
    if mark.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    if kind in SHAPES:
        make_large(folder, SHAPES[kind])
    else:
        make_small(folder, tiny=kind == "tiny")
    mark.touch()


if __name__ == "__main__":
    main()
