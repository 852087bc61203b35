"""Causal attention inside each of several documents that lie one after the other, on a CPU.

In: queries, keys, values and where documents end in the B sequences laid end to end. Out: what attention with a mask
gives, without the arithmetic that the mask throws away. torch's own attention of variable lengths runs on GPUs alone;
this calls its flash attention for CPUs, document by document. One operation to torch's compiler. Shapes: B sequences of
T tokens, H heads, K heads of keys and values (H is a multiple), D per head, N documents.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import library
from torch.nn import functional

from codechoir.model.device import SHAPE_STEP

_FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_FLASH_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
_NO_DROPOUT = 0.0


def document_attention(
    query_BHTD: torch.Tensor,
    key_BKTD: torch.Tensor,
    value_BKTD: torch.Tensor,
    ends: torch.Tensor,
    scale: float | None,
    window: int | None,
) -> torch.Tensor:
    """(B, H, T, D). `ends`: N + 1 offsets, of the documents' beginnings and the last one's end; each in one sequence.

    `scale`: of the scores, by default one over the root of D. `window`: a token sees so many, itself the last.
    """
    out_BHTD: torch.Tensor
    out_BHTD, _ = _attention(query_BHTD, key_BKTD, value_BKTD, ends, scale, window or 0)
    return out_BHTD


@library.custom_op("codechoir::document_attention", mutates_args=(), device_types="cpu")
def _attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, ends: torch.Tensor, scale: float | None, window: int
) -> tuple[torch.Tensor, torch.Tensor]:
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    logsumexp_BTH = query.new_empty(_sums_shape(query), dtype=_sums_dtype(query))
    for place in _places(ends, query.shape[2]):
        query_1HPD, key_1KPD, value_1KPD = (_padded(each[place]) for each in (query, key, value))
        mask, length = _mask(query_1HPD, window), out[place].shape[2]
        keys_and_values = (_for_each_query(each, query) for each in (key_1KPD, value_1KPD))
        found_1HPD, found_1HP = _FLASH(
            query_1HPD, *keys_and_values, _NO_DROPOUT, mask is None, attn_mask=mask, scale=scale
        )
        out[place] = found_1HPD[:, :, :length]
        logsumexp_BTH[place[0], place[2]] = found_1HP.transpose(1, 2)[:, :length]
    return out, logsumexp_BTH


@_attention.register_fake
def _(query: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    return out, query.new_empty(_sums_shape(query), dtype=_sums_dtype(query))


@library.custom_op("codechoir::document_attention_backward", mutates_args=(), device_types="cpu")
def _attention_backward(
    gradient: torch.Tensor,
    saved: list[torch.Tensor],
    ends: torch.Tensor,
    scale: float | None,
    window: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    query, key, value, out, logsumexp_BTH = saved
    gradients = [torch.empty_like(each, memory_format=torch.contiguous_format) for each in (query, key, value)]
    for place in _places(ends, query.shape[2]):
        # Nothing that is padded has a gradient: where the gradient of the output is 0, so are a query's own and what it
        # gives to keys and values, and no query of the document sees a key after it.
        parts = [_padded(each[place]) for each in (gradient, query, key, value, out)]
        parts[2:4] = [_for_each_query(each, query) for each in parts[2:4]]
        mask, length = _mask(parts[0], window), gradient[place].shape[2]
        logsumexp_1HP = _padded(logsumexp_BTH[place[0], place[2]]).transpose(1, 2)
        found = _FLASH_BACKWARD(*parts, logsumexp_1HP, _NO_DROPOUT, mask is None, attn_mask=mask, scale=scale)
        for whole, part in zip(gradients, found, strict=True):
            whole[place] = part[:, :, :length].unflatten(1, (whole.shape[1], -1)).sum(2)
    of_query, of_key, of_value = gradients
    return of_query, of_key, of_value


@_attention_backward.register_fake
def _(_gradient: torch.Tensor, saved: list[torch.Tensor], *_: Any) -> tuple[torch.Tensor, ...]:
    return tuple(torch.empty_like(each, memory_format=torch.contiguous_format) for each in saved[:3])


def _remember(ctx: Any, inputs: Any, output: Any) -> None:
    query, key, value, ends, ctx.scale, ctx.window = inputs
    ctx.save_for_backward(query, key, value, *output, ends)


def _differentiate(ctx: Any, gradient: torch.Tensor, _: torch.Tensor) -> Any:
    *saved, ends = ctx.saved_tensors
    return *_attention_backward(gradient, saved, ends, ctx.scale, ctx.window), None, None, None


_attention.register_autograd(_differentiate, setup_context=_remember)


def _sums_shape(query: torch.Tensor) -> tuple[int, int, int]:
    """Of the logarithms of the scores' sums, which torch lays out (B, T, H)."""
    size, heads, length, _ = query.shape
    return size, length, heads


def _sums_dtype(query: torch.Tensor) -> torch.dtype:
    return torch.float64 if query.dtype == torch.float64 else torch.float32


def _places(ends: torch.Tensor, length: int) -> Iterator[tuple[slice, slice, slice]]:
    """Each document as an index of (B, H, T, D)."""
    offsets = ends.tolist()
    for start, stop in pairwise(offsets):
        row, column = divmod(start, length)
        yield slice(row, row + 1), slice(None), slice(column, column + stop - start)


def _for_each_query(heads_1KTD: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """Heads of keys or values, each as often as there are heads of queries that share it."""
    return heads_1KTD.repeat_interleave(query.shape[1] // heads_1KTD.shape[1], 1)


def _padded(document: torch.Tensor) -> torch.Tensor:
    """A document's part of a tensor (..., T, D) with zeros after it."""
    spare = -document.shape[-2] % SHAPE_STEP
    return functional.pad(document, (0, 0, 0, spare)) if spare else document


def _mask(like: torch.Tensor, window: int) -> torch.Tensor | None:
    """What a document (B, H, T, D) longer than the window adds to its scores; None where being causal is all."""
    length = like.shape[2]
    if not 0 < window < length:
        return None
    columns_T = torch.arange(length)
    distance_TT = columns_T[:, None] - columns_T
    seen_TT = (distance_TT >= 0) & (distance_TT < window)
    return torch.zeros((length, length), dtype=like.dtype).masked_fill_(~seen_TT, float("-inf"))
