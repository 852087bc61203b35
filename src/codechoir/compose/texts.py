"""The text that routers are fitted on: one language's training documents as token sequences, and as prompts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

import torch

from codechoir.compose.config import ComposeConfig
from codechoir.documents import Text, in_turn, read_texts
from codechoir.errors import InputError
from codechoir.model.checkpoint import separator_id
from codechoir.model.encoding import TextEncoder
from codechoir.model.families import check_length


@dataclass(frozen=True, slots=True)
class RouterTexts:
    """One language's text for the routers: (N, T) token ids, and whole documents."""

    fit: torch.Tensor
    calibration: torch.Tensor
    prompts: list[Text]

    @classmethod
    def read(cls, documents: Path, language: str, tokenizer: Any, config: ComposeConfig) -> Self:
        """Reads curate's documents of a language. Raises InputError where they are too few."""
        texts = read_texts(documents, language, "train")
        random.Random(config.seed).shuffle(texts)
        texts = in_turn(texts)  # no large package speaks for its language
        prompts = texts[: config.prompt_documents]
        wanted = config.fit_sequences + config.calibration_sequences
        sequences = list(islice(sequences_of(texts, tokenizer, config.sequence_length), wanted))
        if len(sequences) < 2 or len(prompts) < 5:
            raise InputError(
                "too little text to fit routers on",
                seen=f"{language}: {len(prompts)} documents, {len(sequences)} sequences of {config.sequence_length}",
                allowed="at least 5 documents and 2 sequences",
                next_step="curate more, or lower compose.sequence_length",
            )
        num_fit = min(config.fit_sequences, len(sequences) - 1)
        return cls(torch.stack(sequences[:num_fit]), torch.stack(sequences[num_fit:]), prompts)


def check_lengths(config: ComposeConfig, context: int | None, *, is_fitted: bool) -> None:
    """Raises ConfigError where a model with positions for `context` tokens has none for what fit or proofs read."""
    if is_fitted:
        check_length("compose.sequence_length", config.sequence_length, context)
    elif config.prove:
        check_length("compose.proof_tokens", config.proof_tokens, context)


def first_tokens(texts: list[Text], tokenizer: Any, prefix_tokens: int) -> list[torch.Tensor]:
    """Each document's first tokens, at most so many; documents without a token are left out."""
    encoder = TextEncoder(tokenizer)
    ids = [encoder.encode_start(text.content, prefix_tokens)[0] for text in texts]
    return [torch.tensor(document) for document in ids if document]


def sequences_of(texts: list[Text], tokenizer: Any, length: int) -> Iterator[torch.Tensor]:
    """At most one sequence a document, so that many documents are seen; short documents are joined.

    No document is in two sequences. Each is (`length`) token ids, drawn by the last document's key from all over the
    text: files begin with licences and imports, and routers are to send what follows as well. A document begins with
    the separator.
    """
    separator, encoder = separator_id(tokenizer), TextEncoder(tokenizer)
    rest: list[int] = []
    for text in texts:
        rest += [separator, *encoder.encode(text.content)]
        if len(rest) >= length:
            start = random.Random(text.key).randrange(len(rest) - length + 1)
            yield torch.tensor(rest[start : start + length])
            rest = []
