"""`codechoir inspect`: look into a composed model."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--text",
    "texts",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A source file whose tokens are routed (repeatable); its name tells its language.",
)
@click.option(
    "--html", type=click.Path(path_type=Path), help="Write each token's route as a coloured page to this file."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(model: Path, texts: tuple[Path, ...], html: Path | None, as_json: bool) -> None:
    """Look into MODEL, a composed folder: its experts, sizes, and how alike the experts are, layer by layer.

    With --text also where token routing sends the text: shares by layer and language, experts that nothing is sent to,
    and the prompt router's probabilities, and the route that they lead to, by how much of the text it has read.
    """
    from codechoir.artifacts import write_atomically
    from codechoir.compose.inspecting import in_words, open_view, read_routes, tell
    from codechoir.compose.routes_page import routes_page
    from codechoir.errors import ConfigError

    if html and not texts:
        raise ConfigError("a page of routes needs a text", seen=f"--html {html}", next_step="add --text FILE")
    view = open_view(model)
    routes = read_routes(view, texts) if texts else []
    told = tell(view, routes)
    if html:
        page = routes_page(str(model), view.composed.experts, view.composed.layers(), routes)
        write_atomically(html, page)
    click.echo(json.dumps(told, indent=1) if as_json else in_words(told))
