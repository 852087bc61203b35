"""`codechoir expert`: experts join a composed model, or leave it."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.group()
def expert() -> None:
    """Add an expert to a composed model, or drop one; the other experts' weights stay the same bytes."""


@expert.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("new", metavar="LANG=PATH")
@click.option(
    "--documents",
    type=click.Path(path_type=Path),
    help="Curate's documents folder (LANG/*.parquet): of the new language at least; of all, the prompt router is "
    "refitted, temperatures are calibrated and retention is measured, too.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option(
    "--shared",
    type=click.Choice(["base", "require-equal"]),
    help="An expert that differs outside its feed-forward: take the composed model's weights, or refuse (default).",
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A value of the recipe's compose part.")
def add(
    model: Path, new: str, documents: Path | None, out: Path, shared: str | None, overrides: tuple[str, ...]
) -> None:
    """Add the expert at PATH to the composed model in the folder MODEL.

    Token routers are solved again from the moments stored with MODEL and the new language's text. Prints what the
    manifest says as JSON: how both routers were refitted, retention of the other languages before and after, proofs.
    """
    from codechoir.cli.compose import expert_folders

    ((name, folder),) = expert_folders((new,)).items()
    _grow(model, name, folder, (documents, out), ((*overrides, f"shared={shared}") if shared else overrides))


@expert.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("name", metavar="LANG")
@click.option(
    "--documents",
    type=click.Path(path_type=Path),
    help="Curate's documents folder: of all remaining languages, the prompt router is refitted, too.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A value of the recipe's compose part.")
def drop(model: Path, name: str, documents: Path | None, out: Path, overrides: tuple[str, ...]) -> None:
    """Drop an expert from the composed model in the folder MODEL.

    Token routers are solved again from the moments stored with MODEL, without the dropped language's.
    """
    _grow(model, name, None, (documents, out), overrides)


def _grow(
    model: Path, name: str, folder: Path | None, places: tuple[Path | None, Path], overrides: tuple[str, ...]
) -> None:
    from codechoir.artifacts import files_digest, state_of_folder
    from codechoir.compose.config import ComposeConfig
    from codechoir.compose.growing import Change, GrowInputs, grow
    from codechoir.config import parse_overrides

    documents, out = places
    config = ComposeConfig.parse(parse_overrides(overrides), "--set")
    digests = {"model": state_of_folder(model)}
    if folder:
        digests["expert"] = state_of_folder(folder)
    if documents:
        digests["documents"] = files_digest(documents, sorted(documents.rglob("*.parquet")))
    manifest = grow(config, GrowInputs(model, documents, digests), Change(name, folder), out)
    click.echo(json.dumps(dict(manifest.facts), indent=1))
