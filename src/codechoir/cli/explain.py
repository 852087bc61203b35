"""`codechoir explain`: one file's way through curation."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click


@click.command()
@click.argument("path", metavar="RECIPE", type=click.Path(path_type=Path))
@click.argument("key")
@click.option("--out", type=click.Path(path_type=Path), help="The run's folder  [default: runs/NAME]")
@click.option("--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Override a value (repeatable).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(path: Path, key: str, out: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Say for the file called KEY what each step of curation decides, and why.

    KEY is as the run's folders curate/documents and curate/rejected have it. The first rejection counts; later steps
    are shown all the same.
    """
    from codechoir.artifacts import cache_dir
    from codechoir.data.explain import explain as explained
    from codechoir.recipe import load_recipe

    recipe = load_recipe(path, overrides)
    folder = (out or Path("runs") / recipe.name) / "curate"
    found = explained(recipe.curate, recipe.languages, cache_dir(), folder, key)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], indent=1, ensure_ascii=False))
        return
    for one in found:
        click.echo(f"{one.key}  (from {one.source})")
        for decision in one.decisions:
            verdict = decision.rejection.reason if decision.rejection else "ok"
            click.echo(f"  {decision.step:<18} {verdict:<18} {decision.detail}")
        reason = next((decision.rejection.reason for decision in one.decisions if decision.rejection), None)
        click.echo(f"  => {f'rejected: {reason}' if reason else 'kept'}")
