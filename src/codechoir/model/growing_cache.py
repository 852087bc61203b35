"""The keys and values of a batch that sequences join and leave, with room to grow.

transformers' DynamicCache copies all it holds whenever a token comes or a sequence goes. Here rows lie flush right
between two columns that all layers share (`Span`): a token is written behind them, a sequence that joins is written in
front of the same end, one that leaves has its row taken by the last. Only when room runs out is everything copied, into
twice the room. Layers with a sliding window keep all tokens, and the model's own mask hides those out of the window.

Shapes: B sequences, H key heads, T tokens, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

_SPARE = 128  # columns of room at least, whenever it is made


class Span:
    """Which part of the layers' room is in use: rows 0 to `rows`, columns `start` to `end`."""

    def __init__(self) -> None:
        self.rows = self.start = self.end = 0

    @property
    def width(self) -> int:
        """Tokens of the longest sequence."""
        return self.end - self.start


class GrowingLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's keys and values."""

    is_sliding = False

    def __init__(self, span: Span) -> None:
        super().__init__()
        self.span = span

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Makes room for the first tokens; the span has no columns yet."""
        rows, columns = len(key_states), self.span.end + key_states.shape[-2] + _SPARE
        self.keys, self.values = (_room(states, rows, columns) for states in (key_states, value_states))
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes the tokens behind the span, which the cache advances after the forward pass; (B, H, T, D) in all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        rows, end = len(key_states), self.span.end + key_states.shape[-2]
        self.keys[:rows, :, self.span.end : end] = key_states
        self.values[:rows, :, self.span.end : end] = value_states
        return self.keys[:rows, :, self.span.start : end], self.values[:rows, :, self.span.start : end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of what attention sees."""
        return self.span.width + query_length, 0

    def get_seq_length(self) -> int:
        """Tokens held, padding included."""
        return self.span.width

    def get_max_length(self) -> int:
        """No bound."""
        return -1


class GrowingCache(Cache):  # type: ignore[misc]
    """All layers of a batch. After each forward pass the owner calls `advance`."""

    def __init__(self) -> None:
        self.span = Span()
        super().__init__(layer_class_to_replicate=lambda: GrowingLayer(self.span))

    def advance(self, rows: int, tokens: int) -> None:
        """Takes what a forward pass wrote into the span."""
        self.span.rows, self.span.end = rows, self.span.end + tokens

    def reserve(self, rows: int, before: int, after: int) -> None:
        """Makes sure of room for `rows` sequences, `before` columns in front of the span and `after` behind it."""
        span = self.span
        if not self.layers:
            return
        num_rows, _, num_columns, _ = self.layers[0].keys.shape
        if rows <= num_rows and span.start >= before and span.end + after <= num_columns:
            return
        spare = max(span.width + before + after, _SPARE)
        room = max(rows, num_rows if rows <= num_rows else min(2 * num_rows, rows + 8))
        start = before + spare // 2
        for layer in self.layers:
            layer.keys, layer.values = (
                _moved(states, span, room, start, start + span.width + after + spare)
                for states in (layer.keys, layer.values)
            )
        span.start, span.end = start, start + span.width

    def join(self, other: GrowingCache) -> None:
        """Puts the sequences of `other` below those held, ends flush."""
        span, width, rows = self.span, other.span.width, other.span.rows
        self.reserve(span.rows + rows, max(0, width - span.width), 1)
        for layer, joining in zip(self.layers, other.layers, strict=True):
            for states, more in ((layer.keys, joining.keys), (layer.values, joining.values)):
                columns = slice(other.span.start, other.span.end)
                states[span.rows : span.rows + rows, :, span.end - width : span.end] = more[:rows, :, columns]
        span.rows += rows
        span.start = min(span.start, span.end - width)

    def keep(self, rows: Sequence[int], width: int) -> None:
        """Row i becomes row `rows[i]`, which are distinct; columns but the last `width` are let go.

        Rows that stay where they are cost nothing.
        """
        moved = [(new, old) for new, old in enumerate(rows) if new != old]
        span = self.span
        columns = slice(span.end - width, span.end)
        if moved:
            new, old = (torch.tensor(places) for places in zip(*moved, strict=True))
            for layer in self.layers:
                for states in (layer.keys, layer.values):
                    places = new.to(states.device), old.to(states.device)
                    states[places[0], :, columns] = states[places[1], :, columns]
        span.rows, span.start = len(rows), span.end - width


@torch.no_grad()
def token_bytes(model: Any) -> int:
    """How many bytes a token's keys and values take in a model's cache."""
    ids_BT = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    layers = model(input_ids=ids_BT, use_cache=True).past_key_values.layers
    return sum(int(layer.keys.nbytes + layer.values.nbytes) for layer in layers)


def _room(states: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Zeros: attention multiplies what it masks by 0, so it must be finite."""
    return states.new_zeros(rows, states.shape[1], columns, states.shape[-1])


def _moved(states: torch.Tensor, span: Span, rows: int, start: int, columns: int) -> torch.Tensor:
    room = _room(states, rows, columns)
    room[: span.rows, :, start : start + span.width] = states[: span.rows, :, span.start : span.end]
    return room
