"""A small composed model whose experts really differ, in either form, and a quick way to tune it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codechoir.compose.config import ComposeConfig, TuneConfig
from codechoir.compose.stage import ComposeInputs, compose
from codechoir.compose.tuning.stage import TuneInputs, tune

SMALL = {
    "sequence_length": 48,
    "sequences_per_language": 1,
    "steps": 8,
    "validate_every": 4,
    "validation_sequences": 2,
    "learning_rate": 0.02,
    "precision": "float32",
    "checkpoint_seconds": 0,
}

Tuned = Callable[..., tuple[Path, dict[str, Any]]]


@pytest.fixture(scope="session")
def own_form(compose_config: ComposeConfig, compose_inputs: ComposeInputs, tmp_path_factory: Any) -> Path:
    """Experts in layer 1 alone, in our own form, with the generalist."""
    folder = tmp_path_factory.mktemp("own") / "compose"
    experts = {name: compose_inputs.experts[name] for name in ("python", "java")}
    config = compose_config.model_copy(update={"layers": "1", "generalist": True, "shared": "base", "prove": False})
    compose(config, replace(compose_inputs, experts=experts), folder)
    return folder


@pytest.fixture
def tuned(composed: Path, documents: Path, tmp_path: Path) -> Tuned:
    """`tuned(model=composed, out="out", **config)`: the tuned folder and what its manifest says."""

    def run(
        model: Path = composed, out: str = "out", given: Path = documents, left: Any = None, **settings: Any
    ) -> Any:
        config = TuneConfig.model_validate(SMALL | settings)
        manifest = tune(config, TuneInputs(model, given, {"model": str(model)}, left), tmp_path / out)
        return tmp_path / out, dict(manifest.facts)

    return run
