"""Model families as data: where a decoder keeps its layers and its feed-forward module.

Owns the table and nothing else; `moe.py` and `checkpoint.py` work from an entry, never from a family's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from codechoir.errors import IncompatibleModelError


@dataclass(frozen=True, slots=True)
class Family:
    """A gated feed-forward family: down(activation(gate(x)) * up(x)), no biases.

    `layers` and `feed_forward` are attribute paths, from the causal LM to its list of layers and from a layer to its
    feed-forward module; tensor names follow them.
    """

    model_type: str
    layers: str
    feed_forward: str
    gate: str
    up: str
    down: str

    def feed_forward_prefix(self, layer: int) -> str:
        """The prefix of a layer's feed-forward tensors, with its trailing dot."""
        return f"{self.layers}.{layer}.{self.feed_forward}."

    def is_feed_forward(self, tensor: str) -> bool:
        """Whether a tensor (or parameter) belongs to a feed-forward module."""
        return tensor.startswith(f"{self.layers}.") and f".{self.feed_forward}." in tensor


FAMILIES: dict[str, Family] = {
    name: Family(name, "model.layers", "mlp", "gate_proj", "up_proj", "down_proj") for name in ("llama", "mistral")
}


def family_of(config: Mapping[str, Any], where: object) -> Family:
    """The family of a model by its config.json. Raises IncompatibleModelError, naming what cannot be composed."""
    model_type = config.get("model_type")
    family = FAMILIES.get(str(model_type))
    if family is None:
        raise IncompatibleModelError(
            "this model family cannot be composed", seen=f"{model_type} ({where})", allowed=", ".join(FAMILIES)
        )
    for key in ("attention_bias", "mlp_bias"):
        if config.get(key):
            raise IncompatibleModelError(
                f"the composed format has no place for the biases that {key} turns on",
                seen=where,
                allowed=f"{key}: false",
            )
    activation = config.get("hidden_act", "silu")
    if activation != "silu":
        raise IncompatibleModelError("another activation", seen=f"{activation} ({where})", allowed="silu")
    return family
