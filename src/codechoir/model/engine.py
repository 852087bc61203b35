"""Completions and log-likelihoods from a causal LM, dense or composed.

Knows tokens, batches, stops and seeds; nothing of problems, languages or files. Requests are sorted by length and
batched; a finished sequence leaves its batch at once. A sampled sequence draws from a generator of its own, so its seed
fixes its draws whatever else is in the batch.

A prompt that ends in white space ends inside what tokenizers make one token (a line's end and the next line's
indentation), and a model asked to go on from there is lost. So its last token is taken back, and the first new token
must begin with it (token healing).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from codechoir.model.batching import RunningBatch
from codechoir.model.decoding import Vocabulary
from codechoir.model.encoding import TextEncoder
from codechoir.model.families import context_length
from codechoir.model.moe import MoeForCausalLM
from codechoir.model.requests import Output, Request, room_after
from codechoir.model.sequences import SequenceInProgress, begin

__all__ = ["Engine", "Likelihood", "Output", "Request"]


@dataclass(frozen=True, slots=True)
class Likelihood:
    """A text's log-likelihood in nats, over the `num_bytes` bytes (whole characters) that its first tokens cover."""

    log_likelihood: float
    num_tokens: int
    num_bytes: int
    route: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Beginning:
    """A text's first tokens, and how many bytes of it they cover."""

    tokens: list[int]
    num_bytes: int


class Engine:
    """A model and its tokenizer, ready to be asked. Counts tokens and seconds for throughput."""

    def __init__(self, model: Any, tokenizer: Any, batch_size: int) -> None:
        self._model, self._tokenizer, self._batch_size = model, tokenizer, batch_size
        self._vocabulary = Vocabulary(tokenizer)
        self._encoder: TextEncoder | None = None  # made when a text is scored
        self._context = context_length(getattr(model.config, "dense_config", model.config)) or 2**31
        self.seconds = 0.0
        self.num_tokens = 0

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens generated or scored a second so far; None before the first."""
        return round(self.num_tokens / self.seconds, 1) if self.num_tokens else None

    @torch.no_grad()
    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Output]]:
        """Yields (index of the request, output), batch by batch, longest prompts first."""
        sequences = [self._begun(request) for request in requests]
        order = sorted(range(len(sequences)), key=lambda index: -len(sequences[index].prompt))
        for start in range(0, len(order), self._batch_size):
            chosen = order[start : start + self._batch_size]
            began = time.monotonic()
            done = list(self._complete_batch({sequences[index]: index for index in chosen}))
            self.seconds += time.monotonic() - began
            self.num_tokens += sum(output.num_tokens for _, output in done)
            yield from done

    @torch.no_grad()
    def log_likelihoods(
        self, texts: Sequence[str], max_tokens: int, experts: Sequence[str] | None = None
    ) -> Iterator[tuple[int, Likelihood]]:
        """Yields (index of the text, likelihood) of each text's first `max_tokens` tokens, given the separator token.

        `experts` is for fixed routing alone. An empty text has likelihood 1. Text is read as training reads it: what it
        spells of control tokens are no such tokens.
        """
        beginnings = [self._beginning(text, max_tokens) for text in texts]
        order = sorted(range(len(texts)), key=lambda index: -len(beginnings[index].tokens))
        for start in range(0, len(order), self._batch_size):
            chosen = order[start : start + self._batch_size]
            began = time.monotonic()
            done = self._score_batch([beginnings[i] for i in chosen], experts and [experts[i] for i in chosen])
            self.seconds += time.monotonic() - began
            self.num_tokens += sum(likelihood.num_tokens for likelihood in done)
            yield from zip(chosen, done, strict=True)

    def _begun(self, request: Request) -> SequenceInProgress:
        """A request with as many tokens as its model has positions for. Raises InputError: its prompt fills them."""
        sequence = begin(request, self._vocabulary, self._model)
        sequence.max_tokens = min(request.max_tokens, room_after(len(sequence.prompt), self._context))
        return sequence

    def _beginning(self, text: str, max_tokens: int) -> _Beginning:
        """The text's first tokens, without those of a character that the limit cuts in two."""
        self._encoder = self._encoder or TextEncoder(self._tokenizer)
        tokens, kept = self._encoder.encode_start(text, max_tokens)
        if kept == text:
            return _Beginning(tokens, len(text.encode()))
        while (covered := self._vocabulary.decode(tokens)).endswith("\ufffd") and not text.startswith(covered):
            tokens.pop()
        return _Beginning(tokens, len(covered.encode()))

    def _score_batch(self, texts: Sequence[_Beginning], experts: Sequence[str] | None) -> list[Likelihood]:
        longest = max(len(text.tokens) for text in texts)
        tokens_BT = torch.full((len(texts), longest + 1), self._vocabulary.separator, device=self._model.device)
        mask_BT = torch.zeros_like(tokens_BT)
        for row, text in enumerate(texts):
            tokens_BT[row, 1 : len(text.tokens) + 1] = torch.tensor(text.tokens, dtype=torch.long)
            mask_BT[row, : len(text.tokens) + 1] = 1
        self._fix_routes(experts)
        padding = None if bool(mask_BT.all()) else mask_BT  # attention without a mask is faster
        logits_BTV = self._model(tokens_BT, attention_mask=padding, use_cache=False).logits
        routes = self._routes(len(texts))
        done = []
        for row, text in enumerate(texts):
            num_tokens = len(text.tokens)
            # one row at a time: float32 logits of a whole batch would be the largest thing in memory
            losses = functional.cross_entropy(
                logits_BTV[row, :num_tokens].float(), tokens_BT[row, 1 : num_tokens + 1], reduction="sum"
            )
            done.append(Likelihood(-float(losses), num_tokens, text.num_bytes, routes[row]))
        return done

    def _complete_batch(self, sequences: Mapping[SequenceInProgress, int]) -> Iterator[tuple[int, Output]]:
        """Reads all prompts in one pass, then one token a sequence and step."""
        texts = dict.fromkeys(sequences, "")
        batch = RunningBatch(self._model, self._vocabulary, list(sequences))
        steps = batch.read(batch.num_unread)
        while steps:
            for progress in steps:
                sequence = progress.sequence
                if progress.error is not None:
                    raise progress.error
                texts[sequence] += progress.text
                if progress.finish is not None:
                    route = progress.shares or {}
                    yield sequences[sequence], Output(texts[sequence], progress.finish, sequence.num_new, route)
            steps = batch.step() if len(batch) else []

    def _fix_routes(self, experts: Sequence[str] | None) -> None:
        if experts is not None and isinstance(self._model, MoeForCausalLM):
            self._model.fix_routes(experts)

    def _routes(self, num_sequences: int) -> list[dict[str, float]]:
        return self._model.shares() if isinstance(self._model, MoeForCausalLM) else [{}] * num_sequences
