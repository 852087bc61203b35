"""The only reader and writer of weights: Hugging Face folders with safetensors.

Knows files, names and shapes, not what a model is for. Pickled weights are refused by name, damaged files are named,
and a checkpoint appears under its name whole or not at all.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from codechoir.artifacts import write_json
from codechoir.errors import IncompatibleModelError, InputError
from codechoir.records import read_json

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A Hugging Face folder opened for reading: its config and which file holds which tensor."""

    folder: Path
    config: dict[str, Any]
    files: Mapping[str, Path]  # tensor name -> file

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape, read from the headers alone."""
        shapes: dict[str, tuple[int, ...]] = {}
        for path in sorted(set(self.files.values())):
            with _opened(path) as tensors:
                shapes |= {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
        return {name: shapes[name] for name in sorted(self.files)}

    def read(self, name: str) -> torch.Tensor:
        """One tensor. Raises InputError naming the file where it is damaged."""
        path = self.files[name]
        try:
            with _opened(path) as tensors:
                tensor: torch.Tensor = tensors.get_tensor(name)
                return tensor
        except SafetensorError as error:
            raise InputError("the weights file is damaged", seen=f"{path}: {error}") from None

    def items(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every tensor, one at a time, by name."""
        for name in sorted(self.files):
            yield name, self.read(name)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Opens a model folder. Raises InputError where it is missing, holds no safetensors, or a file is damaged."""
    if not folder.is_dir():
        raise InputError("no such model folder", seen=folder, next_step="give the path of a Hugging Face folder")
    config = read_json(folder / "config.json")
    if (folder / INDEX).exists():
        names: dict[str, str] = read_json(folder / INDEX)["weight_map"]
    elif (folder / SINGLE).exists():
        with _opened(folder / SINGLE) as tensors:
            names = dict.fromkeys(tensors.keys(), SINGLE)
    else:
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".pkl"))
        raise InputError(
            "the model folder has no safetensors",
            seen=f"{folder}: {', '.join(pickles) or 'no weights'}",
            allowed=f"{SINGLE}, or shards with {INDEX}",
            next_step="pickled weights run code when read; convert them to safetensors" if pickles else "",
        )
    files = {name: folder / file for name, file in names.items()}
    for path in sorted(set(files.values())):
        with _opened(path) as tensors:
            absent = {name for name, file in files.items() if file == path} - set(tensors.keys())
        if absent:
            raise InputError("the weights file lacks tensors that the index names", seen=f"{path}: {sorted(absent)[0]}")
    return Checkpoint(folder, config, files)


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except FileNotFoundError:
        raise InputError("a weights file is missing", seen=path, next_step="copy or download it again") from None
    except (SafetensorError, OSError) as error:
        raise InputError(
            "the weights file is damaged", seen=f"{path}: {error}", next_step="copy or download it again"
        ) from None


def write_checkpoint(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], tokenizer: Path
) -> None:
    """Writes a model into an existing or new folder; `config.json` comes last, so a folder with one is whole.

    `tokenizer` is the folder whose tokenizer files are copied along.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").unlink(missing_ok=True)
    for name in TOKENIZER_FILES:
        if (tokenizer / name).exists() and folder != tokenizer:
            shutil.copyfile(tokenizer / name, folder / name)
    save_tensors(folder / SINGLE, tensors, {"format": "pt"})
    write_json(folder / "config.json", config)


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Writes one safetensors file, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, partial, dict(metadata))
        partial.replace(path)
    except SafetensorError as error:
        if "No space left" in str(error):
            raise OSError(28, "No space left on device", str(path)) from None
        raise
    finally:
        partial.unlink(missing_ok=True)


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Reads one safetensors file: its tensors and its metadata."""
    with _opened(path) as tensors:
        return {name: tensors.get_tensor(name) for name in tensors.keys()}, dict(tensors.metadata() or {})  # noqa: SIM118


def load_model(folder: Path, dtype: torch.dtype) -> Any:
    """The transformers causal LM of a folder, on the CPU, in evaluation mode, without remote code."""
    from transformers import AutoModelForCausalLM

    open_checkpoint(folder)  # our messages for damaged files
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True, local_files_only=True)
    except ValueError as error:
        raise IncompatibleModelError(
            "transformers cannot load this model", seen=f"{folder}: {str(error).splitlines()[0]}"
        ) from None
    return model.eval()


def load_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer. Raises InputError where it has none."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise InputError("the model folder has no tokenizer", seen=f"{folder}: {str(error).splitlines()[0]}") from None


def separator_id(tokenizer: Any) -> int:
    """The token between documents: `<|endoftext|>` where the vocabulary has it, else the end-of-sequence token."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    found = vocabulary.get("<|endoftext|>", tokenizer.eos_token_id)
    if found is None:
        found = tokenizer.bos_token_id
    if found is None:
        raise InputError("the tokenizer has no end-of-text token", seen=tokenizer.name_or_path)
    return int(found)


def copy_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy of a config.json, safe to change."""
    return dict(json.loads(json.dumps(config)))
