"""How a model is asked to fill in: the tokens of a prompt made of what stands before a gap and after it.

In: a tokenizer, and texts or their tokens. Out: prompts as token ids. Texts of files are encoded as text alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codechoir.model.checkpoint import separator_id
from codechoir.model.encoding import TextEncoder
from codechoir.model.infilling_tokens import Sentinels, find_sentinels

NUM_CONTROL = 4  # the separator and three sentinels
_FILE_SEPARATORS = ("<|file_sep|>", "<file_sep>")  # Qwen2.5-Coder, StarCoder2


@dataclass(frozen=True, slots=True)
class InfillingFormat:
    """A tokenizer's. `marks` are how it writes its sentinels: before the prefix, the suffix and the middle."""

    encoder: TextEncoder
    sentinels: Sentinels
    separator: int
    marks: tuple[str, str, str]
    file_separator: int | None  # what its models know between files

    def prompt(self, prefix: str, suffix: str) -> tuple[int, ...]:
        """Of texts; what they spell out is never a control token."""
        return self.joined(self.encoder.encode(prefix), self.encoder.encode_inner(suffix))

    def joined(self, prefix: Sequence[int], suffix: Sequence[int], context: Sequence[int] = ()) -> tuple[int, ...]:
        """Separator, context, prefix and suffix, in the order PSM."""
        return (self.separator, *context, *self.sentinels.psm(prefix, suffix))

    def before_cursor(self, prompt: str) -> str | None:
        """What stands before the gap in a prompt that spells out the sentinels; None where it does not."""
        begin, suffix, middle = self.marks
        if begin not in prompt:
            return None
        inner = prompt.rpartition(begin)[2]
        return inner.partition(suffix)[0] or inner.rpartition(middle)[2]


def infilling_format(tokenizer: Any) -> InfillingFormat | None:
    """The format of a tokenizer; None where it has no infilling tokens."""
    sentinels = find_sentinels(tokenizer)
    if sentinels is None:
        return None
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    prefix, suffix, middle = tokenizer.convert_ids_to_tokens([sentinels.prefix, sentinels.suffix, sentinels.middle])
    file_separator = next((vocabulary[piece] for piece in _FILE_SEPARATORS if piece in vocabulary), None)
    encoder, separator = TextEncoder(tokenizer), separator_id(tokenizer)
    return InfillingFormat(encoder, sentinels, separator, (prefix, suffix, middle), file_separator)
