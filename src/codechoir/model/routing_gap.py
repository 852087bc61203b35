"""How much of what routing can gain a router gains: a pure function of three measurements of one text."""

from __future__ import annotations

import math

_LEAST_GAP = 1e-3  # of the oracle's: shares of a smaller gap are noise


def recovered(uniform: float, oracle: float, routed: float) -> float | None:
    """The share of the gap from uniform to oracle routing that a router closes; None where there is no such gap.

    Of losses or bits per byte. 1 is as good as oracle, 0 as bad as uniform; below 0 and above 1 can be.
    """
    gap = uniform - oracle
    return (uniform - routed) / gap if gap > _LEAST_GAP * abs(oracle) and math.isfinite(routed) else None
