"""Finds the feed-forward modules of a decoder that no table knows, from the model itself, without its weights.

In: a config.json. Out: where the feed-forward modules are and what they compute, or an error that names what could not
be told. The model is built on the meta device, so its size does not matter. What a candidate module computes is not
guessed from names: its linear layers are replaced by small random ones and its output is compared with the formulas
that a composed model can say.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from codechoir.errors import IncompatibleModelError
from codechoir.model.checkpoint import model_config, shortened

_WIDTH, _INNER = 6, 10  # of the small stand-ins; unlike each other, so that no two layers can be mistaken
# Sizes that contradict others (an assertion is torch's), settings that are missing or unknown, packages that are.
_CANNOT_BUILD = (ValueError, TypeError, AssertionError, AttributeError, LookupError, ImportError)


@dataclass(frozen=True, slots=True)
class Found:
    """Where the feed-forward modules are, and their formula; the fields mean what they mean in `families.Family`."""

    layers: str
    feed_forward: str
    gate: str | None
    up: str
    down: str
    has_bias: bool
    activation: str


def inspect_model(config: Mapping[str, Any], where: object) -> Found:
    """The feed-forward of an unknown model. Raises IncompatibleModelError naming what could not be told."""
    model = build_on_meta(config, where)
    path, layers = _layers(model, where)
    width = _told(model, "hidden_size", where)
    found = {_in_layer(layer, width, where) for layer in layers}
    if len(found) > 1:
        names = sorted({name for name, *_ in found})
        raise _refused("its layers have different feed-forward modules", f"{', '.join(names)} ({where})")
    feed_forward, modules, has_bias = found.pop()
    module = layers[0].get_submodule(feed_forward)
    told = _formula(module, modules, has_bias, _activations(model.config))
    if told is None:
        raise _refused(
            "what its feed-forward module computes could not be told",
            f"{type(module).__name__} with {', '.join(modules)} ({where})",
        )
    (gate, up, down), activation = told
    return Found(path, feed_forward, gate, up, down, has_bias, activation)


def build_on_meta(config: Mapping[str, Any], where: object) -> Any:
    """The causal LM of a config.json without memory for its weights. Raises IncompatibleModelError."""
    from transformers import AutoModelForCausalLM

    known = model_config(config, where)
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(known)
    except _CANNOT_BUILD as error:
        raise _refused("transformers cannot build a causal language model of it", f"{where}: {error}") from None


def _refused(why: str, seen: str) -> IncompatibleModelError:
    return IncompatibleModelError(
        f"this model family cannot be composed: {why}",
        seen=shortened(seen),
        allowed="a decoder of transformers whose every layer holds one feed-forward module of two or three Linear "
        "layers: down(activation(up(x))) or down(activation(gate(x)) * up(x))",
    )


def _told(model: Any, size: str, where: object) -> int:
    """A size that the decoder's config has under its usual name."""
    told = getattr(model.config.get_text_config(decoder=True), size, None)
    if not isinstance(told, int):
        raise _refused(f"its config has no {size}", f"{model.config.model_type} ({where})")
    return told


def _layers(model: nn.Module, where: object) -> tuple[str, nn.ModuleList]:
    """The list of decoder layers, as long as the config says."""
    num_layers = _told(model, "num_hidden_layers", where)
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == num_layers
    ]
    if len(lists) != 1:
        seen = ", ".join(name for name, _ in lists) or f"no list of {num_layers} modules"
        raise _refused("which modules are its layers could not be told", f"{seen} ({where})")
    return lists[0]


def _in_layer(layer: nn.Module, width: int, where: object) -> tuple[str, tuple[str, ...], bool]:
    """A layer's feed-forward module: its path, the names of its Linear layers, and whether these have biases."""
    found = []
    for name, module in layer.named_modules():
        linear = {child: part for child, part in module.named_children() if type(part) is nn.Linear}
        shapes = sorted((part.in_features, part.out_features) for part in linear.values())
        inner = {size for shape in shapes for size in shape if size != width} or {width}
        if len(inner) != 1 or len(linear) not in (2, 3):
            continue
        size = inner.pop()
        if shapes == sorted([(size, width)] + [(width, size)] * (len(linear) - 1)):
            found.append((name, linear))
    # A module of three D x D layers, as small attention is, is no feed-forward where another one is.
    if len(found) != 1 or not found[0][0]:
        raise _refused(_why_not(layer, found), f"{type(layer).__name__} ({where})")
    name, linear = found[0]
    biases = {part.bias is not None for part in linear.values()}
    if len(biases) > 1:
        raise _refused("only some of its feed-forward layers have biases", f"{type(layer).__name__}.{name} ({where})")
    return name, tuple(linear), biases.pop()


def _why_not(layer: nn.Module, found: Sequence[tuple[str, Mapping[str, nn.Module]]]) -> str:
    """What kept one feed-forward module from being told in a layer."""
    if len(found) > 1:
        return f"a layer holds {len(found)} modules that could be its feed-forward: {', '.join(n for n, _ in found)}"
    if found:
        return f"a layer holds the linear layers of its feed-forward itself: {', '.join(found[0][1])}"
    kinds = {type(part).__name__ for part in layer.modules() if hasattr(part, "weight") and not list(part.children())}
    if "Conv1D" in kinds:
        return "its feed-forward keeps its weights transposed (Conv1D)"
    fused = [name for name, part in layer.named_modules() if "gate_up" in name and isinstance(part, nn.Linear)]
    if fused:
        return f"its gate and up layers are fused: {fused[0]}"
    return "no module of a layer has two or three Linear layers from the width to an inner width and back"


def _activations(config: Any) -> list[str]:
    """The names of activations that a config mentions."""
    from transformers.activations import ACT2FN

    values = config.get_text_config(decoder=True).to_dict().values()
    return [value for value in values if isinstance(value, str) and value in ACT2FN]


@torch.no_grad()
def _formula(
    module: nn.Module, names: tuple[str, ...], has_bias: bool, activations: list[str]
) -> tuple[tuple[str | None, str, str], str] | None:
    """The roles of the Linear layers and the activation under which the module's output is what a formula gives."""
    from transformers.activations import ACT2FN

    generator = torch.Generator().manual_seed(0)
    for roles in _roles(module, names):
        gate, up, down = roles
        small = copy.deepcopy(module).eval()
        for name in names:
            shape = (_INNER, _WIDTH) if name == down else (_WIDTH, _INNER)
            small.set_submodule(name, _small_linear(*shape, has_bias, generator))
        x_BTD = torch.randn(2, 3, _WIDTH, generator=generator)
        try:
            given = small(x_BTD)
        except (TypeError, ValueError, RuntimeError, AttributeError, NotImplementedError):
            continue
        for activation in activations:
            act = ACT2FN[activation]
            inner = act(small.get_submodule(up)(x_BTD))
            if gate is not None:
                inner = act(small.get_submodule(gate)(x_BTD)) * small.get_submodule(up)(x_BTD)
            expected = small.get_submodule(down)(inner)
            if isinstance(given, torch.Tensor) and given.shape == expected.shape and torch.allclose(given, expected):
                return roles, activation
    return None


def _roles(module: nn.Module, names: tuple[str, ...]) -> Iterator[tuple[str | None, str, str]]:
    """Every way to name gate, up and down that the shapes allow."""
    for order in itertools.permutations(names):
        roles = (None, *order) if len(order) == 2 else order
        gate, up, down = roles
        wide = module.get_submodule(str(up))
        narrow = module.get_submodule(str(down))
        if (wide.in_features, wide.out_features) == (narrow.out_features, narrow.in_features):
            yield gate, str(up), str(down)


def _small_linear(width_in: int, width_out: int, has_bias: bool, generator: torch.Generator) -> nn.Linear:
    layer = nn.Linear(width_in, width_out, bias=has_bias)
    for parameter in layer.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return layer
