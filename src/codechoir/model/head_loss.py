"""The next-token loss at a model's head, without logits of all tokens in memory at once.

The head and the loss are computed for some tokens at a time, with the gradient at once, as Liger Kernel does
(arXiv 2410.10989, 3.2): nothing is computed twice and (tokens, vocabulary) never exists whole. Shapes: B sequences, T
tokens, N tokens that count, D width, V vocabulary, K of its rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from codechoir.model.device import ROW_STEP, SHAPE_STEP

_CHUNK_BYTES = {"cpu": 2**26, "cuda": 2**29}  # of float32 logits at a time


@dataclass(frozen=True, slots=True)
class HeadRows:
    """Rows of the head (K, D) that train though it is frozen, their biases (K), and the number of the first."""

    weight_KD: torch.Tensor
    bias_K: torch.Tensor | None
    first: int


def head_loss(
    model: Any, hidden_ND: torch.Tensor, targets_N: torch.Tensor, rows: HeadRows | None = None
) -> torch.Tensor:
    """The sum of the losses (nats) of targets, given the decoder's last states; of a model whose head is plain."""
    head = model.get_output_embeddings()
    more = (None, None) if rows is None else (rows.weight_KD, rows.bias_K)
    spare = -len(targets_N) % SHAPE_STEP
    hidden_ND, padded_N = functional.pad(hidden_ND, (0, 0, 0, spare)), functional.pad(targets_N, (0, spare))
    how = _How(padded_N, len(targets_N), _cap(model), 0 if rows is None else rows.first)
    loss: torch.Tensor = _HeadLoss.apply(how, hidden_ND, head.weight, head.bias, *more)  # type: ignore[no-untyped-call]
    return loss


@torch.no_grad()
def head_is_plain(model: Any) -> bool:
    """Whether the logits are the (softcapped) head of the decoder's last state; some models scale or mix them."""
    head, cap = model.get_output_embeddings(), _cap(model)
    if not isinstance(head, nn.Linear):
        return False
    was_training = model.training
    model.eval()
    tokens_BT = torch.arange(1, 9, device=head.weight.device)[None] % head.out_features
    with _states_of(model) as states:
        logits_BTV = model(input_ids=tokens_BT, use_cache=False).logits.float()
    ours_BTV = head(states[0]).float()
    ours_BTV = cap * torch.tanh(ours_BTV / cap) if cap is not None else ours_BTV
    model.train(was_training)
    tolerance = 1e-5 if head.weight.dtype == torch.float32 else 2e-2
    return torch.allclose(logits_BTV, ours_BTV, rtol=tolerance, atol=tolerance)


def last_states(model: Any, **told: Any) -> torch.Tensor:
    """The decoder's last states (B, T, D) of a forward pass that makes the logits of one place alone."""
    with _states_of(model) as states:
        model(**told, logits_to_keep=1)
    return states[0]


@contextmanager
def _states_of(model: Any) -> Iterator[list[torch.Tensor]]:
    """Takes the last states of the forward passes within."""
    states: list[torch.Tensor] = []
    hook = model.base_model.register_forward_hook(lambda _, __, out: states.append(out.last_hidden_state))
    try:
        yield states
    finally:
        hook.remove()


def _cap(model: Any) -> float | None:
    cap: float | None = getattr(model.config, "final_logit_softcapping", None)
    return cap


@dataclass(frozen=True, slots=True)
class _How:
    """The targets and how many of them count, the softcap, and the number of the first new row."""

    targets_N: torch.Tensor
    num_targets: int
    cap: float | None
    first_row: int


class _HeadLoss(torch.autograd.Function):
    """The summed cross-entropy of softcap(hidden W^T + bias), its gradients computed in the forward pass."""

    @staticmethod
    def forward(ctx: Any, how: _How, *tensors: torch.Tensor | None) -> torch.Tensor:
        """`tensors`: the hidden states (N, D), the weight (V, D), its bias (V), and new rows of both (K, D), (K)."""
        hidden_ND, weight_VD, bias_V = tensors[:3]
        assert hidden_ND is not None and weight_VD is not None
        targets_N, first_row = how.targets_N, how.first_row
        wants = ctx.needs_input_grad[1:]
        gradients: list[torch.Tensor | None] = [
            torch.zeros_like(tensor, dtype=tensor.dtype if number == 0 else torch.float32)
            if wanted and tensor is not None
            else None
            for number, (tensor, wanted) in enumerate(zip(tensors, wants, strict=True))
        ]
        size = max(1, _CHUNK_BYTES.get(hidden_ND.device.type, 2**26) // (4 * SHAPE_STEP * len(weight_VD))) * SHAPE_STEP
        total = hidden_ND.new_zeros((), dtype=torch.float32)
        is_gpu = hidden_ND.is_cuda
        vocabulary, losses = len(weight_VD), _compiled_losses() if is_gpu else _losses
        spare = -vocabulary % ROW_STEP if is_gpu else 0
        weight_PD = functional.pad(weight_VD, (0, 0, 0, spare)) if spare else weight_VD
        bias_P = functional.pad(bias_V, (0, spare)) if spare and bias_V is not None else bias_V
        for start in range(0, len(targets_N), size):
            part = slice(start, start + size)
            logits_nP = functional.linear(hidden_ND[part], weight_PD, bias_P)
            losses_n, gradient_nP = losses(logits_nP, targets_N[part], (vocabulary, how.cap), any(wants))
            num_counted = how.num_targets - start
            total += losses_n[:num_counted].sum()
            if gradient_nP is None:
                continue
            gradient_nP[num_counted:] = 0
            gradient_nV = gradient_nP[:, :vocabulary]
            of_hidden, of_weight, of_bias, of_rows, of_row_biases = gradients
            if of_hidden is not None:
                torch.mm(gradient_nP, weight_PD, out=of_hidden[part])
            if of_weight is not None:
                of_weight += gradient_nV.T @ hidden_ND[part]
            if of_bias is not None:
                of_bias += gradient_nV.sum(dim=0, dtype=torch.float32)
            if of_rows is not None:
                of_rows += gradient_nV[:, first_row : first_row + len(of_rows)].T @ hidden_ND[part]
            if of_row_biases is not None:
                columns = slice(first_row, first_row + len(of_row_biases))
                of_row_biases += gradient_nV[:, columns].sum(dim=0, dtype=torch.float32)
        ctx.save_for_backward(*gradients)
        ctx.dtypes = tuple(None if tensor is None else tensor.dtype for tensor in tensors)
        return total

    @staticmethod
    def backward(ctx: Any, scale: torch.Tensor) -> Any:
        scaled = [
            None if gradient is None else (gradient * scale).to(dtype)
            for gradient, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return None, *scaled


def _losses(
    logits_nP: torch.Tensor, targets_n: torch.Tensor, of: tuple[int, float | None], wanted: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Each token's loss (float32), and where it is wanted its gradient at the head's output, in the logits' format.

    `of`: how many columns are the vocabulary's, the others being room that has no probability; and the softcap.
    """
    dtype, logits_nV = logits_nP.dtype, logits_nP.float()
    (vocabulary, cap), slope_nV = of, None
    if cap is not None:
        bent_nV = torch.tanh(logits_nV / cap)
        slope_nV = 1 - bent_nV**2 if wanted else None
        logits_nV = cap * bent_nV
    if vocabulary < logits_nV.shape[1]:
        is_spare_V = torch.arange(logits_nV.shape[1], device=logits_nV.device) >= vocabulary
        logits_nV = logits_nV.masked_fill(is_spare_V, float("-inf"))
    log_nV = torch.log_softmax(logits_nV, dim=-1)
    losses_n = -log_nV.gather(1, targets_n[:, None])[:, 0]
    if not wanted:
        return losses_n, None
    gradient_nV = log_nV.exp_()  # softmax; one less at the target, which is rounded once
    at_target_n1 = torch.expm1(-losses_n)[:, None]
    if slope_nV is not None:
        gradient_nV.mul_(slope_nV)
        at_target_n1 = at_target_n1 * slope_nV.gather(1, targets_n[:, None])
    return losses_n, gradient_nV.to(dtype).scatter_(1, targets_n[:, None], at_target_n1.to(dtype))


@cache
def _compiled_losses() -> Any:
    """The same for a GPU: reads the logits twice and writes once."""
    return torch.compile(_losses)
