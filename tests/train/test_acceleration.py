"""Packed attention and compiled layers against transformers' own attention, family by family.

torch's flash attention runs on GPUs alone, so here its place is taken by attention document by document; on a GPU the
same test takes the real one.
"""

from __future__ import annotations

import copy
import shutil
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPTBigCodeConfig,
    LlamaConfig,
    PhiConfig,
    PreTrainedConfig,
    Qwen2Config,
    Starcoder2Config,
)

from codechoir.train import acceleration
from codechoir.train.acceleration import PACKED, accelerate, document_ends
from codechoir.train.loss import PackedLoss, counted

SHAPE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
GROUPED = SHAPE | {"num_key_value_heads": 2, "vocab_size": 97, "bos_token_id": 0, "eos_token_id": 0}
CONFIGS = [
    LlamaConfig(**GROUPED),
    Qwen2Config(**GROUPED),
    Starcoder2Config(**GROUPED, sliding_window=5),
    PhiConfig(**SHAPE, vocab_size=97, bos_token_id=0, eos_token_id=0),
    GPTBigCodeConfig(n_embd=64, n_layer=3, n_head=4, vocab_size=97, n_positions=64, bos_token_id=0, eos_token_id=0),
]
TOKENS_BT = torch.randint(97, (2, 24), generator=torch.Generator().manual_seed(0))
POSITIONS_BT = torch.stack([torch.cat([torch.arange(10), torch.arange(14)]), torch.arange(24)])


def by_document(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, ends: torch.Tensor, *_: Any, **told: Any
) -> torch.Tensor:
    """What torch's `varlen_attn` is documented to give."""
    done = []
    for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        parts = (tensor[start:end].transpose(0, 1)[None] for tensor in (query, key, value))
        place = torch.arange(end - start)
        distance = place[:, None] - place
        before, after = told["window_size"]
        mask = (distance >= -after) & ((distance <= before) | (before < 0))
        out = functional.scaled_dot_product_attention(*parts, attn_mask=mask, scale=told["scale"])
        done.append(out[0].transpose(0, 1))
    return torch.cat(done)


def model_of(config: PreTrainedConfig) -> Any:
    config = copy.deepcopy(config)  # which keeps the attention that its model was set to
    for dropout in ("attn_pdrop", "embd_pdrop", "resid_pdrop"):
        if hasattr(config, dropout):
            setattr(config, dropout, 0.0)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


def loss_and_gradients(module: PackedLoss) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    loss = module(TOKENS_BT, POSITIONS_BT, counted(POSITIONS_BT.clone()))
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    module.zero_grad()
    return loss.detach(), gradients


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_packed_attention_stays_inside_documents(config: PreTrainedConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceleration, "varlen_attn", by_document)
    module = PackedLoss(model_of(config))
    expected = loss_and_gradients(module)
    module.model.set_attn_implementation(PACKED)
    torch.testing.assert_close(loss_and_gradients(module), expected, rtol=1e-4, atol=1e-5)


def test_where_each_document_ends() -> None:
    model = model_of(CONFIGS[0])
    assert document_ends(model, POSITIONS_BT) == {}
    model.set_attn_implementation(PACKED)
    told = document_ends(model, torch.tensor([[0, 1, 0, 1], [2, 3, 4, 0]]))  # the second row begins within a document
    assert told["cu_seq_lens_q"].tolist() == [0, 2, 4, 7, 8]
    assert told["max_length_q"] == 4


def test_what_flash_attention_does_not_compute_is_left_to_others() -> None:
    config = Gemma2Config(**GROUPED, head_dim=16)
    model = model_of(config).bfloat16()
    assert not acceleration._can_pack(model)
    model.config.attn_logit_softcapping = None
    assert acceleration._can_pack(model) == (acceleration.varlen_attn is not None)
    assert not acceleration._can_pack(model.float())


def test_nothing_changes_on_a_cpu() -> None:
    model = model_of(CONFIGS[0])
    before = [layer.forward for layer in model.model.layers]
    accelerate(model, model.model.layers)
    assert [layer.forward for layer in model.model.layers] == before
    assert model.config._attn_implementation != PACKED


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with it")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler, about itself
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_layers_are_compiled_once_and_compute_the_same() -> None:
    counters = torch._dynamo.utils.counters
    model = model_of(CONFIGS[0])
    for name, parameter in model.named_parameters():
        parameter.requires_grad = ".mlp." in name
    module = PackedLoss(model.train())
    expected = loss_and_gradients(module)
    counters.clear()
    for layer in model.model.layers:
        layer.forward = acceleration._compiled(layer.forward)
    torch.testing.assert_close(loss_and_gradients(module), expected, rtol=1e-4, atol=1e-5)
    assert counters["stats"]["unique_graphs"] == 2  # the first layer's input needs no gradient
    with torch.no_grad():  # measured as it is
        module(TOKENS_BT[:, :7], POSITIONS_BT[:, :7], counted(POSITIONS_BT[:, :7].clone()))
    assert counters["stats"]["unique_graphs"] == 2
