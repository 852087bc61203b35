"""From generated tokens to text, as they come: whole characters, stop strings, healed beginnings.

Owns a tokenizer's two directions as engines need them. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from codechoir.model.checkpoint import separator_id
from codechoir.model.infilling_tokens import find_sentinels

_UNKNOWN = "\ufffd"
_MAX_CUT = 3  # bytes of a character that is not yet whole, each a token at least
_WINDOW = 16  # tokens that are decoded anew each step, at most, while characters are whole


class Vocabulary:
    """A model's tokenizer, and what an engine must know of its tokens."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.separator: int = separator_id(tokenizer)
        self.ends: frozenset[int | None] = frozenset({self.separator, tokenizer.eos_token_id})
        if sentinels := find_sentinels(tokenizer):  # some families end an infilled middle with a token of its own
            self.ends |= {sentinels.end}
        self._barred: dict[int, torch.Tensor] = {}  # healed token -> tokens (V) that do not begin with it

    def encode(self, text: str) -> list[int]:
        """A text's tokens, nothing put before them; special tokens that it spells out are those tokens."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def decode(self, tokens: Sequence[int], skip_special: bool = False) -> str:
        """The text of tokens."""
        text: str = self._tokenizer.decode(
            list(tokens), skip_special_tokens=skip_special, clean_up_tokenization_spaces=False
        )
        return text

    def token_id(self, piece: str) -> int | None:
        """The id of a token by the vocabulary's own spelling, such as an infilling token's; None where it lacks it."""
        found: int | None = self._tokenizer.get_vocab().get(piece)
        return found

    def heal(self, tokens: list[int]) -> int | None:
        """Takes the last token back where it is white space (see engine.py), and returns it."""
        return tokens.pop() if tokens and self.decode(tokens[-1:]).isspace() else None

    def not_beginning_with(self, token: int, logits_V: torch.Tensor) -> torch.Tensor:
        """Which tokens do not begin with the text of `token`; bool, shaped and placed as `logits_V`."""
        if token not in self._barred:
            pieces = self._tokenizer.convert_ids_to_tokens(range(min(len(logits_V), len(self._tokenizer))))
            start = pieces[token]
            barred = [piece is None or not piece.startswith(start) for piece in pieces]
            barred += [True] * (len(logits_V) - len(barred))
            self._barred[token] = torch.tensor(barred, device=logits_V.device)
        return self._barred[token]


class Detokenizer:
    """Decodes a growing sequence of tokens: each step costs a few tokens, not all of them."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._window: list[int] = []  # the last tokens, decoded anew each step
        self._text = ""  # the window's text
        self._given = 0  # how many of its characters are given out
        self._num_cut = 0  # tokens since its last character was whole

    def add(self, token: int) -> str:
        """The characters that `token` made whole."""
        self._window.append(token)
        self._text = self._vocabulary.decode(self._window, skip_special=True)
        self._num_cut = self._num_cut + 1 if self._text.endswith(_UNKNOWN) else 0
        # a tokenizer shows a cut character as one U+FFFD, or as one for each byte of the run of bytes that it is in
        held = _MAX_CUT if self._num_cut > _MAX_CUT else len(self._text)
        whole = len(self._text)
        while whole > self._given and len(self._text) - whole < held and self._text[whole - 1] == _UNKNOWN:
            whole -= 1
        new = self._text[self._given : whole]
        self._given = max(self._given, whole)
        if len(self._window) > _WINDOW and self._given == len(self._text):
            self._shorten()
        return new

    def rest(self) -> str:
        """What is left in the end: characters that were never made whole, as U+FFFD."""
        rest, self._given = self._text[self._given :], len(self._text)
        return rest

    def _shorten(self) -> None:
        """Keeps half the window: enough before the next token for decoders that look at its left neighbour."""
        kept = self._window[-_WINDOW // 2 :]
        text = self._vocabulary.decode(kept, skip_special=True)
        if self._text.endswith(text) and not text.startswith(_UNKNOWN):  # not cut within a character
            self._window, self._text, self._given = kept, text, len(text)


class StopFinder:
    """Passes text on up to the first stop string, and holds back what may still become one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def add(self, text: str) -> tuple[str, bool]:
        """The text that may be shown, and whether a stop string ends it."""
        held = self._held + text
        places = [place for place in map(held.find, self._stops) if place >= 0]
        if places:
            self._held = ""
            return held[: min(places)], True
        begun = max((_overlap(held, stop) for stop in self._stops), default=0)
        shown = len(held) - begun
        self._held = held[shown:]
        return held[:shown], False

    def rest(self) -> str:
        """What was held back, once nothing can follow."""
        rest, self._held = self._held, ""
        return rest


def _overlap(text: str, stop: str) -> int:
    """The length of the longest beginning of `stop`, short of all of it, that `text` ends in."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)


class TextStream:
    """A request's text from its tokens: detokenised, what was healed taken off, cut at stop strings."""

    def __init__(self, vocabulary: Vocabulary, stops: Sequence[str], healed: int | None) -> None:
        self._detokenizer, self._stops = Detokenizer(vocabulary), StopFinder(stops)
        self._skipped = 0 if healed is None else len(vocabulary.decode([healed]))

    def add(self, token: int) -> tuple[str, bool]:
        """The new text that may be shown, and whether a stop string ends it."""
        return self._stops.add(self._unhealed(self._detokenizer.add(token)))

    def rest(self) -> tuple[str, bool]:
        """The text still held once the last token has come, and whether a stop string cut it."""
        text, stopped = self._stops.add(self._unhealed(self._detokenizer.rest()))
        return (text, True) if stopped else (text + self._stops.rest(), False)

    def _unhealed(self, text: str) -> str:
        skipped = min(self._skipped, len(text))
        self._skipped -= skipped
        return text[skipped:]
