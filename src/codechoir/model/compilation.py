"""Modules' forward passes compiled by torch, where that pays and this machine can.

The environment variable TORCH_COMPILE_DISABLE=1 keeps torch from compiling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
from torch import nn

from codechoir.console import say
from codechoir.model.device import compute_device

_MAX_GRAPHS = 200  # within torch's limit for a function in all its uses, 256
_WORTH_COMPILING = 2e12  # parameters times tokens: about two minutes on two cores, of which compiling takes 20 s


def pays_to_compile(num_parameters: int, num_tokens: int) -> bool:
    """Whether training so large a model on so many tokens is shortened by more than compiling takes."""
    return compute_device().type != "cpu" or num_parameters * num_tokens >= _WORTH_COMPILING


def compile_forward(modules: Iterable[nn.Module], device: torch.device) -> None:
    """Compiles the modules' forward passes where gradients are wanted and this machine can.

    Without gradients, as in measuring, in sequences of any length, they stay as they are. One compilation serves
    modules whose code is one; the whole model would take minutes. Each shape has its own, so that a step computes the
    same whatever went before it.
    """
    if not _can_compile(device.type):
        return
    # Each shape and way has a graph; past torch's own limit of 8 for all branches modules would run uncompiled.
    torch._dynamo.config.recompile_limit = max(_MAX_GRAPHS, torch._dynamo.config.recompile_limit)
    for module in modules:
        if not isinstance(module.forward, _Compiled):  # a trial's second loop over a model
            module.forward = _Compiled(module.forward)


@cache
def _can_compile(device: str) -> bool:
    """Whether torch finds the compiler that it needs: it looks for one when first asked to compile."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(2, device=device))
    except Exception as error:  # of many kinds, by what is missing
        cause = str(getattr(error, "inner_exception", error)).strip()
        say(f"training without torch.compile, which fails here: {cause.splitlines()[0] if cause else type(error)}")
        return False
    return True


class _Compiled:
    """A forward pass, compiled where gradients are wanted."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        self._plain, self._compiled = forward, torch.compile(forward, dynamic=False)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return (self._compiled if torch.is_grad_enabled() else self._plain)(*arguments, **named)
