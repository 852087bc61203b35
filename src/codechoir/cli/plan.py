"""`codechoir plan`: what a recipe's run has at hand and will need here, before it is begun."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The run's folder  [default: runs/NAME]")
@click.option("--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Override a value (repeatable).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan(recipe: Path, out: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Tell what RECIPE has at hand and needs here, and propose four languages to train.

    Languages by data, toolchain and problems; the time, memory and disk of each stage, most of it measured on a small
    trial. Packages are fetched as for a run; nothing is written into the run's folder.
    """
    from codechoir.artifacts import cache_dir
    from codechoir.planning.plan import make_plan
    from codechoir.planning.table import lines_of
    from codechoir.recipe import load_recipe

    loaded = load_recipe(recipe, overrides)
    made = make_plan(loaded, out or Path("runs") / loaded.name, cache_dir())
    if as_json:
        click.echo(json.dumps(asdict(made), indent=1))
        return
    for line in lines_of(made):
        click.echo(line)
