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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch.nn import functional

from codechoir.model.checkpoint import separator_id
from codechoir.model.moe import MoeForCausalLM

Finish = Literal["stop", "end", "length"]


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt to complete. `expert` is for fixed routing alone."""

    prompt: str
    stop: tuple[str, ...]
    max_tokens: int
    temperature: float = 0.0  # 0 is greedy
    top_p: float = 1.0
    seed: int = 0
    expert: str | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """What came after a prompt, the stop string not included."""

    text: str
    finish: Finish
    num_tokens: int
    route: dict[str, float]


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


@dataclass(slots=True)
class _Sequence:
    """A request in progress."""

    index: int
    request: Request
    prompt: list[int]
    generator: torch.Generator
    healed: int | None = None  # the token taken back from the prompt's end
    tokens: list[int] = field(default_factory=list)

    @property
    def num_new(self) -> int:
        """Tokens generated, one that only gives back what was taken not counted."""
        return len(self.tokens) - (bool(self.tokens) and self.tokens[0] == self.healed)


class Engine:
    """A model and its tokenizer, ready to be asked. Counts tokens and seconds for throughput."""

    def __init__(self, model: Any, tokenizer: Any, batch_size: int) -> None:
        self._model, self._tokenizer, self._batch_size = model, tokenizer, batch_size
        self._separator = separator_id(tokenizer)
        self._ends = {self._separator, tokenizer.eos_token_id}
        self._barred: dict[int, torch.Tensor] = {}  # healed token -> tokens (V) that do not begin with it
        self.seconds = 0.0
        self.num_tokens = 0

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens generated or scored a second so far; None before the first."""
        return round(self.num_tokens / self.seconds, 1) if self.num_tokens else None

    @torch.no_grad()
    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Output]]:
        """Yields (index of the request, output), batch by batch, longest prompts first."""
        sequences = [self._sequence(index, request) for index, request in enumerate(requests)]
        sequences.sort(key=lambda sequence: -len(sequence.prompt))
        for start in range(0, len(sequences), self._batch_size):
            began = time.monotonic()
            done = list(self._complete_batch(sequences[start : start + self._batch_size]))
            self.seconds += time.monotonic() - began
            self.num_tokens += sum(output.num_tokens for _, output in done)
            yield from done

    @torch.no_grad()
    def log_likelihoods(
        self, texts: Sequence[str], max_tokens: int, experts: Sequence[str] | None = None
    ) -> Iterator[tuple[int, Likelihood]]:
        """Yields (index of the text, likelihood) of each text's first `max_tokens` tokens, given the separator token.

        `experts` is for fixed routing alone. An empty text has likelihood 1.
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

    def _sequence(self, index: int, request: Request) -> _Sequence:
        tokens = self._encode(request.prompt)
        healed = tokens.pop() if tokens and self._decode(tokens[-1:]).isspace() else None
        return _Sequence(index, request, tokens, _generator(request.seed), healed)

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def _decode(self, tokens: list[int], skip_special: bool = False) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=skip_special, clean_up_tokenization_spaces=False)
        return text

    def _beginning(self, text: str, max_tokens: int) -> _Beginning:
        """The text's first tokens, without those of a character that the limit cuts in two."""
        tokens = self._encode(text)
        if len(tokens) <= max_tokens:
            return _Beginning(tokens, len(text.encode()))
        tokens = tokens[:max_tokens]
        while (covered := self._decode(tokens)).endswith("\ufffd") and not text.startswith(covered):
            tokens.pop()
        return _Beginning(tokens, len(covered.encode()))

    def _score_batch(self, texts: Sequence[_Beginning], experts: Sequence[str] | None) -> list[Likelihood]:
        longest = max(len(text.tokens) for text in texts)
        tokens_BT = torch.full((len(texts), longest + 1), self._separator, device=self._model.device)
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

    def _complete_batch(self, batch: list[_Sequence]) -> Iterator[tuple[int, Output]]:
        """Prefill with padding on the left, then one token a sequence and step; finished rows are dropped."""
        longest = max(len(sequence.prompt) for sequence in batch) + 1
        tokens_BT = torch.full((len(batch), longest), self._separator, device=self._model.device)
        mask_BT = torch.zeros_like(tokens_BT)
        for row, sequence in enumerate(batch):
            tokens_BT[row, longest - len(sequence.prompt) :] = torch.tensor(sequence.prompt, dtype=torch.long)
            mask_BT[row, longest - len(sequence.prompt) - 1 :] = 1
        positions_BT = (mask_BT.cumsum(dim=1) - 1).clamp_min(0)
        experts = [sequence.request.expert for sequence in batch]
        self._fix_routes([expert for expert in experts if expert is not None] or None)
        cache = None
        while batch:
            out = self._model(
                tokens_BT,
                attention_mask=mask_BT,
                position_ids=positions_BT,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = out.past_key_values
            logits_BV = out.logits[:, -1].float()
            kept = []
            for row, sequence in enumerate(batch):
                logits_V = logits_BV[row]
                if sequence.healed is not None and not sequence.tokens:
                    logits_V = logits_V.masked_fill(self._not_beginning_with(sequence.healed, logits_V), float("-inf"))
                sequence.tokens.append(_draw(logits_V, sequence))
                finished = self._finished(sequence)
                if finished is None:
                    kept.append(row)
                else:
                    text, finish = finished
                    route = self._routes(len(batch))[row]
                    yield sequence.index, Output(text, finish, sequence.num_new, route)
            if len(kept) < len(batch):
                rows = torch.tensor(kept, dtype=torch.long, device=tokens_BT.device)
                batch, mask_BT, positions_BT = [batch[row] for row in kept], mask_BT[rows], positions_BT[rows]
                if batch:
                    cache.batch_select_indices(rows)
                    if isinstance(self._model, MoeForCausalLM):
                        self._model.keep(rows)
            if batch:
                last = [[sequence.tokens[-1]] for sequence in batch]
                tokens_BT = torch.tensor(last, device=self._model.device)
                mask_BT = functional.pad(mask_BT, (0, 1), value=1)
                positions_BT = positions_BT[:, -1:] + 1

    def _finished(self, sequence: _Sequence) -> tuple[str, Finish] | None:
        """The final text and why it ended, or None while it goes on."""
        ended = sequence.tokens[-1] in self._ends
        tokens = sequence.tokens[:-1] if ended else sequence.tokens
        text = self._decode(tokens, skip_special=True)
        if sequence.healed is not None:
            text = text[len(self._decode([sequence.healed])) :]
        places = [place for place in map(text.find, sequence.request.stop) if place >= 0]
        if places:
            return text[: min(places)], "stop"
        if ended:
            return text, "end"
        return (text, "length") if sequence.num_new >= sequence.request.max_tokens else None

    def _not_beginning_with(self, token: int, logits_V: torch.Tensor) -> torch.Tensor:
        """Which tokens do not begin with the text of `token`; bool, shaped and placed as `logits_V`."""
        if token not in self._barred:
            pieces = self._tokenizer.convert_ids_to_tokens(range(min(len(logits_V), len(self._tokenizer))))
            start = pieces[token]
            barred = [piece is None or not piece.startswith(start) for piece in pieces]
            barred += [True] * (len(logits_V) - len(barred))
            self._barred[token] = torch.tensor(barred, device=logits_V.device)
        return self._barred[token]

    def _fix_routes(self, experts: Sequence[str] | None) -> None:
        if experts is not None and isinstance(self._model, MoeForCausalLM):
            self._model.fix_routes(experts)

    def _routes(self, num_sequences: int) -> list[dict[str, float]]:
        return self._model.shares() if isinstance(self._model, MoeForCausalLM) else [{}] * num_sequences


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _draw(logits_V: torch.Tensor, sequence: _Sequence) -> int:
    """The next token: greedy at temperature 0, else from the smallest set of tokens with probability `top_p`."""
    request = sequence.request
    if request.temperature == 0:
        return int(logits_V.argmax())
    probabilities_V, order_V = torch.softmax(logits_V.cpu() / request.temperature, dim=-1).sort(descending=True)
    before_V = probabilities_V.cumsum(dim=-1) - probabilities_V
    probabilities_V = probabilities_V.masked_fill(before_V >= request.top_p, 0)
    return int(order_V[torch.multinomial(probabilities_V, 1, generator=sequence.generator)])
