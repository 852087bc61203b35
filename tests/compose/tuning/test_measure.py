"""The loss against that of whole logits, and figures of validation that no model is needed for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from codechoir.compose.tuning import measure
from codechoir.compose.tuning.measure import NextTokenLoss, load_facts
from codechoir.compose.tuning.texts import Sequences
from codechoir.model.moe import Routing, load_composed
from codechoir.model.packed_attention import PACKED, keep_documents_apart


def mean_loss(model: Any, tokens_BT: torch.Tensor, positions_BT: torch.Tensor | None) -> torch.Tensor:
    """Of whole logits: every token but a sequence's first and a document's first, given those before it."""
    logits_BTV = model(input_ids=tokens_BT, position_ids=positions_BT, use_cache=False).logits
    targets_BT = tokens_BT[:, 1:].clone()
    if positions_BT is not None:
        targets_BT[positions_BT[:, 1:] == 0] = -100
    return functional.cross_entropy(logits_BTV[:, :-1].transpose(1, 2), targets_BT)


@pytest.mark.parametrize("is_plain", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_loss_and_gradients_are_those_of_whole_logits(
    composed: Path, packed: bool, is_plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_composed(composed, Routing.TOKEN, 1, torch.float32)
    if not is_plain:
        monkeypatch.setattr(measure, "head_is_plain", lambda _: False)
    generator = torch.Generator().manual_seed(0)
    tokens_BT = torch.randint(model.get_input_embeddings().num_embeddings, (2, 12), generator=generator)
    lengths = ((5, 7), (12,))
    positions_BT = torch.stack([torch.cat([torch.arange(each) for each in row]) for row in lengths]) if packed else None
    loss_of, batch = NextTokenLoss(model), Sequences(tokens_BT, positions_BT)
    experts = {name: each.requires_grad_() for name, each in model.named_parameters() if "experts" in name}
    expected = mean_loss(model, tokens_BT, positions_BT)
    expected_gradients = torch.autograd.grad(expected, list(experts.values()))
    rows = [slice(0, 1), slice(1, 2)]
    with torch.no_grad():
        by_row = [mean_loss(model, tokens_BT[row], positions_BT[row] if packed else None) for row in rows]
    if packed:
        keep_documents_apart(model)
        assert model.config._attn_implementation == PACKED
    found = loss_of(batch)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, list(experts.values())), expected_gradients)
    with torch.no_grad():
        torch.testing.assert_close(loss_of(batch, by_row=True), torch.stack(by_row))


def test_load_and_dead_experts() -> None:
    shares, dead = load_facts(torch.tensor([[3, 1, 0], [0, 2, 2]]), (4, 7), ("a", "b", "c"))
    assert shares == {"4": {"a": 0.75, "b": 0.25, "c": 0.0}, "7": {"a": 0.0, "b": 0.5, "c": 0.5}}
    assert dead == {"4": ["c"], "7": ["a"]}
