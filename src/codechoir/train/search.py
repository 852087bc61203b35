"""The learning-rate search: one arm tried with each rate on the first share of its sequences, the best one taken.

Every arm is tried alike, so that none is favoured: each try has the arm's start, weights and schedule, the schedule
shrunk to the tried steps, and is judged by the mean held-out bits per byte at its end. A try is a stage folder of
its own, finished and resumed like a branch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from codechoir.artifacts import StageFolder
from codechoir.model.config import share_of
from codechoir.train.branch import Branch, finished_or, train_branch
from codechoir.train.config import TrainConfig
from codechoir.train.sequences import First
from codechoir.train.validation import mean_bits


def search_rate(
    branch: Branch, config: TrainConfig, folder_of: Callable[[float], StageFolder]
) -> tuple[float, list[dict[str, Any]]]:
    """The best of `config.learning_rates` for the branch, and every try: its rate, steps, tokens and bits per byte."""
    num_steps = -(-len(branch.sequences) // config.sequences_per_step)
    count = share_of(config.search_share, num_steps) * config.sequences_per_step
    settings = {"patience": 0, "bad_step": "skip", "max_skips": num_steps + 1}  # a rate too high loses, no more
    tries, means = [], []
    for rate in config.learning_rates:
        name, sequences = f"{branch.name}, rate {rate:g}", First(branch.sequences, count)
        tried = replace(branch, name=name, sequences=sequences, keeps_model=False)
        told, folder = config.model_copy(update=settings | {"learning_rate": rate}), folder_of(rate)
        facts = finished_or(folder, partial(train_branch, tried, told, folder)).facts
        means.append(mean_bits(facts["bits_per_byte"][-1][1]))
        bits = means[-1] if math.isfinite(means[-1]) else None
        tries.append({"learning_rate": rate, "steps": facts["steps"], "tokens": facts["tokens"], "bits_per_byte": bits})
    return config.learning_rates[means.index(min(means))], tries
