"""Embeddings' gradients in bfloat16 against sums in float64, and in whole models against those in float32."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, GPTBigCodeConfig, LlamaConfig
from transformers.models.gemma3.modeling_gemma3 import Gemma3TextScaledWordEmbedding

from codechoir.train.acceleration import accelerate
from codechoir.train.embeddings import add_up_in_float32
from codechoir.train.loss import PackedLoss, counted


def test_equal_tokens_add_up() -> None:
    model = nn.Sequential(nn.Embedding(4, 8, dtype=torch.bfloat16))
    add_up_in_float32(model)
    model(torch.zeros(16_384, dtype=torch.long)).sum().backward()
    gradient = next(model.parameters()).grad
    assert gradient is not None
    assert gradient[:, 0].tolist() == [16_384, 0, 0, 0]


@pytest.mark.parametrize("padding", [None, 3])
@pytest.mark.parametrize("scale", [None, 4.0])
def test_look_up_and_gradient(padding: int | None, scale: float | None) -> None:
    """`scale`: an embedding of a class of its own."""
    torch.manual_seed(0)
    given: dict[str, Any] = {"padding_idx": padding}
    embedding = (
        nn.Embedding(9, 5, **given)
        if scale is None
        else Gemma3TextScaledWordEmbedding(9, 5, **given, embed_scale=scale)
    )
    model = nn.Sequential(embedding.to(torch.bfloat16))
    ids_BT, gradient_BTD = torch.randint(9, (3, 4000)) ** 2 % 9, torch.randn(3, 4000, 5).abs().bfloat16()
    before = model(ids_BT)
    add_up_in_float32(model)
    add_up_in_float32(model)  # twice is once
    found = model(ids_BT)
    assert torch.equal(found, before)
    found.backward(gradient_BTD)
    expected_VD = (
        functional.one_hot(ids_BT.flatten(), 9).T.double() @ gradient_BTD.flatten(0, 1).double() * (scale or 1)
    )
    if padding is not None:
        expected_VD[padding] = 0
    torch.testing.assert_close(embedding.weight.grad, expected_VD.bfloat16(), rtol=2**-8, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("trained", [True, False])
def test_embeddings_that_need_nothing_stay(dtype: torch.dtype, trained: bool) -> None:
    model = nn.Sequential(nn.Embedding(4, 8, dtype=dtype).requires_grad_(trained))
    add_up_in_float32(model)
    assert (type(model[0]) is nn.Embedding) == (dtype == torch.float32 or not trained)


SHAPE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 19}
SPECIAL = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SHAPE, **SPECIAL, intermediate_size=24, tie_word_embeddings=True),
        LlamaConfig(**SHAPE, **SPECIAL, intermediate_size=24, tie_word_embeddings=False),
        GPTBigCodeConfig(**SHAPE, **SPECIAL, n_positions=64, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0),
    ],
    ids=["tied", "untied", "learned positions"],
)
def test_a_model_in_training(config: Any) -> None:
    """Few different tokens, each very often; positions as well."""
    torch.manual_seed(0)
    whole = AutoModelForCausalLM.from_config(config).bfloat16().float().train()
    narrow = copy.deepcopy(whole).bfloat16()
    tokens_BT = torch.randint(1, 19, (256, 64)) ** 2 % 19
    positions_BT = torch.arange(64).expand(256, -1)
    for model in (whole, narrow):
        loss = PackedLoss(model)
        accelerate(model, nn.ModuleList(), compiled=False)
        loss(tokens_BT, positions_BT, counted(positions_BT.clone())).backward()
    for name, parameter in whole.named_parameters():
        if "embed" in name or ".wte" in name or ".wpe" in name:
            found, expected = narrow.get_parameter(name).grad.float(), parameter.grad
            assert (found - expected).norm() < 0.02 * expected.norm(), name
