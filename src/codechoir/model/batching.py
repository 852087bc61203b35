"""The running batch: sequences of different lengths in one cache, that join once read and leave when they end.

Rows are flush right: padding is on the left and masked, positions count a row's own tokens. A batch knows its
sequences' routes: those routed by sequence (prompt, fixed, uniform) run side by side whatever their experts; routing by
token is another mode of the model's blocks, so its sequences are a batch of their own, and so is each group of prompts
while it is read.

transformers' `generate_batch` (5.23) is not used: it flattens all sequences into one row, (1, N), and hands the model
nothing that says which sequence a token is of, so no route by sequence can be kept.

Shapes: B sequences, T tokens of this pass, W tokens of the cache, V vocabulary, E experts.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch

from codechoir.model.decoding import Vocabulary
from codechoir.model.families import context_length
from codechoir.model.growing_cache import GrowingCache
from codechoir.model.moe import MoeForCausalLM, Route
from codechoir.model.requests import Abilities, Request
from codechoir.model.sequences import Progress, SequenceInProgress, advance, begin

MAX_LOGPROBS = 20


class RunningBatch:
    """Sequences that one forward pass advances. Made of prompts, which `read` feeds to the model first."""

    def __init__(self, model: Any, vocabulary: Vocabulary, sequences: Sequence[SequenceInProgress]) -> None:
        self._model, self._vocabulary = model, vocabulary
        self.sequences = list(sequences)
        self._cache = GrowingCache()
        longest = max(len(sequence.prompt) for sequence in sequences)
        prompts_BT = torch.full((len(sequences), longest), vocabulary.separator)
        for row, sequence in enumerate(sequences):
            prompts_BT[row, longest - len(sequence.prompt) :] = torch.tensor(sequence.prompt)
        self._unread_BT: torch.Tensor = prompts_BT.to(model.device)
        self._lengths_B = torch.tensor([len(sequence.prompt) for sequence in sequences], device=model.device) - longest
        self._route = self._routed(sequences)

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def num_unread(self) -> int:
        """Columns of the prompts that the model has not read."""
        return self._unread_BT.shape[1]

    def read(self, num_columns: int) -> list[Progress]:
        """Feeds the next columns of the prompts. With the last, each sequence gets its first token."""
        chunk_BT, self._unread_BT = self._unread_BT[:, :num_columns], self._unread_BT[:, num_columns:]
        logits_BV = self._forward(chunk_BT)
        return [] if self.num_unread else self._advance(logits_BV)

    def step(self) -> list[Progress]:
        """Feeds each sequence's last token and gets its next; those that end or fail leave the batch."""
        last_B1 = torch.tensor([[sequence.last] for sequence in self.sequences], device=self._model.device)
        return self._advance(self._forward(last_B1))

    def join(self, other: RunningBatch) -> None:
        """Takes all sequences of another batch that has read its prompts; nothing must use that one any more."""
        assert not self.num_unread and not other.num_unread
        if not self.sequences:
            self.__dict__.update(other.__dict__)
            return
        self._cache.join(other._cache)
        self.sequences += other.sequences
        self._lengths_B = torch.cat([self._lengths_B, other._lengths_B])
        if self._route is not None and other._route is not None:
            self._route.join(other._route)

    def drop(self, sequences: Sequence[SequenceInProgress]) -> None:
        """Frees these sequences' places. The last rows move up into them, so that few rows are copied."""
        gone = {id(sequence) for sequence in sequences}
        staying = [row for row, sequence in enumerate(self.sequences) if id(sequence) not in gone]
        if len(staying) == len(self.sequences):
            return
        movable = [row for row in staying if row >= len(staying)]
        rows = [row if id(self.sequences[row]) not in gone else movable.pop() for row in range(len(staying))]
        self.sequences = [self.sequences[row] for row in rows]
        kept = torch.tensor(rows, dtype=torch.long, device=self._lengths_B.device)
        self._lengths_B, self._unread_BT = self._lengths_B[kept], self._unread_BT[kept]
        if rows:
            # while prompts are read, rows hold as many columns as before
            width = self._cache.span.width if self.num_unread else int(self._lengths_B.max())
            self._cache.keep(rows, width)
            if self._route is not None:
                self._route.keep(kept)

    def shares(self) -> list[dict[str, float]]:
        """For each sequence: expert -> share of the routing decisions so far; empty for a dense model."""
        return [{} for _ in self.sequences] if self._route is None else self._route.shares(self._model.experts)

    def _routed(self, sequences: Sequence[SequenceInProgress]) -> Route | None:
        if not isinstance(self._model, MoeForCausalLM):
            return None
        route, first = copy.copy(self._model.route), sequences[0].route
        assert first.routing is not None
        route.routing, route.weights_BE, route.counts_BE, route.trace = first.routing, None, None, None
        if first.batch is None:
            weights = [sequence.route.weights_E for sequence in sequences if sequence.route.weights_E is not None]
            route.by_sequence(torch.stack(weights).to(self._model.device))
        else:
            route.counts_BE = torch.zeros(len(sequences), len(self._model.experts), device=self._model.device)
        return route

    def _forward(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        """Logits (B, V) of the last column, float32."""
        num_sequences, num_tokens = tokens_BT.shape
        self._cache.reserve(num_sequences, 0, num_tokens)
        self._lengths_B += num_tokens
        width = self._cache.span.width + num_tokens
        columns_W = torch.arange(width, device=tokens_BT.device)
        mask_BW = (columns_W >= (width - self._lengths_B)[:, None]).long()
        positions_BT = (self._lengths_B[:, None] - num_tokens + columns_W[:num_tokens]).clamp_min(0)
        if self._route is not None:
            traced = any(sequence.request.traced for sequence in self.sequences)
            self._route.trace = [] if traced else None
        with nullcontext() if self._route is None else self._model.route.led_by(self._route):
            out = self._model(
                tokens_BT,
                attention_mask=mask_BW,
                position_ids=positions_BT,
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
        self._cache.advance(num_sequences, num_tokens)
        logits_BV: torch.Tensor = out.logits[:, -1].float()
        return logits_BV

    def _advance(self, logits_BV: torch.Tensor) -> list[Progress]:
        """Each sequence's next token; the ended leave."""
        done = advance(self.sequences, logits_BV, self._vocabulary, self._traced())
        leaving = [progress.sequence for progress in done if progress.finish or progress.error]
        if leaving:
            shares = self.shares()
            done = [replace(progress, shares=shares[row]) for row, progress in enumerate(done)]
            self.drop(leaving)
        return done

    def _traced(self) -> list[tuple[str, ...]]:
        """For each sequence: the experts that the last column was routed to, layer by layer."""
        trace = self._route.trace if self._route is not None else None
        if not trace:
            return [()] * len(self.sequences)
        last_BL = torch.stack([chosen_N.view(len(self.sequences), -1)[:, -1] for chosen_N in trace], dim=1)
        return [tuple(self._model.experts[expert] for expert in row) for row in last_BL.tolist()]


class TransformersBackend:
    """A `Backend` over a model of transformers, dense or composed, and its tokenizer."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model, self.vocabulary = model, Vocabulary(tokenizer)
        config = getattr(model.config, "dense_config", model.config)
        composed = isinstance(model, MoeForCausalLM)
        self._routing = model.route.routing if composed else None  # read once: passes set the model's own for a while
        self.abilities = Abilities(
            experts=model.experts if composed else (),
            routings=("prompt", "token") if composed else (),
            context=context_length(config) or 2**31,
            vocabulary=model.get_input_embeddings().num_embeddings,
            traces=composed,
            max_logprobs=MAX_LOGPROBS,
        )

    def begin(self, request: Request) -> SequenceInProgress:
        """As `sequences.begin`."""
        return begin(request, self.vocabulary, self._model, self._routing)

    def batch(self, sequences: Sequence[SequenceInProgress]) -> RunningBatch:
        """Sequences to be read together."""
        return RunningBatch(self._model, self.vocabulary, sequences)
