"""Model families as data: where a decoder keeps its layers and its feed-forward modules, and what these compute.

Owns the table and how a config.json picks from it. Whoever works with a model works from a `Family`, never from a
family's name. What the table lacks is found by `inspection.py` from the model itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from codechoir.errors import ConfigError
from codechoir.model.checkpoint import model_config
from codechoir.model.inspection import inspect_model

Native = Literal["mixtral"]


@dataclass(frozen=True, slots=True)
class Family:
    """How one model's feed-forward is made: down(activation(gate(x)) * up(x)), or down(activation(up(x))) ungated.

    `layers` and `feed_forward` are attribute paths, from the causal LM to its list of layers and from a layer to its
    feed-forward module; tensor names follow them. `gate`, `up` and `down` are linear layers of that module, all with
    biases or none. `native` is the format of transformers that can say all of a composed model's layers, if any does.
    """

    model_type: str
    layers: str
    feed_forward: str
    gate: str | None
    up: str
    down: str
    has_bias: bool
    activation: str  # as transformers' ACT2FN names it
    native: Native | None

    @property
    def modules(self) -> tuple[str, ...]:
        """The linear layers of a feed-forward module: gate (where there is one), up, down."""
        return (self.up, self.down) if self.gate is None else (self.gate, self.up, self.down)

    def feed_forward_prefix(self, layer: int) -> str:
        """The prefix of a layer's feed-forward tensors, with its trailing dot."""
        return f"{self.layers}.{layer}.{self.feed_forward}."

    def feed_forward_names(self, layer: int) -> list[str]:
        """All tensors of a layer's feed-forward module."""
        kinds = ("weight", "bias") if self.has_bias else ("weight",)
        return [f"{self.feed_forward_prefix(layer)}{module}.{kind}" for module in self.modules for kind in kinds]

    def is_feed_forward(self, tensor: str) -> bool:
        """Whether a tensor (or parameter) belongs to a feed-forward module."""
        return tensor.startswith(f"{self.layers}.") and f".{self.feed_forward}." in tensor

    def describe(self) -> dict[str, Any]:
        """The `feed_forward` of a composed config.json."""
        return {
            "layers": self.layers,
            "module": self.feed_forward,
            "gate": self.gate,
            "up": self.up,
            "down": self.down,
            "has_bias": self.has_bias,
            "activation": self.activation,
        }

    @classmethod
    def restore(cls, model_type: str, told: Mapping[str, Any]) -> Family:
        """The family that `describe` told of. Raises KeyError."""
        places = (told["layers"], told["module"], told["gate"], told["up"], told["down"])
        return cls(model_type, *places, has_bias=bool(told["has_bias"]), activation=told["activation"], native=None)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A family's row. `activation` is a key of its config; `bias` is one too where the config decides."""

    layers: str
    feed_forward: str
    modules: tuple[str | None, str, str]  # gate, up, down
    activation: str
    bias: bool | str = False
    native: Native | None = None


_GATED = ("gate_proj", "up_proj", "down_proj")
_LLAMA = _Entry("model.layers", "mlp", _GATED, "hidden_act", bias="mlp_bias", native="mixtral")
_QWEN = _Entry("model.layers", "mlp", _GATED, "hidden_act")
_GEMMA2 = _Entry("model.layers", "mlp", _GATED, "hidden_activation")

FAMILIES: Mapping[str, _Entry] = {
    "llama": _LLAMA,
    "mistral": _Entry("model.layers", "mlp", _GATED, "hidden_act", native="mixtral"),
    "qwen2": _QWEN,
    "qwen3": _QWEN,
    "olmo2": _QWEN,
    "gemma": _QWEN,
    "gemma2": _GEMMA2,
    "gemma3_text": _GEMMA2,
    "starcoder2": _Entry("model.layers", "mlp", (None, "c_fc", "c_proj"), "hidden_act", bias="use_bias"),
    "phi": _Entry("model.layers", "mlp", (None, "fc1", "fc2"), "hidden_act", bias=True),
    "gpt_bigcode": _Entry("transformer.h", "mlp", (None, "c_fc", "c_proj"), "activation_function", bias=True),
    "codegen": _Entry("transformer.h", "mlp", (None, "fc_in", "fc_out"), "activation_function", bias=True),
    "gpt_neox": _Entry(
        "gpt_neox.layers", "mlp", (None, "dense_h_to_4h", "dense_4h_to_h"), "hidden_act", bias=True
    ),
}  # fmt: skip


def family_of(config: Mapping[str, Any], where: object) -> Family:
    """The family of a model by its config.json. Raises IncompatibleModelError, naming what cannot be composed."""
    model_type = str(config.get("model_type"))
    entry = FAMILIES.get(model_type)
    if entry is None:
        found = inspect_model(config, where)
        return Family(model_type, **asdict(found), native=None)
    full = config if _says_all(entry, config) else _with_defaults(config, where)
    has_bias = bool(full[entry.bias]) if isinstance(entry.bias, str) else entry.bias
    activation = str(full[entry.activation])
    # Mixtral has no biases, and its experts take one activation.
    native = None if has_bias or activation != "silu" or config.get("attention_bias") else entry.native
    return Family(model_type, entry.layers, entry.feed_forward, *entry.modules, has_bias, activation, native)


@dataclass(frozen=True, slots=True)
class Decoder:
    """A decoder's sizes, by whatever names its config has them."""

    num_layers: int
    width: int
    vocabulary: int


def context_length(config: Any) -> int | None:
    """The most tokens that a model has positions for, by transformers' config of it; None where it does not say."""
    told = (getattr(config, name, None) for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"))
    return next((value for value in told if value), None)


def check_length(name: str, length: int, most: int | None) -> None:
    """Raises ConfigError where a model has positions for fewer tokens than a recipe's key `name` asks for."""
    if most is not None and length > most:
        raise ConfigError(
            "the model has no positions for so much text",
            seen=f"{name} {length}",
            allowed=f"at most {most}",
            next_step=f"lower {name}; a stage's own command takes it as --set {name.rpartition('.')[2]}",
        )


def decoder_of(config: Mapping[str, Any], where: object) -> Decoder:
    """The sizes that a config.json tells, defaults included. Raises IncompatibleModelError."""
    known = model_config(config, where)
    return Decoder(known.num_hidden_layers, known.hidden_size, known.vocab_size)


def _says_all(entry: _Entry, config: Mapping[str, Any]) -> bool:
    """Whether a config.json names what its family leaves open; keys that it lacks have the model class's defaults."""
    return entry.activation in config and (not isinstance(entry.bias, str) or entry.bias in config)


def _with_defaults(config: Mapping[str, Any], where: object) -> Mapping[str, Any]:
    return dict(model_config(config, where).to_dict())
