"""The experts' backend of tuning beside the block's own forward, with torch's own gradients."""

from __future__ import annotations

import shutil
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from codechoir.compose.tuning import experts as experts_module
from codechoir.compose.tuning.experts import BACKEND, places_of
from codechoir.model import modeling_codechoir_moe as modeling

KINDS = [modeling.GatedExperts, modeling.GatedBiasedExperts, modeling.PlainExperts, modeling.PlainBiasedExperts]
DTYPE = torch.float64


def experts_of(kind: Any, num_experts: int) -> Any:
    config = SimpleNamespace(
        experts=["x"] * num_experts, feed_forward={"activation": "gelu"}, _experts_implementation="eager"
    )
    torch.manual_seed(0)
    experts = kind(config, 8, 16).to(DTYPE)
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter)
    return experts


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("top_k", [1, 2, 4])
@pytest.mark.parametrize("grouped", [False, True])
def test_outputs_and_gradients_are_the_blocks_own(
    kind: Any, top_k: int, grouped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`grouped` as on a GPU; torch has no such kernel for float64."""
    dtype = torch.float32 if grouped else DTYPE
    monkeypatch.setattr(experts_module, "_can_group", lambda *_: grouped)
    experts = experts_of(kind, 4).to(dtype)
    logits = torch.randn(150, 4)
    logits[:, 2] -= 100 * (top_k < 4)  # an expert without a token, where that can be
    chosen_NK = logits.topk(top_k).indices
    x_ND = torch.randn(150, 8, dtype=dtype, requires_grad=True)
    weights_NK = torch.randn(150, top_k, dtype=dtype, requires_grad=True)
    direction = torch.randn(150, 8, dtype=dtype)
    found = {}
    for backend in ("eager", BACKEND):
        experts.config._experts_implementation = backend
        out = experts(x_ND, chosen_NK, weights_NK)
        found[backend] = (out, *torch.autograd.grad(out, (x_ND, weights_NK, *experts.parameters()), direction))
    close = {"rtol": 1e-4, "atol": 1e-4} if grouped else {}
    torch.testing.assert_close(found[BACKEND], found["eager"], **close)


def test_what_does_not_move_has_no_gradient() -> None:
    """As where the routers alone are tuned."""
    experts = experts_of(modeling.GatedBiasedExperts, 2).requires_grad_(requires_grad=False)
    experts.config._experts_implementation = BACKEND
    weights_NK = torch.rand(5, 2, dtype=DTYPE, requires_grad=True)
    chosen_NK = torch.tensor([[0, 1], [1, 0]]).repeat(3, 1)[:5]
    x_ND = torch.randn(5, 8, dtype=DTYPE)
    assert torch.autograd.gradcheck(lambda weights: experts(x_ND, chosen_NK, weights), weights_NK)
    assert all(parameter.grad is None for parameter in experts.parameters())


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with it")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler, about itself
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_compiled_the_gradients_are_the_same() -> None:
    """As on a GPU, whatever the number of places."""
    experts = experts_of(modeling.GatedExperts, 2).requires_grad_(requires_grad=False)
    for places in (64, 192, 256):
        given = [torch.randn(places, width, dtype=DTYPE) for width in (32, 16, 1)]
        found = experts_module._compiled_pulled()(experts, *given)
        torch.testing.assert_close(found, experts_module._pulled(experts, *given))


def test_places() -> None:
    chosen_NK = torch.tensor([[3, 0]] * 65 + [[0, 3]] * 2)
    places = places_of(chosen_NK, 4, grouped=False)
    assert places.sizes == (128, 0, 0, 128)
    assert [(expert, part.start, part.stop) for expert, part in places.experts()] == [(0, 0, 128), (3, 128, 256)]
    assert places.counts_P1.flatten().tolist() == ([1.0] * 67 + [0.0] * 61) * 2
    assert places.places_NK[:2].tolist() == [[128, 0], [129, 1]]
    pairs = places.places_NK.flatten()
    assert places.pairs_P[pairs].tolist() == list(range(134))
    assert places.tokens_P[places.places_NK].tolist() == [[token, token] for token in range(67)]
    assert places.experts_P.tolist() == [0] * 128 + [3] * 128
    together = places_of(chosen_NK, 4, grouped=True)  # room for any load
    assert together.sizes is None and together.ends_E.tolist() == [128, 128, 128, 256]
    assert len(together.pairs_P) == 64 * (3 + 4) and not together.counts_P1[256:].any()
    assert torch.equal(together.places_NK, places.places_NK)
    assert torch.equal(together.experts_P[:256], places.experts_P)
