"""A trial's figures that are easy to reckon with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from codechoir.planning.curate_trial import CurateTrial
from codechoir.planning.model_trial import ModelTrial
from codechoir.recipe import Recipe, load_recipe

TINY = Path(__file__).parents[2] / "recipes" / "tiny.yaml"


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe(TINY)


@pytest.fixture
def curate_trial() -> CurateTrial:
    return CurateTrial(
        num_files=10,
        num_bytes=1000,
        num_read=2000,
        written_bytes=250,
        first_seconds=3.0,
        gather_seconds=1.0,
        judge_seconds=2.0,
        first_memory=400,
        memory=500,
    )


@pytest.fixture
def model_trial() -> ModelTrial:
    values: dict[str, Any] = {
        "device": "cpu",
        "number_bytes": 4,
        "parameters": 1000,
        "feed_forward": 600,
        "vocabulary": 10,
        "first_memory": 7000,
        "memory": 9000,
        "device_memory": 0,
        "folder_bytes": 2500,
        "branch_bytes": 2500,
        "trained_parameters": 600,
        "num_steps": 3,
        "step_seconds": 2.0,
        "trunk_step_seconds": 5.0,
        "branch_seconds": 1.0,
        "tokenize_rate": 1000.0,
        "load_seconds": 0.5,
        "cache_bytes": 6,
        "score_rate": 100.0,
        "complete_seconds": 0.25,
        "prompt_tokens": {"python": 300},
        "moment_bytes": 70,
        "router_seconds": 0.1,
    }
    return ModelTrial(**values)
