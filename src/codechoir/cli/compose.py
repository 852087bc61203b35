"""`codechoir compose`: experts on disk become one Mixture-of-Experts folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from codechoir.model.sources import Base


@click.command()
@click.option(
    "--base", required=True, metavar="BASE", help="The model that the experts branched from: folder, GGUF, id."
)
@click.option(
    "--expert",
    "experts",
    multiple=True,
    metavar="LANG=PATH",
    help="An expert: a model's folder, feed-forward weights alone, or a LoRA adapter (two or more).",
)
@click.option(
    "--documents",
    type=click.Path(path_type=Path),
    help="Text to fit the routers on: curate's documents folder (LANG/*.parquet). Without it, routers are not fitted.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option(
    "--shared",
    type=click.Choice(["base", "mean", "require-equal"]),
    help="Weights that all experts share: the base's, the experts' mean, or refused where they differ (default).",
)
@click.option("--generalist", is_flag=True, help="Make the base's own feed-forward an expert, too.")
@click.option("--layers", metavar="RANGES", help="Layers that get experts, from 0, such as 4-11,15 (default: all).")
@click.option("--dry-run", is_flag=True, help="Check everything that headers tell and print the plan; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A value of the recipe's compose part.")
def compose(
    base: str,
    experts: tuple[str, ...],
    documents: Path | None,
    out: Path,
    shared: str | None,
    generalist: bool,
    layers: str | None,
    dry_run: bool,
    as_json: bool,
    overrides: tuple[str, ...],
) -> None:
    """Compose experts into one sparse Mixture-of-Experts model and prove it.

    Prints what the manifest says as JSON: parameters, drift of shared weights, proofs, routers' accuracies.
    """
    from codechoir.artifacts import files_digest, state_of_folder
    from codechoir.compose.config import ComposeConfig
    from codechoir.compose.description import as_text, describe
    from codechoir.compose.plan import plan
    from codechoir.compose.stage import ComposeInputs
    from codechoir.compose.stage import compose as run
    from codechoir.config import parse_overrides

    given = {"shared": shared, "generalist": generalist or None, "layers": layers}
    values = parse_overrides(overrides) | {key: value for key, value in given.items() if value is not None}
    config = ComposeConfig.parse(values, "--set")
    folders = expert_folders(experts)
    trunk = _base(base)
    if dry_run:
        fitted = documents is not None
        told = describe(plan(trunk.folder, folders, config, fitted=fitted), out, config, fitted=fitted)
        click.echo(json.dumps(told, indent=1) if as_json else as_text(told))
        return
    digests = {"base": trunk.digest} | {name: state_of_folder(folder) for name, folder in folders.items()}
    if documents:
        digests["documents"] = files_digest(documents, sorted(documents.rglob("*.parquet")))
    manifest = run(config, ComposeInputs(trunk.folder, folders, documents, digests), out)
    click.echo(json.dumps(dict(manifest.facts), indent=1))


def _base(text: str) -> Base:
    """The base made ready. A folder is known by its files' state: hashing would read its weights twice."""
    from codechoir.artifacts import cache_dir, state_of_folder
    from codechoir.model.config import FolderBase, parse_source
    from codechoir.model.sources import Base, prepare

    source = parse_source(text)
    return (
        Base(source.path, state_of_folder(source.path))
        if isinstance(source, FolderBase)
        else prepare(source, cache_dir())
    )


def expert_folders(pairs: tuple[str, ...]) -> dict[str, Path]:
    from codechoir.errors import ConfigError
    from codechoir.languages import language

    folders: dict[str, Path] = {}
    for pair in pairs:
        name, sign, path = pair.partition("=")
        if not sign or not path:
            raise ConfigError("an expert is LANG=PATH", seen=pair)
        known = language(name).id
        if known in folders:
            raise ConfigError("a language is named twice", seen=pair)
        folders[known] = Path(path)
    return folders
