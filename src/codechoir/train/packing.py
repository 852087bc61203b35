"""From texts to packed sequences: a document's tokens, and sequences of equal length cut from documents in a row.

Attention and loss stay inside each document: the positions that come with the tokens begin again at 0 in each, and
transformers keeps such documents apart by their positions alone where it is given neither mask nor cache. Knows
neither languages nor files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from codechoir.model.encoding import TextEncoder
from codechoir.model.infilling_tokens import Sentinels
from codechoir.train.infilling import Rates, split, tokens_of


@dataclass(frozen=True, slots=True)
class Document:
    """A document's tokens, separator first, and the UTF-8 bytes of the text that they stand for."""

    tokens: list[int]
    num_bytes: int
    is_infilling: bool


@dataclass(frozen=True, slots=True)
class Writer:
    """Turns texts into documents' tokens. `sentinels` may be None only where the infilling rate is 0."""

    encoder: TextEncoder
    separator: int
    sentinels: Sentinels | None
    document_tokens: int
    rates: Rates

    def write(self, text: str, draw: str) -> Document:
        """One document: separator, tokens, and the separator again as its end, so that models learn to stop.

        A text longer than `document_tokens` is cut, and then has no end; sentinels are not counted. `draw` fixes the
        chances of infilling.
        """
        ids, kept = self.encoder.encode_start(text, self.document_tokens)
        pieces = split(kept, draw, self.rates)
        if pieces is not None:
            assert self.sentinels is not None, "infilling needs sentinels"
            ids = tokens_of(pieces, self.encoder, self.sentinels)
        elif kept == text:
            ids = [*ids, self.separator]
        return Document([self.separator, *ids], len(kept.encode()), pieces is not None)


def cut(documents: Iterable[Sequence[int]], length: int) -> Iterator[tuple[list[int], list[int]]]:
    """Tokens and positions of sequences of `length`, one after the other; what does not fill the last one is dropped.

    Positions count from 0 in each document. A document that a sequence's end cuts goes on in the next one, from
    position 0 again: nothing of it is lost or padded, and no position is larger than a model that reads one sequence
    knows. What went before is out of its reach there, as it is for any attention that ends with the sequence.
    """
    tokens: list[int] = []
    positions: list[int] = []
    for document in documents:
        start = 0
        while start < len(document):
            part = document[start : start + length - len(tokens)]
            tokens += part
            positions += range(len(part))
            start += len(part)
            if len(tokens) == length:
                yield tokens, positions
                tokens, positions = [], []
