"""The next-token loss of packed sequences.

In: a causal LM, tokens and positions. Out: the sum of the losses (nats) of the tokens that count. Shapes: B sequences,
T tokens, N tokens that count, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from codechoir.model.head_loss import HeadRows, head_is_plain, head_loss
from codechoir.model.packed_attention import document_ends, forward_told
from codechoir.train.new_rows import TrainedRows


class PackedLoss(nn.Module):
    """A causal LM as a function from packed sequences to the sum of their losses."""

    def __init__(self, model: Any, new_rows: TrainedRows | None = None) -> None:
        super().__init__()
        self.model = model
        self.new_rows = new_rows
        with forward_told(model):
            self.is_plain = head_is_plain(model)

    def forward(self, tokens_BT: torch.Tensor, positions_BT: torch.Tensor, counts_BT: torch.Tensor) -> torch.Tensor:
        """The sum over the tokens where `counts_BT`, of the loss of each given those before it; column 0 never counts.

        `positions_BT` are positions within documents: attention stays inside of each.
        """
        if self.new_rows is not None:
            self.new_rows.put(self.model)
        counts_BS, targets_N = counts_BT[:, 1:], tokens_BT[:, 1:][counts_BT[:, 1:]]
        told = {"position_ids": positions_BT, "use_cache": False} | document_ends(self.model, positions_BT)
        if not self.is_plain:
            logits_BTV = self.model(input_ids=tokens_BT, **told).logits
            return functional.cross_entropy(logits_BTV[:, :-1][counts_BS].float(), targets_N, reduction="sum")
        hidden_BTD = self.model.base_model(input_ids=tokens_BT, **told).last_hidden_state
        return head_loss(self.model, hidden_BTD[:, :-1][counts_BS], targets_N, self._new_rows())

    def _new_rows(self) -> HeadRows | None:
        new = self.new_rows
        return None if new is None else HeadRows(new.output_KD, new.bias_K, new.rows.start)


def counted(positions_BT: torch.Tensor) -> torch.Tensor:
    """The tokens that are a target: all but a document's first and a sequence's first."""
    counts_BT = positions_BT != 0
    counts_BT[:, 0] = False
    return counts_BT
