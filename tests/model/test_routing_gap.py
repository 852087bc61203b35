"""The share of the gap between uniform and oracle routing, by hand."""

from __future__ import annotations

import math

import pytest

from codechoir.model.routing_gap import recovered


def test_the_recovered_share_of_a_gap() -> None:
    assert recovered(0.8, 0.6, 0.6) == pytest.approx(1)
    assert recovered(0.8, 0.6, 0.8) == pytest.approx(0)
    assert recovered(0.8, 0.6, 0.65) == pytest.approx(0.75)
    assert recovered(0.8, 0.6, 0.9) == pytest.approx(-0.5)
    assert recovered(0.6, 0.6, 0.6) is None
    assert recovered(math.nan, 0.6, 0.6) is None
    assert recovered(0.8, 0.6, math.nan) is None
    assert recovered(0.8, 0.7995, 0.7) is None  # a gap that is noise
