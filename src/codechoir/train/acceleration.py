"""What makes training fast on a GPU: attention that knows documents by their ends, and decoder layers compiled once.

In: a model on its device. Out: the same function of the same weights, to rounding. On a CPU nothing changes. The
environment variable TORCH_COMPILE_DISABLE=1 keeps torch from compiling. Knows no loss and no data. Shapes: B sequences
of T tokens, H heads, K heads of keys and values, D per head, N documents.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface

varlen_attn: Callable[..., Any] | None
try:
    from torch.nn.attention.varlen import varlen_attn  # torch 2.11
except ImportError:
    varlen_attn = None

PACKED = "codechoir_packed"  # transformers' name of the attention below
_MAX_HEAD = 256  # flash attention's
_DROPOUTS = ("attention_dropout", "attn_pdrop")


def accelerate(model: Any, layers: nn.ModuleList) -> None:
    """Readies the model for training on the device that it is on."""
    if model.device.type != "cuda":
        return
    if _can_pack(model):
        model.set_attn_implementation(PACKED)
    for layer in layers:
        layer.forward = _compiled(layer.forward)


def _compiled(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A layer's forward, compiled where gradients are wanted; measuring, in sequences of any length, stays as it is.

    One compilation serves all layers, for their code is one; the whole model would take minutes.
    """
    compiled = torch.compile(forward)

    def either(*arguments: Any, **named: Any) -> Any:
        return (compiled if torch.is_grad_enabled() else forward)(*arguments, **named)

    return either


def document_ends(model: Any, positions_BT: torch.Tensor) -> dict[str, Any]:
    """What a model with packed attention is told beside its tokens: where each document ends (N + 1 offsets)."""
    if getattr(model.config, "_attn_implementation", None) != PACKED:
        return {}
    begins_BT = positions_BT == 0
    begins_BT[:, 0] = True
    starts_N = torch.nonzero(begins_BT.flatten()).flatten().to(torch.int32)
    ends = torch.cat([starts_N, starts_N.new_tensor([positions_BT.numel()])])
    torch._dynamo.maybe_mark_dynamic(ends, 0)
    length = positions_BT.shape[1]
    return {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": length, "max_length_k": length}


def _can_pack(model: Any) -> bool:
    """Whether flash attention computes what the model's attention does: no cap on scores, no dropout, small heads."""
    config = model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return (
        varlen_attn is not None
        and model._supports_flash_attn
        and model.dtype in (torch.bfloat16, torch.float16)
        and width <= _MAX_HEAD
        and getattr(config, "attn_logit_softcapping", None) is None
        and not any(getattr(config, name, 0.0) for name in _DROPOUTS)
    )


def packed_attention(
    module: nn.Module,  # noqa: ARG001
    query_BHTD: torch.Tensor,
    key_BKTD: torch.Tensor,
    value_BKTD: torch.Tensor,
    attention_mask: None,  # noqa: ARG001
    **told: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each document, by torch's flash attention of variable lengths, as transformers calls it.

    `told` has what `document_ends` gives. Returns (B, T, H, D).
    """
    assert varlen_attn is not None
    window = told.get("sliding_window")
    size, heads, length, _ = query_BHTD.shape
    # torch 2.11 has no word for several heads that share keys, later releases ask for one; all take as many of each.
    parts_BHTD = (query_BHTD, *(each.repeat_interleave(heads // each.shape[1], 1) for each in (key_BKTD, value_BKTD)))
    query, key, value = (each.transpose(1, 2).flatten(0, 1) for each in parts_BHTD)
    out = varlen_attn(
        query,
        key,
        value,
        told["cu_seq_lens_q"],
        told["cu_seq_lens_k"],
        told["max_length_q"],
        told["max_length_k"],
        scale=told.get("scaling"),
        window_size=(-1 if window is None else window - 1, 0),
    )
    assert isinstance(out, torch.Tensor)  # no other outputs are asked for
    return out.view(size, length, *out.shape[1:]), None


def _no_mask(*_: Any, **__: Any) -> None:
    """The documents' ends say all that a mask would."""


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, _no_mask)
