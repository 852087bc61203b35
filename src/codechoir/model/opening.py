"""Any model by its path, ready to be asked: a dense or composed folder, or a GGUF file.

Out: its running engine, and the folder's tokenizer for what engines do not know (infilling, chat, files).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codechoir.model.batching import TransformersBackend
from codechoir.model.checkpoint import load_model, load_tokenizer
from codechoir.model.device import compute_device, compute_dtype
from codechoir.model.llama_cpp_engine import open_gguf
from codechoir.model.moe import ROUTING_JSON, Routing, load_composed, open_composed
from codechoir.model.scheduler import ContinuousEngine


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """An engine, and transformers' tokenizer; None for a GGUF file, which has its tokenizer within."""

    engine: ContinuousEngine
    tokenizer: Any | None


def open_any(path: Path, max_sequences: int) -> OpenedModel:
    """Loads a model and starts its engine. A composed model routes by the prompt where a request says nothing.

    A GGUF file is told by its name's end. Raises InputError, ToolMissingError.
    """
    if path.suffix == ".gguf":
        return OpenedModel(open_gguf(path), None)
    dtype = compute_dtype("auto")
    if (path / ROUTING_JSON).exists():
        composed = open_composed(path)
        top_k = min(len(composed.experts), int(composed.checkpoint.config.get("num_experts_per_tok") or 2))
        model = load_composed(path, Routing.PROMPT, top_k, dtype)
    else:
        model = load_model(path, dtype)
    tokenizer = load_tokenizer(path)
    return OpenedModel(
        ContinuousEngine(TransformersBackend(model.to(compute_device()), tokenizer), max_sequences), tokenizer
    )
