"""From texts to packed sequences: a text's documents, and sequences of equal length filled with documents.

Attention and loss stay inside each document: the positions that come with the tokens begin again at 0 in each, and
transformers keeps such documents apart by their positions alone where it is given neither mask nor cache. An infilling
is never cut: its middle would be learned without what stands around it. Knows neither languages nor files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from codechoir.model.encoding import TextEncoder
from codechoir.model.infilling_tokens import Sentinels
from codechoir.train.infilling import Rates, is_drawn, split, tokens_of

_WAITING = 64  # infillings that may wait for a sequence with room
_CONTROL = 5  # tokens of an infilling beside its text's: separator, sentinels, end
_SLACK = 8  # a sequence's eighth: pieces of a text may have more tokens than the whole


@dataclass(frozen=True, slots=True)
class Document:
    """A document's tokens, separator first, and the UTF-8 bytes of the text that they stand for.

    `begins` tells whether it is the first of its text.
    """

    tokens: list[int]
    num_bytes: int
    is_infilling: bool = False
    begins: bool = True


@dataclass(frozen=True, slots=True)
class Writer:
    """Turns texts into documents. `sentinels` may be None only where the infilling rate is 0."""

    encoder: TextEncoder
    separator: int
    sentinels: Sentinels | None
    document_tokens: int
    sequence_length: int
    rates: Rates

    def write(self, text: str, draw: str) -> list[Document]:
        """A text's documents: one, or where infilling is drawn one for each part of it that a sequence holds.

        A text longer than `document_tokens` is cut. A document that is no infilling is separator, tokens, and where it
        was not cut the separator again as its end, so that models learn to stop. `draw` fixes the chances of infilling.
        """
        ids, kept = self.encoder.encode_start(text, self.document_tokens)
        if not is_drawn(draw, self.rates):
            end = [self.separator] if kept == text else []
            return [Document([self.separator, *ids, *end], len(kept.encode()))]
        sentinels = self.sentinels
        assert sentinels is not None, "infilling needs sentinels"
        documents = []
        for number, part in enumerate(self._parts(kept)):
            pieces = split(part, f"{draw}:{number}", self.rates)
            tokens = [self.separator, *tokens_of(pieces, self.encoder, sentinels)]
            documents.append(Document(tokens, len(part.encode()), is_infilling=True, begins=number == 0))
        return documents

    def _parts(self, text: str) -> Iterator[str]:
        """The text in parts that a sequence has room for, as infillings; at least one."""
        size = max(1, self.sequence_length - self.sequence_length // _SLACK - _CONTROL)
        rest = text
        while True:
            _, part = self.encoder.encode_start(rest, size)
            part = part or rest[:1]  # a character may have more tokens than there is room for
            yield part
            rest = rest[len(part) :]
            if not rest:
                return


@dataclass(slots=True)
class Row:
    """A sequence: tokens with their positions, the texts that begin in it, its infillings, and its share of bytes."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    num_texts: int = 0
    num_infillings: int = 0
    num_bytes: float = 0.0

    def add(self, document: Document, start: int, stop: int) -> None:
        """Puts a part of a document at the end. Which of its bytes a token stands for is not asked: all alike."""
        part = document.tokens[start:stop]
        self.tokens += part
        self.positions += range(len(part))
        self.num_texts += document.begins and start == 0
        self.num_infillings += document.is_infilling and start == 0
        self.num_bytes += document.num_bytes * len(part) / len(document.tokens)


def fill(documents: Iterable[Document], length: int) -> Iterator[Row]:
    """Sequences of `length`, filled with the documents in their order, but that an infilling waits for one with room.

    A document that a sequence's end cuts goes on in the next one, from position 0 again: nothing of it is lost or
    padded, and no position is larger than a model that reads one sequence knows. What went before is out of its reach
    there, as it is for any attention that ends with the sequence. An infilling is cut only where it is longer than a
    sequence, or too many wait. At the documents' end, what does not fill a sequence is dropped, and so is what waits.
    """
    source = iter(documents)
    waiting: list[Document] = []
    row, cut, start = Row(), None, 0  # the document that is being cut, and how far it is
    while True:
        room = length - len(row.tokens)
        place = next((number for number, one in enumerate(waiting) if len(one.tokens) <= room), None)
        if place is not None:
            row.add(waiting.pop(place), 0, length)
        elif cut is not None:
            stop = min(start + room, len(cut.tokens))
            row.add(cut, start, stop)
            cut, start = (cut, stop) if stop < len(cut.tokens) else (None, 0)
        elif len(waiting) >= _WAITING:
            cut = waiting.pop(0)
        else:
            document = next(source, None)
            if document is None:
                return
            if document.is_infilling and room < len(document.tokens) <= length:
                waiting.append(document)
            else:
                cut = document
        if len(row.tokens) == length:
            yield row
            row = Row()
