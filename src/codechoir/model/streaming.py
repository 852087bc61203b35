"""Writes checkpoints larger than memory: tensor by tensor, shard by shard, as Hugging Face lays them out.

In: a plan of names, formats and shapes, and a callable that gives each tensor when its turn comes. Out: shards with
their index, the SHA-256 of each shard in `checksums.json`, and `config.json` last of all, so that a folder with one is
whole. Memory holds one tensor, or one part of it. Knows nothing of models. The layout of a file is that of
safetensors: eight bytes of header length, the header in JSON, the tensors' bytes without gaps.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch

from codechoir.artifacts import disk_full_told, file_sha256, write_json
from codechoir.errors import ChecksumError, DiskFullError, InputError
from codechoir.model.checkpoint import CHECKSUMS, FORMATS, INDEX, SINGLE, begin_folder
from codechoir.records import read_json

SHARD_BYTES = 4_000_000_000
_CHUNK_BYTES = 1 << 24  # hashed and written at once; small enough to stay in no one's way
_FORMAT_NAMES = {dtype: name for name, dtype in FORMATS.items()}

Read = Callable[[str], torch.Tensor | Iterable[torch.Tensor]]


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    """A tensor to be written."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Its size in the file."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Shard:
    """A weights file to be written. `tensors` are in the file's order."""

    file: str
    tensors: tuple[PlannedTensor, ...]

    @property
    def num_bytes(self) -> int:
        """The size of its tensors, without the header."""
        return sum(tensor.num_bytes for tensor in self.tensors)


def plan_shards(tensors: Sequence[PlannedTensor], shard_bytes: int = SHARD_BYTES) -> list[Shard]:
    """Fills shards in the given order; a tensor larger than `shard_bytes` has a shard of its own.

    Within a shard, wider number formats come first: so every tensor begins at a multiple of its item's size.
    """
    assert len({tensor.name for tensor in tensors}) == len(tensors), "a tensor is planned twice"
    groups: list[list[PlannedTensor]] = [[]]
    held = 0
    for tensor in tensors:
        if groups[-1] and held + tensor.num_bytes > shard_bytes:
            groups.append([])
            held = 0
        groups[-1].append(tensor)
        held += tensor.num_bytes
    files = [SINGLE] if len(groups) == 1 else _shard_names(len(groups))
    return [
        Shard(file, tuple(sorted(group, key=lambda tensor: -tensor.dtype.itemsize)))
        for file, group in zip(files, groups, strict=True)
    ]


def _shard_names(count: int) -> list[str]:
    return [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]


def write_streaming(
    folder: Path, config: Mapping[str, Any], shards: Sequence[Shard], read: Read, tokenizer: Path
) -> dict[str, str]:
    """Writes a model into an existing or new folder and returns each shard's SHA-256. Raises DiskFullError.

    `read` gives a planned tensor by its name, whole or as consecutive slices of its first dimension; each is asked for
    once. `tokenizer` is the folder whose tokenizer files are copied along. Whatever is raised on the way, no weights
    are left behind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    check_room(folder, sum(shard.num_bytes for shard in shards))
    begin_folder(folder, tokenizer)
    (folder / SINGLE).unlink(missing_ok=True)  # transformers would read it rather than the shards
    checksums = {}
    try:
        with disk_full_told(folder), ThreadPoolExecutor(1) as hasher:
            for shard in shards:
                checksums[shard.file] = _write_shard(folder / shard.file, shard, read, hasher)
        write_json(folder / CHECKSUMS, checksums)
        if len(shards) > 1:
            names = {tensor.name: shard.file for shard in shards for tensor in shard.tensors}
            size = sum(shard.num_bytes for shard in shards)
            write_json(folder / INDEX, {"metadata": {"total_size": size}, "weight_map": dict(sorted(names.items()))})
        write_json(folder / "config.json", config)
    except BaseException:
        for file in (*checksums, CHECKSUMS, INDEX):
            (folder / file).unlink(missing_ok=True)
        raise
    return checksums


def check_room(folder: Path, needed: int) -> None:
    """Tells a disk that is too small before anything is written to it."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DiskFullError(
            "the disk has no room for the model",
            seen=f"{folder}: {free / 1e9:.2f} GB free",
            allowed=f"at least {needed / 1e9:.2f} GB",
            next_step="make room, or give a folder on another disk",
        )


def _write_shard(path: Path, shard: Shard, read: Read, hasher: ThreadPoolExecutor) -> str:
    """Writes one file under a hidden name, renames it when it is durable, and returns its SHA-256."""
    partial = path.with_name(f".{path.name}.partial")
    digest = hashlib.sha256()
    try:
        with partial.open("wb", buffering=0) as out:

            def put(data: memoryview) -> None:
                for start in range(0, len(data), _CHUNK_BYTES):
                    chunk = data[start : start + _CHUNK_BYTES]
                    hashed = hasher.submit(digest.update, chunk)  # on another core, while the system writes
                    _write_all(out.fileno(), chunk)
                    hashed.result()

            put(memoryview(_header(shard)))
            for tensor in shard.tensors:
                _put_tensor(tensor, read(tensor.name), put)
            os.fsync(out.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return digest.hexdigest()


def _write_all(file: int, data: memoryview) -> None:
    while data:
        data = data[os.write(file, data) :]


def _header(shard: Shard) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for tensor in shard.tensors:
        entries[tensor.name] = {
            "dtype": _FORMAT_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [place, place + tensor.num_bytes],
        }
        place += tensor.num_bytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the tensors begin at a multiple of eight bytes
    return len(text).to_bytes(8, "little") + text


def _put_tensor(
    planned: PlannedTensor, given: torch.Tensor | Iterable[torch.Tensor], put: Callable[[memoryview], None]
) -> None:
    parts = [given] if isinstance(given, torch.Tensor) else given
    num_rows = 0
    for part in parts:
        assert part.dtype is planned.dtype, f"{planned.name}: {part.dtype}, planned {planned.dtype}"
        assert part.shape[1:] == planned.shape[1:], f"{planned.name}: {tuple(part.shape)}, planned {planned.shape}"
        num_rows += part.shape[0] if part.ndim else 1
        if part.numel():
            data: Any = part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            put(memoryview(data))
            del data
        del part  # before the next one is made
    assert num_rows == (planned.shape[0] if planned.shape else 1), f"{planned.name}: {num_rows} rows"


def verify(folder: Path) -> None:
    """Compares every shard with its recorded SHA-256. Raises ChecksumError or InputError, naming the shard."""
    recorded = read_json(folder / CHECKSUMS)
    if not isinstance(recorded, dict) or not recorded:
        raise InputError("the checksums are damaged", seen=folder / CHECKSUMS, allowed="file name to SHA-256")
    for file, expected in recorded.items():
        path = folder / file
        if not path.is_file():
            raise InputError("a weights file is missing", seen=path, next_step="copy or download it again")
        if (found := file_sha256(path)) != expected:
            raise ChecksumError(
                "the weights file is damaged",
                seen=f"{path}: SHA-256 {found}",
                allowed=str(expected),
                next_step="copy or download it again",
            )
