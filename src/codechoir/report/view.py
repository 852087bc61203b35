"""The page as data: what the HTML and the Markdown templates both render, in one shape.

Holds plain text only; escaping is the renderers' business. A figure's `body` is the one exception: SVG elements that
`figures.py` made, with all text in them escaped. Knows nothing of runs, models or metrics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from markupsafe import Markup

Tone = Literal["", "good", "bad", "even", "missing"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One value of a table: `text`, then smaller `detail` (an interval) and `verdict` (a word on it)."""

    text: str
    detail: str = ""
    verdict: str = ""
    tone: Tone = ""
    best: bool = False

    @property
    def flat(self) -> str:
        """All of it in one line."""
        return " ".join(part for part in (self.text, self.detail, f"({self.verdict})" if self.verdict else "") if part)


@dataclass(frozen=True, slots=True)
class Row:
    """A table's row under its own header."""

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows; the first column holds the rows' names."""

    form: ClassVar[str] = "table"
    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""
    collapsed: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph. `missing` marks one that says that something was not run."""

    form: ClassVar[str] = "text"
    text: str
    missing: bool = False


@dataclass(frozen=True, slots=True)
class Code:
    """A long verbatim text, folded away."""

    form: ClassVar[str] = "code"
    caption: str
    text: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture of `width` x `height` units; `alternative` says in words what it shows."""

    name: str  # a file name and an HTML id: letters, digits, dashes
    caption: str
    alternative: str
    width: int
    height: int
    body: Markup


@dataclass(frozen=True, slots=True)
class Figures:
    """Pictures that belong side by side."""

    form: ClassVar[str] = "figures"
    items: tuple[Figure, ...]


Block = Table | Text | Code | Figures


@dataclass(frozen=True, slots=True)
class Section:
    """One heading and what stands under it."""

    id: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One question of the headline and its answer."""

    question: str
    answer: str
    figure: str  # the difference and its interval; empty where there is none
    details: tuple[str, ...]
    tone: Tone


@dataclass(frozen=True, slots=True)
class Page:
    """The whole report."""

    title: str
    subtitle: str
    verdicts: tuple[Verdict, ...]
    cautions: tuple[str, ...]
    sections: tuple[Section, ...]

    def figures(self) -> list[Figure]:
        """Every picture, in order."""
        return [
            figure
            for section in self.sections
            for block in section.blocks
            if isinstance(block, Figures)
            for figure in block.items
        ]
