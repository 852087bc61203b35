"""Rows of new tokens that train where the rest of the vocabulary is frozen.

A base without infilling tokens gets them with rows that mean nothing yet (model/infilling_tokens.py). They are
weights of their own here, put into the frozen tensors before each pass, so that no gradient of a whole vocabulary is
made. Shapes: K new tokens, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from codechoir.model.infilling_tokens import NewRows


class TrainedRows(nn.Module):
    """The new rows of a model's input embedding and, where that is not tied to it, of its head."""

    def __init__(self, model: Any, new: NewRows) -> None:
        super().__init__()
        self.rows = new.rows
        embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
        self.input_KD = self._of(embedding.weight)
        self.output_KD = self.input_KD if head.weight is embedding.weight else self._of(head.weight)
        self.bias_K = None if head.bias is None else self._of(head.bias)
        embedding.register_forward_hook(self._carry)
        head.register_forward_hook(self._carry_out)

    def _of(self, weight: torch.Tensor) -> nn.Parameter:
        return nn.Parameter(weight.detach()[self.rows.start : self.rows.stop].clone())

    @torch.no_grad()
    def put(self, model: Any) -> None:
        """Writes the rows into the model's frozen tensors."""
        head = model.get_output_embeddings()
        for tensor, rows in (
            (model.get_input_embeddings().weight, self.input_KD),
            (head.weight, self.output_KD),
            (head.bias, self.bias_K),
        ):
            if tensor is not None and rows is not None:
                tensor.data[self.rows.start : self.rows.stop] = rows.to(tensor.dtype)

    def _carry(self, embedding: Any, arguments: tuple[torch.Tensor, ...], states_BTD: torch.Tensor) -> torch.Tensor:
        """The embedding's states as they are, with the rows in their gradient's way."""
        ids_K = torch.arange(self.rows.start, self.rows.stop, device=states_BTD.device)
        is_BTK = arguments[0][..., None] == ids_K
        scale = getattr(embedding, "embed_scale", 1.0)  # Gemma multiplies its embeddings
        nothing_KD = (self.input_KD - self.input_KD.detach()) * scale
        # A product, not a look-up: a GPU adds up the gradients of equal indices one after the other.
        return states_BTD + is_BTK.to(nothing_KD.dtype) @ nothing_KD

    def _carry_out(self, head: Any, arguments: tuple[torch.Tensor, ...], logits_BTV: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """The head's logits as they are, with the rows in their gradient's way: for a loss that calls the head."""
        nothing_BTK = functional.linear(
            arguments[0],
            self.output_KD - self.output_KD.detach(),
            None if self.bias_K is None else self.bias_K - self.bias_K.detach(),
        )
        before, after = self.rows.start, logits_BTV.shape[-1] - self.rows.stop
        return logits_BTV + functional.pad(nothing_BTK, (before, after))
