"""A causal language model whose decoder layers hold weights only while they run.

In: a config, and a way to read a weight by its name. Out: a transformers model, called as any other, whose memory is
its embeddings, one layer and the activations, however large it is. Each forward pass reads every layer's weights anew,
so passes should be few and long. Knows no format: whoever reads decides what a name means.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from codechoir.model.checkpoint import model_config

Read = Callable[[str], torch.Tensor]
Kind = tuple[torch.device, torch.dtype]


def skeleton(config: Mapping[str, Any], backend: str | None = None) -> Any:
    """The causal LM of a config.json, to be evaluated: weights on the meta device, values that it computes real.

    `backend` names transformers' expert backend, for a model that has experts.
    """
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    settings = model_config(config, "the model's config")
    if backend:
        settings._experts_implementation = backend
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(settings)
    model.tie_weights()
    return model.requires_grad_(requires_grad=False).eval()


@contextmanager
def reading_by_layer(model: Any, layers: str, read: Read, to: Kind, *, head: bool = True) -> Iterator[None]:
    """Gives a skeleton its weights while the context lasts. `layers` is the path of its list of decoder layers.

    `to` says on which device they lie, and in which number format.
    What lies outside the layers is read at once; without `head`, only what `model.base_model` has. A weight that the
    model ties to another is read once, under its first name.
    """
    inside = f"{layers}."
    decoder = f"{model.base_model_prefix}."
    for module in model.modules():
        for leaf, buffer in module.named_buffers(recurse=False):
            module.register_buffer(leaf, buffer.to(to[0]), leaf not in module._non_persistent_buffers_set)
    outside = [name for name in _weights(model) if not name.startswith(inside) and (head or name.startswith(decoder))]
    _fill(model, "", outside, read, to)
    model.tie_weights()
    handles = []
    for number, layer in enumerate(model.get_submodule(layers)):
        names = _weights(layer)

        def fill(module: nn.Module, *_: Any, prefix: str = f"{inside}{number}.", names: list[str] = names) -> None:
            _fill(module, prefix, names, read, to)

        def empty(module: nn.Module, *_: Any, names: list[str] = names) -> None:
            _empty(module, names)
            _give_back_memory()

        handles += [layer.register_forward_pre_hook(fill), layer.register_forward_hook(empty)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        _empty(model, outside)
        model.tie_weights()  # anew: what is tied has lost its one parameter
        _give_back_memory()


def _give_back_memory() -> None:
    """Lets the C library return what was freed: blocks of a layer's sizes else pile up between those still in use."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim:
        trim(0)


def _weights(module: nn.Module) -> list[str]:
    """What a checkpoint holds of a module: parameters and persistent buffers, each under its first name."""
    held = module.state_dict().keys()
    named = [*module.named_parameters(), *module.named_buffers()]
    return [name for name, _ in named if name in held]


def _fill(module: nn.Module, prefix: str, names: Iterable[str], read: Read, to: Kind) -> None:
    device, dtype = to
    for name in names:
        tensor = read(prefix + name)
        tensor = tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype)
        _put(module, name, tensor)


def _empty(module: nn.Module, names: Iterable[str]) -> None:
    for name in names:
        _put(module, name, torch.empty(0, device="meta"))


def _put(module: nn.Module, name: str, tensor: torch.Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    if leaf in owner._parameters:
        owner._parameters[leaf] = nn.Parameter(tensor, requires_grad=False)
    else:
        owner._buffers[leaf] = tensor
