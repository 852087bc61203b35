"""Figures of validation that no model is needed for; those of models are in test_stage.py."""

from __future__ import annotations

import torch

from codechoir.compose.tuning.measure import load_facts


def test_load_and_dead_experts() -> None:
    shares, dead = load_facts(torch.tensor([[3, 1, 0], [0, 2, 2]]), (4, 7), ("a", "b", "c"))
    assert shares == {"4": {"a": 0.75, "b": 0.25, "c": 0.0}, "7": {"a": 0.0, "b": 0.5, "c": 0.5}}
    assert dead == {"4": ["c"], "7": ["a"]}
