"""The only reader and writer of weights: Hugging Face folders with safetensors.

Knows files, names and shapes, not what a model is for. Pickled weights are refused by name, damaged files are named,
and a checkpoint appears under its name whole or not at all.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from codechoir.artifacts import disk_full_told, write_json
from codechoir.errors import IncompatibleModelError, InputError, ToolMissingError
from codechoir.records import read_json

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
CHECKSUMS = "checksums.json"
ADAPTER_CONFIG = "adapter_config.json"  # PEFT's
_TOKENIZER = "tokenizer.json"
_TOKENIZER_CONFIG = "tokenizer_config.json"
_PLAIN_TOKENIZERS = ("PreTrainedTokenizerFast", "TokenizersBackend")  # two names of the class that takes the file as is
TOKENIZER_FILES = (
    _TOKENIZER,
    _TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
)

FORMATS = {  # safetensors' names of number formats
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A stored tensor's number format and shape."""

    dtype: torch.dtype
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A Hugging Face folder opened for reading: its config and which file holds which tensor."""

    folder: Path
    config: dict[str, Any]
    files: Mapping[str, Path]  # tensor name -> file

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape, read from the headers alone."""
        shapes = {name: tuple(header.get_shape()) for name, header in self._headers()}
        return {name: shapes[name] for name in sorted(self.files)}

    def specs(self) -> dict[str, TensorSpec]:
        """Every tensor's number format and shape, from the headers alone. Raises InputError naming an unknown one."""
        specs = {}
        for name, header in self._headers():
            kind = header.get_dtype()
            if name in self.files and kind not in FORMATS:
                raise InputError(
                    "a number format that is not read",
                    seen=f"{kind}: {name} in {self.files[name]}",
                    allowed=", ".join(FORMATS),
                )
            specs[name] = TensorSpec(FORMATS.get(kind, torch.uint8), tuple(header.get_shape()))
        return {name: specs[name] for name in sorted(self.files)}

    def dtypes(self) -> set[str]:
        """The number formats that the files hold, by safetensors' names (BF16, F32, ...), from the headers alone."""
        return {header.get_dtype() for _, header in self._headers()}

    def _headers(self) -> Iterator[tuple[str, Any]]:
        for path in sorted(set(self.files.values())):
            with _opened(path) as tensors:
                yield from ((name, tensors.get_slice(name)) for name in tensors.keys())  # noqa: SIM118

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
    if not isinstance(config, dict):
        raise InputError("the model's config is not a mapping", seen=folder / "config.json")
    return Checkpoint(folder, config, _weights_files(folder, "model"))


def open_weights(folder: Path, stem: str = "model") -> Checkpoint:
    """Opens weights that are no whole model, without a config: an adapter's, or feed-forward weights alone.

    `stem` is the file's name without its ending. Raises InputError as `open_checkpoint` does.
    """
    if not folder.is_dir():
        raise InputError("no such folder of weights", seen=folder)
    return Checkpoint(folder, {}, _weights_files(folder, stem))


def _weights_files(folder: Path, stem: str) -> dict[str, Path]:
    """Tensor name -> file, for one file of weights or shards with their index."""
    single, index = f"{stem}.safetensors", f"{stem}.safetensors.index.json"
    if (folder / index).exists():
        names = _index(folder / index)
    elif (folder / single).exists():
        with _opened(folder / single) as tensors:
            names = dict.fromkeys(tensors.keys(), single)
    else:
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".pkl"))
        raise InputError(
            "the model folder has no safetensors",
            seen=f"{folder}: {', '.join(pickles) or 'no weights'}",
            allowed=f"{single}, or shards with {index}",
            next_step="pickled weights run code when read; convert them to safetensors" if pickles else "",
        )
    files = {name: folder / file for name, file in names.items()}
    for path in sorted(set(files.values())):
        with _opened(path) as tensors:
            absent = {name for name, file in files.items() if file == path} - set(tensors.keys())
        if absent:
            raise InputError("the weights file lacks tensors that the index names", seen=f"{path}: {sorted(absent)[0]}")
    return files


def _index(path: Path) -> dict[str, str]:
    """Tensor name -> file name. Names that lead out of the folder are refused."""
    index = read_json(path)
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict) or not names:
        raise InputError("the index of the weights is damaged", seen=path, allowed="a weight_map: tensor to file name")
    for file in names.values():
        if not isinstance(file, str) or Path(file).name != file:
            raise InputError("the index names a file outside its folder", seen=f"{path}: {file}")
    return names


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
    begin_folder(folder, tokenizer)
    save_tensors(folder / SINGLE, tensors, {"format": "pt"})
    write_json(folder / "config.json", config)


def begin_folder(folder: Path, tokenizer: Path) -> None:
    """Makes a folder ready for a model: its config goes first, then all older weights; tokenizer files are copied.

    A single file of weights stays until another takes its place, since what is being written may be read from it.
    """
    with disk_full_told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").unlink(missing_ok=True)
        for pattern in (INDEX, CHECKSUMS, "model-*-of-*.safetensors", ".model*.partial"):
            for path in folder.glob(pattern):
                path.unlink()
        for name in TOKENIZER_FILES:
            if (tokenizer / name).exists() and folder != tokenizer:
                shutil.copyfile(tokenizer / name, folder / name)
        _name_plain_tokenizer(folder)


def _name_plain_tokenizer(folder: Path) -> None:
    """Has transformers read the folder's tokenizer as `load_tokenizer` does."""
    if not (folder / _TOKENIZER).exists():
        return
    place = folder / _TOKENIZER_CONFIG
    settings = read_json(place) if place.exists() else {}
    if isinstance(settings, dict) and settings.get("tokenizer_class") not in _PLAIN_TOKENIZERS:
        write_json(place, settings | {"tokenizer_class": _PLAIN_TOKENIZERS[0]})


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Writes one safetensors file, whole or not at all, with any new file's rights. Raises DiskFullError."""
    partial = path.with_name(f".{path.name}.partial")
    plain = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    with disk_full_told(path):
        try:
            partial.unlink(missing_ok=True)
            partial.touch()
            rights = stat.S_IMODE(partial.stat().st_mode)
            save_file(plain, partial, dict(metadata))  # the library's own file, which its owner alone may read
            partial.chmod(rights)
            with partial.open("rb+") as written:
                os.fsync(written.fileno())  # else a power cut may leave the name without the bytes
            partial.replace(path)
        except SafetensorError as error:
            # The library tells the system's errors by their number in its message alone.
            if number := re.search(r"os error (\d+)", str(error)):
                raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None
            raise
        finally:
            partial.unlink(missing_ok=True)


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Reads one safetensors file: its tensors and its metadata."""
    with _opened(path) as tensors:
        return {name: tensors.get_tensor(name) for name in tensors.keys()}, dict(tensors.metadata() or {})  # noqa: SIM118


def load_model(folder: Path, dtype: torch.dtype) -> Any:
    """The transformers causal LM of a folder, on the CPU, in evaluation mode, without remote code.

    A PEFT adapter is merged into its base, whose path may be relative to the adapter's folder. Raises
    IncompatibleModelError where transformers does not know the model or its config, InputError where tensors are
    missing or of another shape: transformers would leave those random.
    """
    if (folder / ADAPTER_CONFIG).exists():
        return _load_adapted(folder, dtype)
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoModelForCausalLM

    open_checkpoint(folder)  # our messages for damaged files
    try:
        model, loaded = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (ValueError, StrictDataclassError) as error:
        raise IncompatibleModelError(
            "transformers cannot load this model", seen=f"{folder}: {str(error).splitlines()[0]}"
        ) from None
    random = [*sorted(loaded["missing_keys"]), *sorted(name for name, *_ in loaded["mismatched_keys"])]
    if random:
        raise InputError(
            "the weights do not fit the model's config",
            seen=f"{folder}: missing or of another shape: {', '.join(random[:3])}",
            next_step="copy or download the model again",
        )
    return model.eval()


def _load_adapted(folder: Path, dtype: torch.dtype) -> Any:
    try:
        from peft import PeftModel
    except ImportError:
        raise ToolMissingError(
            "an adapter is read with PEFT, which is not installed", next_step="pip install 'codechoir[peft]'"
        ) from None
    settings = read_json(folder / ADAPTER_CONFIG)
    base = settings.get("base_model_name_or_path") if isinstance(settings, dict) else None
    if not base:
        raise InputError("the adapter does not tell its base", seen=folder / ADAPTER_CONFIG)
    model = load_model((folder / str(base)).resolve(), dtype)
    return PeftModel.from_pretrained(model, str(folder)).merge_and_unload().eval()


def model_config(config: Mapping[str, Any], where: object) -> Any:
    """transformers' config object for a config.json. Raises IncompatibleModelError where it cannot read it."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    settings = copy_config(config)
    try:
        return AutoConfig.for_model(settings.pop("model_type", ""), **settings)
    except (ValueError, TypeError, StrictDataclassError) as error:
        raise IncompatibleModelError(
            "transformers cannot read this model's config",
            seen=f"{config.get('model_type')} ({where}): {shortened(str(error))}",
        ) from None


def shortened(message: str) -> str:
    """A library's message on one line, without the lists of all model types that transformers adds."""
    line = " ".join(message.split())
    return line if len(line) <= 300 else f"{line[:300]}..."


def full_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """The folder's config with the defaults of its model class spelled out. Raises IncompatibleModelError."""
    return dict(model_config(checkpoint.config, checkpoint.folder / "config.json").to_dict())


def load_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer: its tokenizer.json as it stands, where it has one. Raises InputError where it has none.

    Classes named after a family (GPT2Tokenizer) build their own from the vocabulary, in some model types alone, and
    lose rules that the file has, as SmolLM2's for digits.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    chosen = PreTrainedTokenizerFast if (folder / _TOKENIZER).exists() else AutoTokenizer
    try:
        return chosen.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
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
