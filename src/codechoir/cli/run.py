"""`codechoir run`: a recipe's whole way, or some of its stages."""

from __future__ import annotations

from pathlib import Path

import click

_STAGES = ("curate", "train", "compose", "generate", "evaluate", "report")


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--only", multiple=True, type=click.Choice(_STAGES), help="Run this stage alone (repeatable).")
@click.option("--out", type=click.Path(path_type=Path), help="The run's folder  [default: runs/NAME]")
@click.option("--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Override a value (repeatable).")
def run(recipe: Path, only: tuple[str, ...], out: Path | None, overrides: tuple[str, ...]) -> None:
    """Run RECIPE. Finished stages are not run again; an interrupted one carries on."""
    from codechoir.errors import ConfigError
    from codechoir.recipe import load_recipe, resolved

    loaded = load_recipe(recipe, overrides)
    from codechoir import pipeline  # torch, after the recipe is known to be right
    from codechoir.artifacts import cache_dir

    folder = out or Path("runs") / loaded.name
    written = folder / "recipe.yaml"
    if written.exists() and written.samefile(recipe) and recipe.read_text(encoding="utf-8") != resolved(loaded):
        raise ConfigError("the run's folder would overwrite the recipe", seen=written, next_step="give another --out")
    pipeline.run(loaded, folder, cache_dir(), tuple(map(pipeline.Stage, only or _STAGES)))
    if not only or "report" in only:
        click.echo(folder / "report" / "index.html")
