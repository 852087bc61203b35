"""The chunked loss at the head; that it is the whole logits', tests/train/test_loss.py and tuning's tests hold."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from codechoir.model import head_loss

SHAPE = {"hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}


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


@pytest.mark.parametrize("count", [0, 1, 64, 150])
def test_tokens_are_multiplied_so_many_times_some(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, vocab_size=1000))
    shapes, linear = set(), functional.linear

    def recorded(hidden: torch.Tensor, *more: torch.Tensor) -> torch.Tensor:
        shapes.add(len(hidden))
        return linear(hidden, *more)

    generator = torch.Generator().manual_seed(3)
    hidden_ND = torch.randn(count, 16, generator=generator, requires_grad=True)
    targets_N = torch.randint(1000, (count,), generator=generator)
    expected = functional.cross_entropy(model.lm_head(hidden_ND), targets_N, reduction="sum")
    expected_gradients = torch.autograd.grad(expected, (hidden_ND, model.lm_head.weight))
    monkeypatch.setattr(head_loss, "_CHUNK_BYTES", {"cpu": 4 * 1000 * 130})
    monkeypatch.setattr(functional, "linear", recorded)
    found = head_loss.head_loss(model, hidden_ND, targets_N)
    torch.testing.assert_close(found, expected.detach())
    torch.testing.assert_close(torch.autograd.grad(found, (hidden_ND, model.lm_head.weight)), expected_gradients)
    assert shapes <= {64, 128}  # 150 are 192: 128 and 64
