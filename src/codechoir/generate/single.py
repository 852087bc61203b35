"""One model folder, dense or composed, ready to complete prompts outside a run."""

from __future__ import annotations

from pathlib import Path

from codechoir.errors import ConfigError
from codechoir.model.checkpoint import load_model, load_tokenizer
from codechoir.model.device import compute_device, compute_dtype
from codechoir.model.engine import Engine
from codechoir.model.moe import ROUTING_JSON, Routing, load_composed, open_composed


def load_any(folder: Path, routing: str, top_k: int) -> tuple[Engine, str | None]:
    """An engine over the folder's model, and the expert that requests must name (fixed routing alone).

    `routing` is prompt, token, uniform or an expert's language; a dense model ignores it.
    """
    dtype = compute_dtype("auto")
    expert: str | None = None
    if (folder / ROUTING_JSON).exists():
        experts = open_composed(folder).experts
        modes = {mode.value: mode for mode in (Routing.PROMPT, Routing.TOKEN, Routing.UNIFORM)}
        if routing not in modes and routing not in experts:
            raise ConfigError("unknown routing", seen=routing, allowed=", ".join([*modes, *experts]))
        if not 1 <= top_k <= len(experts):
            raise ConfigError("no such number of experts", seen=top_k, allowed=f"1 to {len(experts)}")
        expert = routing if routing in experts else None
        model = load_composed(folder, modes.get(routing, Routing.FIXED), top_k, dtype)
    else:
        model = load_model(folder, dtype)
    return Engine(model.to(compute_device()), load_tokenizer(folder), batch_size=16), expert
