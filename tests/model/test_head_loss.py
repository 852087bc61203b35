"""The chunked loss at the head; that it is the whole logits', tests/train/test_loss.py and tuning's tests hold."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from codechoir.model import head_loss


@pytest.mark.parametrize("cap", [None, 3.0])
def test_columns_beyond_the_vocabulary_have_no_probability(cap: float | None) -> None:
    generator = torch.Generator().manual_seed(2)
    logits_nV = 4 * torch.randn(5, 13, generator=generator, requires_grad=True)
    targets_n = torch.tensor([0, 12, 3, 3, 7])
    losses_n, gradient_nP = head_loss._losses(functional.pad(logits_nV.detach(), (0, 3)), targets_n, (13, cap), True)
    bent_nV = logits_nV if cap is None else cap * torch.tanh(logits_nV / cap)
    expected_n = functional.cross_entropy(bent_nV, targets_n, reduction="none")
    (expected_nV,) = torch.autograd.grad(expected_n.sum(), logits_nV)
    torch.testing.assert_close(losses_n, expected_n.detach())
    assert gradient_nP is not None
    torch.testing.assert_close(gradient_nP, functional.pad(expected_nV, (0, 3)))
