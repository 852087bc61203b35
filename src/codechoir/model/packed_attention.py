"""Packed attention: it knows documents by their ends, and is proven to keep them apart.

In: a model on its device, without dropout, and packed sequences. Out: the same function of the same weights, to
rounding, without the arithmetic that a mask throws away. Knows no loss and no data. Shapes: B sequences, T tokens, H
heads, K heads of keys and values, D per head, N documents, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface

from codechoir.errors import IncompatibleModelError
from codechoir.model.checkpoint import shortened
from codechoir.model.document_attention import document_attention

varlen_attn: Callable[..., Any] | None
try:
    from torch.nn.attention.varlen import varlen_attn  # torch 2.11
except ImportError:
    varlen_attn = None

PACKED = "codechoir_packed"  # transformers' name of the attention below
_MAX_HEAD = 256  # flash attention's
_NOT_COMPUTED = ("s_aux", "softcap", "position_bias")  # what else attention may be told: sinks, a cap, a bias
_PROBE = (9, 7)  # tokens of the two documents that are tried


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
    """Whether flash attention computes what the model's attention does: no cap on scores, small heads."""
    config = model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    on_cpu = model.device.type == "cpu"
    return (
        (on_cpu or (varlen_attn is not None and model.dtype in (torch.bfloat16, torch.float16) and width <= _MAX_HEAD))
        and model._supports_flash_attn
        and getattr(config, "attn_logit_softcapping", None) is None
    )


class _NotPackedError(Exception):
    """A layer asks attention for more than ours computes, or does not hand on where documents end."""


@torch.no_grad()
def keep_documents_apart(model: Any) -> None:
    """Gives the model packed attention where that is the model's own, document by document.

    Raises IncompatibleModelError where documents do not stay apart with the model's own attention either.
    """
    was_training, own = model.training, model.config._attn_implementation
    if own == PACKED:
        return  # it has been proven
    model.eval()
    try:
        with forward_told(model):
            alone_NTV = _documents_alone(model)
            if not all(bool(each_TV.isfinite().all()) for each_TV in alone_NTV):
                return  # weights that are no numbers: the loss tells of them
            if _can_pack(model):
                model.set_attn_implementation(PACKED)
                if _stays_apart(model, alone_NTV):
                    return
                model.set_attn_implementation(own)
            if not _stays_apart(model, alone_NTV):
                raise _refused("packed documents do not stay apart in its layers", model, "")
    finally:
        model.train(was_training)


def _probe(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens of two small documents."""
    tokens_T = (1 + 5 * torch.arange(sum(_PROBE), device=model.device)) % model.get_input_embeddings().num_embeddings
    return tokens_T[: _PROBE[0]], tokens_T[_PROBE[0] :]


def _documents_alone(model: Any) -> list[torch.Tensor]:
    """Each document's logits (T, V) by the model as transformers has it, which is told nothing."""
    return [model(input_ids=each_T[None], use_cache=False).logits[0] for each_T in _probe(model)]


def _stays_apart(model: Any, alone_NTV: list[torch.Tensor]) -> bool:
    """Whether documents in one sequence have the logits they have alone, and nothing of the first reaches the second.

    The latter is told by a gradient, which in any number format is then exactly 0.
    """
    positions_BT = torch.cat([torch.arange(length, device=model.device) for length in _PROBE])[None]
    told = {"position_ids": positions_BT, "use_cache": False} | document_ends(model, positions_BT)
    states_BTD: list[torch.Tensor] = []

    def begin(_module: Any, _arguments: Any, found_BTD: torch.Tensor) -> torch.Tensor:
        states_BTD.append(found_BTD.detach().requires_grad_())
        return states_BTD[-1]

    hook = model.get_input_embeddings().register_forward_hook(begin)
    try:
        with torch.enable_grad():
            first_TV, second_TV = model(input_ids=torch.cat(_probe(model))[None], **told).logits[0].split(_PROBE)
            (gradient_BTD,) = torch.autograd.grad(second_TV.float().square().sum(), states_BTD)
    except _NotPackedError:
        return False
    finally:
        hook.remove()
    if gradient_BTD[:, : _PROBE[0]].any():
        return False
    pairs = zip((first_TV, second_TV), alone_NTV, strict=True)
    off = [_distances(packed_TV, alone_TV) for packed_TV, alone_TV in pairs]
    if model.dtype.itemsize >= torch.float32.itemsize:
        return all(bool((each_T < 1e-3).all()) for each_T in off)
    # Of 16 bits' rounding a trained model can make 0.3 for a token, 0.1 for another, and next to nothing for the rest;
    # what is computed wrongly is off for most.
    return all(float(each_T.median()) < 0.1 for each_T in off)


def _distances(found_TV: torch.Tensor, expected_TV: torch.Tensor) -> torch.Tensor:
    """How far off each token's logits are (T), where 1 is how far tokens' logits lie from their mean."""
    found_TV, expected_TV = found_TV.detach().float(), expected_TV.float()
    spread = (expected_TV - expected_TV.mean(0)).norm(dim=1).square().mean().sqrt()
    distances_T: torch.Tensor = (found_TV - expected_TV).norm(dim=1) / spread.clamp_min(1e-12)
    return distances_T


@contextmanager
def forward_told(model: Any) -> Iterator[None]:
    """Turns what a model's forward pass raises into one message; memory that runs out stays what it is."""
    try:
        yield
    except (ValueError, TypeError, RuntimeError, AttributeError, LookupError, AssertionError, ImportError) as error:
        if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
            raise
        cause = shortened(f"{type(error).__name__}: {error}")
        raise _refused("its forward pass fails", model, f": {cause}") from error


def _refused(why: str, model: Any, cause: str) -> IncompatibleModelError:
    return IncompatibleModelError(
        f"this model cannot be trained: {why}",
        seen=f"{model.config.model_type} ({type(model).__name__}){cause}",
        allowed="decoders whose every layer keeps documents that lie in one sequence apart: attention that "
        "goes by positions does, states that are carried on from token to token do not",
        next_step="take another base",
    )


def packed_attention(
    module: nn.Module,  # noqa: ARG001
    query_BHTD: torch.Tensor,
    key_BKTD: torch.Tensor,
    value_BKTD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **told: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each document, by torch's flash attention, as transformers calls it.

    `told` has what `document_ends` gives. Returns (B, T, H, D). Raises _NotPackedError where more is asked for.
    """
    if "cu_seq_lens_q" not in told or attention_mask is not None or any(told.get(n) is not None for n in _NOT_COMPUTED):
        raise _NotPackedError
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
