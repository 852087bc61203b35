"""`codechoir recipe`: what a recipe says."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.group()
def recipe() -> None:
    """Look at recipes."""


@recipe.command()
@click.argument("path", metavar="RECIPE", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Override a value (repeatable).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(path: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show every value in force, with its description."""
    from codechoir.recipe import described, load_recipe

    loaded = load_recipe(path, overrides)
    if as_json:
        click.echo(json.dumps(loaded.model_dump(mode="json"), indent=1, ensure_ascii=False))
        return
    for key, value, description in described(loaded):
        click.echo(f"{key} = {json.dumps(value, ensure_ascii=False)}  # {description}")
