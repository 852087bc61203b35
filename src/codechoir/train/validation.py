"""Held-out bits per byte while a model is trained, on documents of the training packages that training does not read.

Never the held-out split that the report is made of. Which documents: whole ones, by a hash of the seed and each
document's key, so that neither other documents nor a resume change the choice. Each document's first tokens are
scored given the separator, the documents apart from each other.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from codechoir.documents import ListedT, Text
from codechoir.errors import InputError
from codechoir.model.encoding import TextEncoder
from codechoir.train.devices import Devices


class _Keyed(Protocol):
    @property
    def key(self) -> str: ...


KeyedT = TypeVar("KeyedT", bound=_Keyed)


@dataclass(frozen=True, slots=True)
class Rows:
    """Some documents of one language, one a row, padded on the right."""

    language: str
    tokens_BT: torch.Tensor  # column 0 is the separator
    counts_BT: torch.Tensor  # bool: the documents' own tokens
    num_bytes: int


def hold_back(texts: Sequence[ListedT], count: int, seed: int) -> tuple[list[ListedT], list[ListedT]]:
    """The texts to train on and `count` others to measure on. Raises InputError where that leaves too few."""
    if count and len(texts) < 2 * count:
        raise InputError(
            "too few documents to hold some back from training",
            seen=f"{len(texts)} documents, of which train.validation_documents would take {count}",
            next_step="lower train.validation_documents, or give more sources",
        )
    held = chosen(texts, count, seed)
    keys = {text.key for text in held}
    return [text for text in texts if text.key not in keys], held


def chosen(texts: Iterable[KeyedT], count: int, seed: int) -> list[KeyedT]:
    """The `count` texts that are measured on; of a stream no more than these are held."""
    return heapq.nsmallest(
        count, texts, key=lambda text: hashlib.sha256(f"validation:{seed}:{text.key}".encode()).digest()
    )


def validation_rows(
    texts: Mapping[str, Sequence[Text]], tokenizer: Any, separator: int, length: int, batch_size: int
) -> list[Rows]:
    """The batches to measure on: `length` tokens of each document at most, the separator included."""
    encoder, batches = TextEncoder(tokenizer), []
    for language, some in texts.items():
        ordered = sorted((_beginning(text.content, encoder, length - 1) for text in some), key=lambda one: -len(one[0]))
        for start in range(0, len(ordered), batch_size):
            chosen = [one for one in ordered[start : start + batch_size] if one[0]]
            if not chosen:
                continue
            tokens_BT = torch.full((len(chosen), len(chosen[0][0]) + 1), separator)
            counts_BT = torch.zeros_like(tokens_BT, dtype=torch.bool)
            for row, (tokens, _) in enumerate(chosen):
                tokens_BT[row, 1 : len(tokens) + 1] = torch.tensor(tokens)
                counts_BT[row, 1 : len(tokens) + 1] = True
            batches.append(Rows(language, tokens_BT, counts_BT, sum(size for _, size in chosen)))
    return batches


def _beginning(text: str, encoder: TextEncoder, max_tokens: int) -> tuple[list[int], int]:
    """A text's first tokens and how many of its bytes they cover."""
    tokens, kept = encoder.encode_start(text, max_tokens)
    return tokens, len(kept.encode())


@torch.no_grad()
def bits_per_byte(module: nn.Module, batches: Sequence[Rows], devices: Devices) -> dict[str, float | None]:
    """Bits per byte by language, of a `PackedLoss`; None where they are not finite.

    All processes must ask together; each scores some batches.
    """
    module.eval()
    nats: dict[str, float] = defaultdict(float)
    num_bytes: dict[str, int] = defaultdict(int)
    for rows in batches:
        num_bytes[rows.language] += rows.num_bytes
    turns = -(-len(batches) // devices.count)  # a split model needs all processes in each pass
    for turn in range(turns):
        place = turn * devices.count + devices.rank
        rows = batches[min(place, len(batches) - 1)]
        positions_BT = torch.arange(rows.tokens_BT.shape[1]).expand_as(rows.tokens_BT)
        tensors = (rows.tokens_BT, positions_BT, rows.counts_BT)
        loss = float(module(*(tensor.to(devices.device) for tensor in tensors)))
        nats[rows.language] += loss if place < len(batches) else 0.0
    module.train()
    summed = devices.sums(*(nats[language] for language in num_bytes))
    return {
        language: total / math.log(2) / max(num_bytes[language], 1) if math.isfinite(total) else None
        for language, total in zip(num_bytes, summed, strict=True)
    }


def mean_bits(measured: Mapping[str, float | None]) -> float:
    """The mean over languages; infinity where one is not finite."""
    finite = [bits for bits in measured.values() if bits is not None]
    return sum(finite) / len(finite) if len(finite) == len(measured) else math.inf
