"""`codechoir compose`: experts on disk become one Mixture-of-Experts folder."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.option(
    "--base", required=True, metavar="BASE", help="The model that the experts branched from: folder, GGUF, id."
)
@click.option("--expert", "experts", multiple=True, metavar="LANG=PATH", help="An expert's folder (two or more).")
@click.option(
    "--documents",
    required=True,
    type=click.Path(path_type=Path),
    help="Text to fit the routers on: curate's documents folder (LANG/*.parquet).",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A value of the recipe's compose part.")
def compose(base: str, experts: tuple[str, ...], documents: Path, out: Path, overrides: tuple[str, ...]) -> None:
    """Compose experts into one sparse Mixture-of-Experts model and prove it.

    Prints what the manifest says as JSON: parameters, proofs, routers' accuracies.
    """
    from codechoir.artifacts import cache_dir, files_digest
    from codechoir.compose.config import ComposeConfig
    from codechoir.compose.stage import ComposeInputs
    from codechoir.compose.stage import compose as run
    from codechoir.config import parse_overrides
    from codechoir.model.config import FolderBase, parse_source
    from codechoir.model.sources import prepare

    config = ComposeConfig.parse(parse_overrides(overrides), "--set")
    folders = _experts(experts)
    trunk = prepare(parse_source(base), cache_dir())
    digests = {"base": trunk.digest, "documents": files_digest(documents, sorted(documents.rglob("*.parquet")))}
    for name, folder in folders.items():
        digests[name] = prepare(FolderBase(path=folder), cache_dir()).digest
    manifest = run(config, ComposeInputs(trunk.folder, folders, documents, digests), out)
    click.echo(json.dumps(dict(manifest.facts), indent=1))


def _experts(pairs: tuple[str, ...]) -> dict[str, Path]:
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
