"""Interleaved timings in one process: rounds in which every contestant comes once, and what is kept of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

DENSE = "dense"  # what the others are told in multiples of

Step = Callable[[], Any]


def interleave(
    steps: Mapping[str, Step], rounds: int, seconds: float, after: Callable[[str], None] | None = None
) -> dict[str, list[float]]:
    """Each step's seconds by round, until `rounds` are done or, after three of them, `seconds` have gone.

    The order turns by one each round, so that no contestant always follows the same one. One round before the first is
    not counted. `after` puts right what a step has changed; its time does not count.
    """
    names = list(steps)
    found: dict[str, list[float]] = {name: [] for name in names}
    begin = time.perf_counter()
    for number in range(-1, rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            start = time.perf_counter()
            steps[name]()
            taken = time.perf_counter() - start
            if after:
                after(name)
            if number >= 0:
                found[name].append(taken)
        if number >= 2 and time.perf_counter() - begin > seconds:
            break
    return found
