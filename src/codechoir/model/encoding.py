"""Turns text into tokens as text alone: what a document says is never read as a control token.

In: a fast tokenizer of transformers. Out: token ids, without any that the tokenizer would add. A document that holds
`<|endoftext|>` or an infilling sentinel is split into ordinary tokens there, so that no file can end itself or pose
as an infilling. Knows nothing of documents or sequences.
"""

from __future__ import annotations

import json
import re
from typing import Any

from codechoir.errors import InputError

_CHARACTERS = 8  # enough for most tokens
_CLEAR_WORDS = 8  # a run of blanks and line ends at a cut may be parted otherwise, which is two
_CONTROL = re.compile(r"<[|｜].*[|｜]>|▁?<(PRE|SUF|MID|EOT)>")


class TextEncoder:
    """Encodes text with a tokenizer's own rules, its control tokens left aside.

    A control token is one that the tokenizer calls special, or one of the form `<|...|>`, which Qwen2.5 does not call
    so. Other added tokens (Phi-2's runs of blanks, Gemma's HTML tags) stand for text and stay.
    """

    def __init__(self, tokenizer: Any) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise InputError(
                "the tokenizer is not one of the tokenizers library",
                seen=type(tokenizer).__name__,
                allowed="a folder with tokenizer.json",
            )
        settings = json.loads(backend.to_str())
        for token in settings["added_tokens"]:
            token["special"] = token["special"] or _CONTROL.fullmatch(token["content"]) is not None
        self.vocabulary = max(tokenizer.get_vocab().values()) + 1  # all ids are below it
        settings |= {"truncation": None, "padding": None}
        self._text = _built(settings)
        self._inner = _built(_without_leading_blank(settings))

    def encode(self, text: str) -> list[int]:
        """The tokens of a text."""
        ids: list[int] = self._text.encode(text, add_special_tokens=False).ids
        return ids

    def encode_inner(self, text: str) -> list[int]:
        """The tokens of a text that goes on from another: without the blank that SentencePiece's models put first.

        As Code Llama encodes an infilling's suffix and middle (Rozière et al. 2023, section 2.3).
        """
        ids: list[int] = self._inner.encode(text, add_special_tokens=False).ids
        return ids

    def encode_start(self, text: str, num_tokens: int) -> tuple[list[int], str]:
        """The first tokens of a text, and the whole characters that they stand for.

        Of a long text no more is encoded than these need: enough that they lie clear of where it was left off.
        """
        size = _CHARACTERS * (num_tokens + 1)
        while True:
            encoding = self._text.encode(text[:size], add_special_tokens=False)
            ids: list[int] = encoding.ids
            if size < len(text) and (len(ids) <= num_tokens or not _is_clear(encoding.word_ids, num_tokens)):
                size *= 4
            elif len(ids) <= num_tokens:
                return ids, text
            else:
                return ids[:num_tokens], text[: encoding.offsets[num_tokens][0]]


def _is_clear(words: list[int | None], token: int) -> bool:
    """Whether so many words follow a token that nothing after them changes it.

    Words are encoded apart from each other, and where one ends the characters next to it say. A tokenizer that makes
    no words, as SentencePiece's, takes a text as one.
    """
    last = words[-1]
    word = words[token]
    return word is not None and last is not None and last - word >= _CLEAR_WORDS


def _built(settings: dict[str, Any]) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(json.dumps(settings))
    tokenizer.encode_special_tokens = True  # as text: this is the library's word for not looking for them
    return tokenizer


def _without_leading_blank(part: Any) -> Any:
    """The settings without the steps that put a blank before a text."""
    if isinstance(part, list):
        return [_without_leading_blank(each) for each in part]
    if not isinstance(part, dict):
        return part
    if part.get("type") == "Prepend":
        return {"type": "Sequence", "normalizers": []}
    off = {"prepend_scheme": "never", "add_prefix_space": False}
    return {
        name: off[name] if name in off else each if name == "model" else _without_leading_blank(each)
        for name, each in part.items()
    }
