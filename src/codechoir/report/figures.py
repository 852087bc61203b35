"""Pictures as SVG: heat maps, line charts and interval plots, drawn with plain elements and style classes.

Units are CSS pixels. Colours come from the style sheets (light and dark), never from here; no figure needs colour alone
to be read. Every text that comes from a run is escaped here. Knows nothing of models or metrics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from codechoir.report.view import Figure, Tone

WIDTH = 440
PALETTE = 8  # line styles that the style sheet knows, c0 .. c7
CHARACTER = 6.7  # a character's mean width at the label size


@dataclass(frozen=True, slots=True)
class Label:
    """What every figure says of itself."""

    name: str  # file name and id
    caption: str
    alternative: str


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart: (x, y) in the order of x; `style` picks its colour and dash, 0 .. PALETTE - 1.

    A line with gaps is several, of one name and style: the legend names them once.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    style: int = 0


@dataclass(frozen=True, slots=True)
class Axes:
    """A chart's axes; `bounds` fixes the y range, else it is the data's."""

    x: str
    y: str
    bounds: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Range:
    """One row of an interval plot."""

    name: str
    value: float
    low: float
    high: float
    tone: Tone


def heat_map(
    label: Label, rows: Sequence[str], columns: Sequence[str], values: Mapping[tuple[str, str], float]
) -> Figure:
    """Shares in 0 .. 1 as shaded cells with their numbers; `values` is by (row, column), absent is 0."""
    left = 16 + max((round(len(name) * CHARACTER) for name in rows), default=0)
    cell = max(44, min(72, (WIDTH - left) // max(1, len(columns))))
    width, top, height = left + cell * len(columns), 26, 36
    body = [Markup('<g class="heat">')]
    for j, column in enumerate(columns):
        body.append(_text(left + cell * (j + 0.5), 16, column, "middle", "label"))
    for i, row in enumerate(rows):
        y = top + i * height
        body.append(_text(left - 8, y + height / 2 + 4, row, "end", "label"))
        for j, column in enumerate(columns):
            share = min(1.0, max(0.0, values.get((row, column), 0.0)))
            x = left + j * cell
            body.append(
                Markup('<rect x="{}" y="{}" width="{}" height="{}" rx="4" class="bed"/>').format(
                    x + 1, y + 1, cell - 2, height - 2
                )
            )
            body.append(
                Markup('<rect x="{}" y="{}" width="{}" height="{}" rx="4" class="fill" fill-opacity="{:.3f}"/>').format(
                    x + 1, y + 1, cell - 2, height - 2, share
                )
            )
            tone = "on" if share > 0.75 else "off"
            body.append(_text(x + cell / 2, y + height / 2 + 4, f"{share:.3f}", "middle", tone))
    body.append(Markup("</g>"))
    return Figure(
        label.name, label.caption, label.alternative, width, top + height * len(rows) + 4, Markup("").join(body)
    )


def line_chart(label: Label, axes: Axes, lines: Sequence[Series]) -> Figure:
    """Lines over two linear axes with a legend below; lines differ in dash as well as in colour."""
    points = [point for line in lines for point in line.points]
    x_ticks = ticks(min(x for x, _ in points), max(x for x, _ in points))
    y_low, y_high = axes.bounds or (min(y for _, y in points), max(y for _, y in points))
    y_ticks = ticks(y_low, y_high)
    left, right, top, bottom = 52.0, WIDTH - 12.0, 26.0, 226.0
    x_of = _scale(x_ticks[0], x_ticks[-1], left, right)
    y_of = _scale(y_ticks[0], y_ticks[-1], bottom, top)
    body = [_text(4, 14, axes.y, "start", "label")]
    for tick in y_ticks:
        y = y_of(tick)
        body.append(_line(left, y, right, y, "grid"))
        body.append(_text(left - 6, y + 4, tick_text(tick, y_ticks), "end", "tick"))
    for tick in x_ticks:
        anchor = "end" if tick == x_ticks[-1] else "middle"
        body.append(_text(x_of(tick), bottom + 16, tick_text(tick, x_ticks), anchor, "tick"))
    body.append(_text((left + right) / 2, bottom + 33, axes.x, "middle", "label"))
    for line in lines:
        path = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in line.points)
        body.append(Markup('<polyline points="{}" class="line c{}"/>').format(path, line.style % PALETTE))
    named = list({line.name: line for line in lines}.values())
    legend, height = _legend(named, bottom + 52) if len(named) > 1 else ([], int(bottom) + 40)
    return Figure(label.name, label.caption, label.alternative, WIDTH, height, Markup("").join([*body, *legend]))


def interval_plot(label: Label, unit: str, rows: Sequence[Range], bounds: tuple[float, float]) -> Figure:
    """Differences with their intervals and a zero line; the axis holds 0 and `bounds`.

    A hollow dot is a difference within noise, a filled one lies clear of zero. An undefined row has no mark.
    """
    left = 12.0 + max((len(row.name) * CHARACTER for row in rows), default=0.0)
    top, step = 10.0, 24.0
    bottom = top + step * len(rows)
    axis = ticks(min(0.0, bounds[0]), max(0.0, bounds[1]), 4)
    x_of = _scale(axis[0], axis[-1], left, WIDTH - 16.0)
    body = []
    for tick in axis:
        body.append(_line(x_of(tick), top, x_of(tick), bottom, "zero" if tick == 0 else "grid"))
        body.append(_text(x_of(tick), bottom + 15, tick_text(tick, axis), "middle", "tick"))
    body.append(_text((left + WIDTH - 16) / 2, bottom + 32, unit, "middle", "label"))
    for index, row in enumerate(rows):
        y = top + step * (index + 0.5)
        body.append(_text(left - 8, y + 4, row.name, "end", "label"))
        if not math.isfinite(row.value):
            continue
        if math.isfinite(row.low) and math.isfinite(row.high):
            body.append(_line(x_of(row.low), y, x_of(row.high), y, f"whisker {row.tone}"))
        body.append(
            Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4.5" class="dot {}"/>').format(x_of(row.value), y, row.tone)
        )
    return Figure(label.name, label.caption, label.alternative, WIDTH, int(bottom) + 40, Markup("").join(body))


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers, evenly apart, whose first is at most `low` and whose last at least `high`."""
    if not high > low:
        low, high = low - (abs(low) / 2 or 1.0), high + (abs(high) / 2 or 1.0)
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def tick_text(tick: float, axis: Sequence[float]) -> str:
    """A tick's number, as short as its neighbours allow; thousands and millions as k and M."""
    largest, step = max(abs(axis[0]), abs(axis[-1])), axis[1] - axis[0]
    unit, sign = next(((u, s) for u, s in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if largest >= u), (1.0, ""))
    digits = next((n for n in range(6) if math.isclose(round(step / unit, n), step / unit, rel_tol=1e-6)), 6)
    return "0" if tick == 0 else f"{tick / unit:.{digits}f}{sign}".replace("-", "−")


def thinned(points: Sequence[tuple[float, float]], limit: int) -> tuple[tuple[float, float], ...]:
    """At most `limit` points: the means of consecutive buckets of near-equal size."""
    if len(points) <= limit:
        return tuple(points)
    edges = [round(index * len(points) / limit) for index in range(limit + 1)]
    buckets = [points[start:end] for start, end in pairwise(edges)]
    return tuple((sum(x for x, _ in b) / len(b), sum(y for _, y in b) / len(b)) for b in buckets)


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Maps low .. high linearly to start .. end."""
    return lambda value: start + (value - low) * (end - start) / (high - low)


def _text(x: float, y: float, text: str, anchor: str, style: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>').format(x, y, anchor, style, text)


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    return Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(x1, y1, x2, y2, style)


def _legend(lines: Sequence[Series], top: float) -> tuple[list[Markup], int]:
    """The legend's elements and the height that it ends at."""
    body, x, y = [], 12.0, top
    for line in lines:
        width = 38 + len(line.name) * CHARACTER
        if x + width > WIDTH and x > 12:
            x, y = 12.0, y + 20
        body.append(
            Markup('<polyline points="{:.1f},{:.1f} {:.1f},{:.1f}" class="line c{}"/>').format(
                x, y - 4, x + 22, y - 4, line.style % PALETTE
            )
        )
        body.append(_text(x + 28, y, line.name, "start", "label"))
        x += width + 8
    return body, int(y) + 12
