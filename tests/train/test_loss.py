"""The chunked loss and its gradients against the whole logits' cross-entropy, and document by document."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from codechoir.model import head_loss
from codechoir.train.loss import PackedLoss, counted


class Table(nn.Module):
    """A decoder that knows each token alone."""

    def __init__(self) -> None:
        super().__init__()
        self.states = nn.Embedding(23, 8)

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        return SimpleNamespace(last_hidden_state=self.states(input_ids))


class Small(nn.Module):
    """A decoder that is a table of states, with a head; `scale` makes its logits something else than the head's."""

    def __init__(self, cap: float | None, bias: bool, scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.base_model, self.head = Table(), nn.Linear(8, 23, bias=bias)
        self.config, self.scale = SimpleNamespace(final_logit_softcapping=cap), scale
        self.head.weight.data *= 6

    def get_output_embeddings(self) -> nn.Linear:
        return self.head

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        logits = self.head(self.base_model(input_ids).last_hidden_state) * self.scale
        cap = self.config.final_logit_softcapping
        return SimpleNamespace(logits=logits if cap is None else cap * torch.tanh(logits / cap))


@pytest.mark.parametrize(
    ("cap", "bias", "scale"), [(None, False, 1.0), (None, True, 1.0), (3.0, True, 1.0), (None, True, 2.0)]
)
@pytest.mark.parametrize("trained", ["all", "states"])
def test_loss_and_gradients_are_the_whole_logits(
    cap: float | None, bias: bool, scale: float, trained: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(head_loss._CHUNK_BYTES, "cpu", 4 * 23 * 5)  # five tokens at a time
    model = Small(cap, bias, scale)
    model.head.requires_grad_(trained == "all")
    module = PackedLoss(model)
    assert module.is_plain == (scale == 1.0)
    tokens_BT = torch.randint(23, (2, 9), generator=torch.Generator().manual_seed(1))
    positions_BT = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 0, 1], [4, 5, 6, 0, 1, 2, 3, 4, 5]])
    counts_BT = counted(positions_BT)
    assert counts_BT.sum() == 16 - 3
    ours = module(tokens_BT, positions_BT, counts_BT)
    ours.mul(0.5).backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    targets = tokens_BT.masked_fill(~counts_BT, -100)[:, 1:]
    theirs = functional.cross_entropy(model(tokens_BT).logits[:, :-1].flatten(0, 1), targets.flatten(), reduction="sum")
    theirs.mul(0.5).backward()
    torch.testing.assert_close(ours, theirs)
    for name, parameter in model.named_parameters():
        assert (gradients[name] is None) == (not parameter.requires_grad)
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name], parameter.grad)


def test_no_gradient_is_made_where_none_is_wanted() -> None:
    model = Small(None, True)
    module = PackedLoss(model.requires_grad_(False))
    tokens_BT = torch.arange(6)[None]
    out = module(tokens_BT, tokens_BT, counted(tokens_BT.clone()))
    assert not out.requires_grad
