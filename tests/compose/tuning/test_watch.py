"""What the hooks take, against transformers' own router logits."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from codechoir.compose.tuning.watch import Watch
from codechoir.model.moe import Routing, load_composed


@torch.no_grad()
def test_it_takes_the_routers_logits_and_choices_and_leaves_the_outputs(composed: Path) -> None:
    tokens = torch.randint(257, (2, 30), generator=torch.Generator().manual_seed(0))
    plain = AutoModelForCausalLM.from_pretrained(composed, dtype=torch.float32).eval()
    expected = plain(tokens, output_router_logits=True).router_logits
    model = load_composed(composed, Routing.TOKEN, 2, torch.float32)
    watch, before = Watch(model), model(tokens).logits
    for _ in range(2):  # what was taken before is forgotten
        with watch.watching():
            assert torch.equal(model(tokens).logits, before)
    model(tokens)
    assert len(watch.logits) == len(watch.chosen) == 2
    for logits, chosen, theirs in zip(watch.logits, watch.chosen, expected, strict=True):
        torch.testing.assert_close(logits, theirs, rtol=1e-3, atol=1e-4)
        assert torch.equal(chosen.sort().values, logits.topk(2).indices.sort().values)
    assert watch.counts().shape == (2, 3) and watch.counts().sum(dim=1).tolist() == [120, 120]


def test_a_pass_in_training_leaves_no_counts(composed: Path) -> None:
    """Shares of routing are those of evaluation alone, however many passes came before."""
    tokens = torch.randint(257, (2, 30), generator=torch.Generator().manual_seed(0))
    model = load_composed(composed, Routing.TOKEN, 1, torch.float32)
    for block in Watch(model).blocks:
        block.train()
    for _ in range(2):
        model(tokens)
        assert model.route.counts_BE is not None and not model.route.counts_BE.any()
    for block in Watch(model).blocks:
        block.eval()
    model(tokens)
    assert model.route.counts_BE.sum(dim=1).tolist() == [60, 60]
