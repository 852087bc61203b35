"""A page as HTML, as Markdown, and its figures as SVG files.

Every value is escaped by the renderer, not by the templates: HTML by Jinja's autoescape, Markdown by a `finalize` that
passes each printed value through `wording.markdown`. The HTML stands alone: style and pictures inline, no script, no
address of any host.
"""

from __future__ import annotations

import jinja2
from markupsafe import Markup

from codechoir.report import wording
from codechoir.report.view import Figure, Page


def html(page: Page) -> str:
    """One self-contained HTML document."""
    return _environment().get_template("index.html.j2").render(page=page)


def svg(figure: Figure) -> str:
    """A figure as a file of its own, light or dark as the viewer prefers."""
    return _environment().get_template("figure.svg.j2").render(figure=figure)


def markdown(page: Page) -> str:
    """The same page in GitHub's Markdown; figures are links to `figures/NAME.svg`."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("codechoir.report"),
        autoescape=False,
        finalize=_markdown_value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.md.j2").render(page=page, fence=wording.fence, verbatim=Markup)


def _markdown_value(value: object) -> str:
    return str(value) if isinstance(value, Markup) else wording.markdown(str(value))


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("codechoir.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
