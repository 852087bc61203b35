"""New tokens' rows get the gradients that they would have if the whole vocabulary trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, CohereConfig, GraniteConfig, LlamaConfig

from codechoir.model.infilling_tokens import NewRows
from codechoir.train.loss import PackedLoss, counted
from codechoir.train.new_rows import TrainedRows

SIZES: dict[str, Any] = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2, "pad_token_id": None, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
ROWS = range(36, 39)  # of a vocabulary that is padded


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    ("kind", "more", "is_plain"),
    [(LlamaConfig, {}, True), (GraniteConfig, {"logits_scaling": 4.0}, False), (CohereConfig, {}, False)],
)
def test_gradients_are_the_whole_vocabularys(kind: Any, more: dict[str, float], is_plain: bool, tied: bool) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(kind(**SIZES, **more, tie_word_embeddings=tied))
    tokens_BT = torch.randint(30, 40, (2, 12))
    positions_BT = torch.arange(12).expand(2, -1)
    logits_BTV = model(input_ids=tokens_BT, position_ids=positions_BT, use_cache=False).logits
    functional.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), tokens_BT[:, 1:].flatten(), reduction="sum").backward()
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    expected = [each.grad[ROWS.start : ROWS.stop].clone() for each in (embedding, head)]

    model.zero_grad()
    model.requires_grad_(False)
    rows = TrainedRows(model, NewRows(ROWS, ()))
    module = PackedLoss(model, rows)
    assert module.is_plain == is_plain
    module(tokens_BT, positions_BT, counted(positions_BT.clone())).backward()
    for found, wanted in zip((rows.input_KD.grad, rows.output_KD.grad), expected, strict=True):
        assert found is not None and wanted.abs().max() > 0
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
