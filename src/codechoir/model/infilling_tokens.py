"""Infilling's sentinel tokens: which a model has, how an infilling is written with them, and new ones for other models.

In: a tokenizer, or a model's folder. Out: token ids, or a folder whose vocabulary has sentinels. Knows neither how
documents are split nor how the rows of new tokens are learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from codechoir.artifacts import write_json
from codechoir.errors import IncompatibleModelError
from codechoir.model.checkpoint import Checkpoint, load_tokenizer, open_checkpoint, separator_id
from codechoir.model.inspection import build_on_meta
from codechoir.model.licences import carry_licence
from codechoir.model.names import names_of
from codechoir.model.streaming import PlannedTensor, plan_shards, write_streaming
from codechoir.records import read_json

NEW_ROWS = "new_rows.json"
_VERSION = 2  # of what is written
_NOISE = 0.1  # of each column's spread
_OTHERWISE = "set train.infilling_rate to 0, or take a base that has such tokens"


@dataclass(frozen=True, slots=True)
class _Names:
    """How a family writes its sentinels. `end` closes a middle; where there is none, the document's separator does."""

    prefix: str
    suffix: str
    middle: str
    end: str | None = None


# Each as its model card has it.
_STARCODER = _Names("<fim_prefix>", "<fim_suffix>", "<fim_middle>")  # StarCoder, StarCoder2, Granite, StableCode
KNOWN = (
    _STARCODER,
    _Names("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # SantaCoder
    _Names("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|file_separator|>"),  # CodeGemma
    _Names("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen2.5-Coder
    _Names("▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"),  # Code Llama
    _Names("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek-Coder: the hole stands before the suffix
)


@dataclass(frozen=True, slots=True)
class Sentinels:
    """The token ids that mark an infilling's pieces; `end` follows the middle and tells the model to stop there."""

    prefix: int
    suffix: int
    middle: int
    end: int

    def psm(self, prefix: Sequence[int], suffix: Sequence[int], middle: Sequence[int] = ()) -> list[int]:
        """Prefix, suffix, middle (Bavarian et al. 2022, arXiv 2207.14255, section 3). Without a middle: a prompt."""
        return [self.prefix, *prefix, self.suffix, *suffix, self.middle, *middle]

    def spm(self, prefix: Sequence[int], suffix: Sequence[int], middle: Sequence[int] = ()) -> list[int]:
        """Suffix, prefix, middle, in the second variant of the paper's appendix D, which SantaCoder's training used.

        It is what PSM gives for an empty prefix, so that what is learned of one serves the other.
        """
        return [self.prefix, self.suffix, *suffix, self.middle, *prefix, *middle]


def find_sentinels(tokenizer: Any) -> Sentinels | None:
    """The sentinels that a tokenizer's vocabulary holds, by the table of known names; None where it holds no set."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    for names in KNOWN:
        wanted = [name for name in (names.prefix, names.suffix, names.middle, names.end) if name is not None]
        if all(name in vocabulary for name in wanted):
            prefix, suffix, middle, *end = (vocabulary[name] for name in wanted)
            return Sentinels(prefix, suffix, middle, end[0] if end else separator_id(tokenizer))
    return None


@dataclass(frozen=True, slots=True)
class NewRows:
    """The rows that were added for new tokens: they must be trained even where no other row of the tensors is."""

    rows: range
    tensors: tuple[str, ...]  # the input embedding and, where it is not tied to it, the output layer with its bias


def new_rows(folder: Path) -> NewRows | None:
    """The rows of a folder that `with_infilling_tokens` wrote; None for any other. What is trained from it has none."""
    if not (folder / NEW_ROWS).exists():
        return None
    told: Any = read_json(folder / NEW_ROWS)
    return NewRows(range(*told["rows"]), tuple(told["tensors"]))


def learns_infilling_tokens(base: Path) -> bool:
    """Whether a base has to learn its sentinels: they are to be added, or `with_infilling_tokens` has added them.

    Raises IncompatibleModelError where they cannot be added.
    """
    tokenizer = load_tokenizer(base)
    if find_sentinels(tokenizer) is not None:
        return new_rows(base) is not None
    _add_sentinels(tokenizer, base)
    _vocabulary_tensors(open_checkpoint(base))
    return True


def with_infilling_tokens(base: Path, digest: str, folder: Path) -> Path:
    """A folder of the base whose vocabulary has sentinels: the base itself where it has some, else `folder`.

    Raises IncompatibleModelError as `learns_infilling_tokens` does.

    `digest` stands for the base; a whole `folder` that was made of the same one is taken as it is, any other is
    written anew. New sentinels have StarCoder's names, which other programs look for. Their rows are the mean of all
    rows and a little noise: a mean row's logit is the mean logit, so no new token takes a share of probability that
    old tokens would miss (Hewitt 2021, "Initializing new word embeddings for pretrained language models"); the noise
    tells the three apart. Old rows stay as they are, bit for bit.
    """
    if find_sentinels(load_tokenizer(base)) is not None:
        return base
    if (folder / "config.json").exists() and (folder / NEW_ROWS).exists():
        told: Any = read_json(folder / NEW_ROWS)
        if told["base"] == digest and told.get("version") == _VERSION:
            return folder
    source, tokenizer = open_checkpoint(base), load_tokenizer(base)
    rows = _add_sentinels(tokenizer, base)
    tensors = _vocabulary_tensors(source)
    size = max(int(source.config["vocab_size"]), rows.stop)  # a padded vocabulary has room already
    _write(source, {"vocab_size": size}, NewRows(rows, tensors), tokenizer, folder)
    made = {"version": _VERSION, "base": digest}
    write_json(folder / NEW_ROWS, made | {"rows": [rows.start, rows.stop], "tensors": tensors})
    return folder


def _add_sentinels(tokenizer: Any, base: Path) -> range:
    """Adds new sentinels behind all tokens and returns their ids. Raises IncompatibleModelError where they cannot be.

    A tokenizer that is read again numbers added tokens by how many there are, so ids with gaps would not stay.
    """
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    names = [_STARCODER.prefix, _STARCODER.middle, _STARCODER.suffix]
    first, held = max(vocabulary.values()) + 1, [name for name in names if name in vocabulary]
    if held or first != len(vocabulary):
        raise IncompatibleModelError(
            "infilling tokens cannot be added to this vocabulary",
            seen=f"{', '.join(held) or f'{len(vocabulary)} tokens with ids up to {first - 1}'} ({base})",
            allowed=f"ids without gaps, and all or none of {', '.join(names)}",
            next_step=_OTHERWISE,
        )
    tokenizer.add_tokens(names, special_tokens=True)
    rows = range(first, first + len(names))
    assert tokenizer.convert_tokens_to_ids(names) == list(rows)
    return rows


def _vocabulary_tensors(source: Checkpoint) -> tuple[str, ...]:
    """The stored names of the tensors with a row a token; a tied output layer has none of its own."""
    model = build_on_meta(source.config, source.folder)
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    wanted = {id(parameter) for layer in layers for parameter in layer.parameters()}
    parameters, names = dict(model.named_parameters(remove_duplicate=False)), names_of(model)
    found = tuple(name for name in sorted(source.files) if id(parameters.get(names.of(name))) in wanted)
    if not found:
        raise IncompatibleModelError(
            "which tensors have a row a token could not be told, so infilling tokens cannot be added",
            seen=source.folder,
            next_step=_OTHERWISE,
        )
    return found


def _write(source: Checkpoint, changes: dict[str, int], new: NewRows, tokenizer: Any, folder: Path) -> None:
    specs = source.specs()
    size = changes["vocab_size"]
    planned = [
        PlannedTensor(name, spec.dtype, (size, *spec.shape[1:]) if name in new.tensors else spec.shape)
        for name, spec in specs.items()
    ]

    def read(name: str) -> torch.Tensor:
        tensor = source.read(name)
        return _enlarged(tensor, size, new.rows) if name in new.tensors else tensor

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").unlink(missing_ok=True)
    (folder / NEW_ROWS).unlink(missing_ok=True)
    tokenizer.save_pretrained(folder)
    carry_licence(source.folder, folder)
    write_streaming(folder, source.config | changes, plan_shards(planned), read, tokenizer=folder)


def _enlarged(tensor: torch.Tensor, size: int, rows: range) -> torch.Tensor:
    """The tensor with `size` rows, of which those of the new tokens are drawn about the mean of all before them."""
    old = tensor[: rows.start].double()
    noise = torch.randn(len(rows), *tensor.shape[1:], generator=torch.Generator().manual_seed(0), dtype=old.dtype)
    enlarged = tensor.new_zeros(size, *tensor.shape[1:])
    enlarged[: len(tensor)] = tensor
    enlarged[rows.start : rows.stop] = (old.mean(0) + _NOISE * old.std(0) * noise).to(tensor.dtype)
    return enlarged
