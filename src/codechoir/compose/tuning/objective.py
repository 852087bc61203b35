"""What tuning minimises, as functions of logits. Knows no models, files or steps.

Shapes: B sequences, T tokens, N = B x T, V vocabulary, L layers, E experts, K experts a token.
"""

from __future__ import annotations

import torch
from torch.nn import functional

NO_TARGET = -100  # of a place that has no next token


def cross_entropy(logits_BTV: torch.Tensor, targets_BT: torch.Tensor, *, by_row: bool = False) -> torch.Tensor:
    """The next token's loss in nats, the mean over all that have one, or over each sequence's where `by_row`, (B)."""
    logits_NV, targets_N = logits_BTV.flatten(0, 1).float(), targets_BT.flatten()
    if not by_row:
        return functional.cross_entropy(logits_NV, targets_N, ignore_index=NO_TARGET)
    losses_N = functional.cross_entropy(logits_NV, targets_N, ignore_index=NO_TARGET, reduction="none")
    return losses_N.view_as(targets_BT).sum(dim=1) / (targets_BT != NO_TARGET).sum(dim=1)


def divergence(teacher_BTV: torch.Tensor, student_BTV: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
    """KL(teacher || student) in nats, the mean over the tokens that have a next one (arXiv 1503.02531, at T = 1)."""
    has_next_BT = targets_BT != NO_TARGET
    total = student_BTV.new_zeros((), dtype=torch.float32)
    for number, has_next_T in enumerate(has_next_BT):  # by sequence, for memory's sake
        wanted, given = (torch.log_softmax(x[number, has_next_T].float(), dim=-1) for x in (teacher_BTV, student_BTV))
        total = total + functional.kl_div(given, wanted, log_target=True, reduction="sum")
    return total / has_next_BT.sum()


def z_loss(logits_LNE: torch.Tensor) -> torch.Tensor:
    """The mean squared log of the softmax's denominator, which keeps router logits small (arXiv 2202.08906, eq. 5)."""
    return torch.logsumexp(logits_LNE.float(), dim=-1).square().mean()


def switch_loss(logits_LNE: torch.Tensor, chosen_LNK: torch.Tensor) -> torch.Tensor:
    """E times the sum over experts of the share of tokens times the mean probability (arXiv 2101.03961, eq. 4).

    The mean over layers. With more experts a token the shares sum to K, as in transformers' Mixtral. An even load gives
    K.
    """
    _, num_tokens, num_experts = logits_LNE.shape
    numbers_E = torch.arange(num_experts, device=chosen_LNK.device)
    share_LE = (chosen_LNK[..., None] == numbers_E).sum(dim=(1, 2)) / num_tokens
    mean_LE = torch.softmax(logits_LNE.float(), dim=-1).mean(dim=1)
    return num_experts * (share_LE * mean_LE).sum(dim=-1).mean()


def moved_bias(bias_LE: torch.Tensor, counts_LE: torch.Tensor, step: float) -> torch.Tensor:
    """Each layer's bias of the choice after a step: up where an expert's load is under the mean, down where it is over.

    The auxiliary-loss-free balancing of arXiv 2408.15664, algorithm 1.
    """
    return bias_LE + step * torch.sign(counts_LE.mean(dim=1, keepdim=True) - counts_LE)
