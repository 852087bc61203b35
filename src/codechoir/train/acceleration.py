"""What makes training fast: attention that knows documents by their ends, and decoder layers compiled once.

In: a model on its device. Out: the same function of the same weights, to rounding. Compiled layers keep less for the
backward pass, too: what takes no product of matrices is computed again. The environment variable
TORCH_COMPILE_DISABLE=1 keeps torch from compiling. Knows no loss and no data. Shapes: B sequences of T tokens, H heads,
K heads of keys and values, D per head, N documents.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface

from codechoir.console import say
from codechoir.model.device import compute_device
from codechoir.train.document_attention import document_attention

varlen_attn: Callable[..., Any] | None
try:
    from torch.nn.attention.varlen import varlen_attn  # torch 2.11
except ImportError:
    varlen_attn = None

PACKED = "codechoir_packed"  # transformers' name of the attention below
_MAX_HEAD = 256  # flash attention's
_DROPOUTS = ("attention_dropout", "attn_pdrop")
_MAX_GRAPHS = 200  # within torch's limit for a function in all its uses, 256
_WORTH_COMPILING = 2e12  # parameters times tokens: about two minutes on two cores, of which compiling takes 20 s


def accelerate(model: Any, layers: nn.ModuleList, compiled: bool) -> None:
    """Readies the model for training on the device that it is on; `compiled`, where this machine can."""
    if _can_pack(model):
        own = model.config._attn_implementation
        model.set_attn_implementation(PACKED)
        if not _is_told_of_ends(model):
            model.set_attn_implementation(own)
    if compiled and _can_compile(model.device.type):
        # Each shape and way has a graph; past torch's own limit of 8 for all branches layers would run uncompiled.
        torch._dynamo.config.recompile_limit = max(_MAX_GRAPHS, torch._dynamo.config.recompile_limit)
        for layer in layers:
            layer.forward = _compiled(layer.forward)


def pays_to_compile(num_parameters: int, num_tokens: int) -> bool:
    """Whether training so large a model on so many tokens is shortened by more than compiling takes."""
    return compute_device().type != "cpu" or num_parameters * num_tokens >= _WORTH_COMPILING


@cache
def _can_compile(device: str) -> bool:
    """Whether torch finds the compiler that it needs: it looks for one when first asked to compile."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(2, device=device))
    except Exception as error:  # of many kinds, by what is missing
        cause = str(getattr(error, "inner_exception", error)).strip()
        say(f"training without torch.compile, which fails here: {cause.splitlines()[0] if cause else type(error)}")
        return False
    return True


def _compiled(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A layer's forward, compiled where gradients are wanted; measuring, in sequences of any length, stays as it is.

    One compilation serves all layers, for their code is one; the whole model would take minutes. Each shape has its
    own, so that a step computes the same whatever went before it.
    """
    compiled = torch.compile(forward, dynamic=False)

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
    on_cpu = model.device.type == "cpu"
    return (
        (on_cpu or (varlen_attn is not None and model.dtype in (torch.bfloat16, torch.float16) and width <= _MAX_HEAD))
        and model._supports_flash_attn
        and getattr(config, "attn_logit_softcapping", None) is None
        and not any(getattr(config, name, 0.0) for name in _DROPOUTS)
    )


@torch.no_grad()
def _is_told_of_ends(model: Any) -> bool:
    """Whether the model's layers hand on to attention what they are told; those of StableLM and Nemotron do not."""
    positions_BT = torch.tensor([[0, 1, 0, 1]], device=model.device)
    ends = document_ends(model, positions_BT)
    try:
        model(input_ids=torch.zeros_like(positions_BT), position_ids=positions_BT, use_cache=False, **ends)
    except KeyError as error:
        if error.args[0] in ends:
            return False
        raise
    return True


def packed_attention(
    module: nn.Module,  # noqa: ARG001
    query_BHTD: torch.Tensor,
    key_BKTD: torch.Tensor,
    value_BKTD: torch.Tensor,
    attention_mask: None,  # noqa: ARG001
    **told: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each document, by torch's flash attention, as transformers calls it.

    `told` has what `document_ends` gives. Returns (B, T, H, D).
    """
    window = told.get("sliding_window")
    if query_BHTD.device.type == "cpu":
        shared = (told["cu_seq_lens_q"], told.get("scaling"), window)
        return document_attention(query_BHTD, key_BKTD, value_BKTD, *shared).transpose(1, 2), None
    assert varlen_attn is not None
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
