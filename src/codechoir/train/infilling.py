"""Fill-in-the-middle: which documents train infilling, where they are split, and how the pieces follow each other.

In: a text and what its draws go by. Out: three pieces. A text is split between characters, before it is tokenised, so
that a model learns to go on in the midst of a token (Bavarian et al. 2022, arXiv 2207.14255, section 4.4). Knows no
sequences.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from codechoir.model.encoding import TextEncoder
from codechoir.model.infilling_tokens import Sentinels

_WORD = 1 << 64


@dataclass(frozen=True, slots=True)
class Pieces:
    """A document in three: prefix + middle + suffix is its text. `suffix_first` tells SPM from PSM."""

    prefix: str
    middle: str
    suffix: str
    suffix_first: bool


@dataclass(frozen=True, slots=True)
class Rates:
    """The share of documents that are split, and the share of those in the order suffix, prefix, middle."""

    infilling: float
    spm: float


def is_drawn(draw: str, rates: Rates) -> bool:
    """Whether a document is drawn for infilling: by the text `draw` alone (a seed, the document's key, the epoch)."""
    return _words(draw)[0] < rates.infilling * _WORD


def split(text: str, draw: str, rates: Rates) -> Pieces:
    """The pieces of a text; all chances are fixed by the text `draw` alone.

    The two places are drawn evenly and apart from each other from all len(text) + 1 between characters, ends included,
    so that any piece may be empty (the paper's section 3, and SantaCoder's training).
    """
    _, order, one, other = _words(draw)
    first, last = sorted(word * (len(text) + 1) // _WORD for word in (one, other))
    return Pieces(text[:first], text[first:last], text[last:], order < rates.spm * _WORD)


def _words(draw: str) -> tuple[int, int, int, int]:
    """Four numbers, evenly from 0 to below _WORD."""
    digest = hashlib.sha256(draw.encode()).digest()
    chosen, order, one, other = (int.from_bytes(digest[at : at + 8], "big") for at in (0, 8, 16, 24))
    return chosen, order, one, other


def tokens_of(pieces: Pieces, encoder: TextEncoder, sentinels: Sentinels) -> list[int]:
    """The pieces' tokens with the sentinels between them, and the one that ends the middle last."""
    prefix = encoder.encode(pieces.prefix)
    middle, suffix = encoder.encode_inner(pieces.middle), encoder.encode_inner(pieces.suffix)
    arrange = sentinels.spm if pieces.suffix_first else sentinels.psm
    return [*arrange(prefix, suffix, middle), sentinels.end]
