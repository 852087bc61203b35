"""The pictures' arithmetic: axes, thinning, and where marks land."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.report.figures import (
    Axes,
    Label,
    Range,
    Series,
    heat_map,
    interval_plot,
    line_chart,
    thinned,
    tick_text,
    ticks,
)
from codechoir.report.view import Figure

LABEL = Label("name", "caption", "words")
sizes = st.floats(min_value=1e-6, max_value=1e9)
places = st.floats(min_value=-1e6, max_value=1e6)


def elements(figure: Figure) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(f"<svg>{figure.body}</svg>"))


@given(low=places, size=sizes)
def test_ticks_hold_the_range_and_are_few_and_even(low: float, size: float) -> None:
    high = low + size
    found = ticks(low, high)
    slack = 1e-6 * max(abs(found[0]), abs(found[-1]), high - low)
    assert found[0] <= low + slack
    assert found[-1] >= high - slack
    assert 2 <= len(found) <= 12
    steps = [b - a for a, b in pairwise(found)]
    assert max(steps) == pytest.approx(min(steps), rel=1e-3)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5])
def test_ticks_of_a_single_value_still_span(value: float) -> None:
    found = ticks(value, value)
    assert found[0] <= value <= found[-1]
    assert found[0] < found[-1]


def test_tick_texts_are_short_and_distinct() -> None:
    assert [tick_text(t, [0, 5e5, 1e6]) for t in (0, 5e5, 1e6)] == ["0", "0.5M", "1.0M"]
    assert [tick_text(t, [-0.02, 0, 0.02]) for t in (-0.02, 0, 0.02)] == ["−0.02", "0", "0.02"]
    assert tick_text(2500, [0, 2500, 5000]) == "2.5k"


@given(values=st.lists(places, min_size=1, max_size=300), limit=st.integers(2, 50))
def test_thinning_keeps_order_count_and_mean_position(values: list[float], limit: int) -> None:
    points = [(float(i), value) for i, value in enumerate(values)]
    found = thinned(points, limit)
    assert len(found) == min(limit, len(points))
    assert [x for x, _ in found] == sorted(x for x, _ in found)
    assert min(values) - 1e-6 <= min(y for _, y in found)
    assert max(y for _, y in found) <= max(values) + 1e-6


def test_thinning_averages_equal_buckets() -> None:
    assert thinned([(0, 1), (1, 3), (2, 5), (3, 9)], 2) == ((0.5, 2.0), (2.5, 7.0))


def test_heat_map_shades_by_share_and_escapes_names() -> None:
    figure = heat_map(LABEL, ["<r>"], ["a", "b&"], {("<r>", "a"): 0.25, ("<r>", "b&"): 1.0})
    found = elements(figure)[0]
    assert [float(e.attrib["fill-opacity"]) for e in found if "fill-opacity" in e.attrib] == [0.25, 1.0]
    assert [e.text for e in found if e.tag == "text"] == ["a", "b&", "<r>", "0.250", "1.000"]
    assert {e.text: e.attrib["class"] for e in found if e.tag == "text"}["1.000"] == "on"
    rects = [e for e in found if e.tag == "rect"]
    assert max(float(e.attrib["x"]) + float(e.attrib["width"]) for e in rects) <= figure.width


def test_line_chart_puts_points_to_scale() -> None:
    axes = Axes("x", "y", (0.0, 1.0))
    figure = line_chart(LABEL, axes, [Series("a", ((0, 0.0), (5, 0.5), (10, 1.0))), Series("<b>", ((0, 1.0),), 3)])
    lines = [e for e in elements(figure) if e.tag == "polyline"]
    (x0, y0), (x1, y1), (x2, y2) = (tuple(map(float, p.split(","))) for p in lines[0].attrib["points"].split())
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert y0 > y2  # upwards
    assert "c3" in lines[1].attrib["class"]
    assert {e.text for e in elements(figure)} >= {"a", "<b>", "x", "y"}
    assert len(lines) == 4  # two lines, two in the legend


def test_interval_plot_marks_value_and_ends_about_zero() -> None:
    rows = [Range("better", -2.0, -3.0, -1.0, "good"), Range("undefined", math.nan, math.nan, math.nan, "even")]
    found = elements(interval_plot(LABEL, "unit", rows, (-3.0, 1.0)))
    dots = [e for e in found if e.tag == "circle"]
    (whisker,) = (e for e in found if "whisker" in e.attrib.get("class", ""))
    (zero,) = (e for e in found if e.attrib.get("class") == "zero")
    assert len(dots) == 1
    assert "good" in dots[0].attrib["class"]
    low, value, high, nought = (
        float(v) for v in (whisker.attrib["x1"], dots[0].attrib["cx"], whisker.attrib["x2"], zero.attrib["x1"])
    )
    assert value - low == pytest.approx(high - value, abs=0.2)
    assert nought - high == pytest.approx(high - value, abs=0.2)


def test_interval_plot_always_shows_zero() -> None:
    found = elements(interval_plot(LABEL, "unit", [Range("a", 2.0, 1.5, 2.5, "bad")], (1.5, 2.5)))
    assert [e for e in found if e.attrib.get("class") == "zero"]
    assert re.fullmatch(r"-?[\d.]+", found[0].attrib["x1"])
