"""`codechoir tune`: a composed model's routers, or the whole of it, tuned by gradient."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--documents",
    required=True,
    type=click.Path(path_type=Path),
    help="Text to tune on: curate's documents folder (LANG/*.parquet), of each language that has an expert.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A value of the recipe's tune part.")
def tune(model: Path, documents: Path, out: Path, overrides: tuple[str, ...]) -> None:
    """Tune the token routers of the composed model in the folder MODEL by gradient, or its experts, or both.

    The best step by validation is written, which may be MODEL as it is. Prints what the manifest says as JSON: losses
    by language before and after, beside uniform routing's and the oracle's, and the experts' load. Interrupted, the
    same command carries on.
    """
    from codechoir.artifacts import files_digest, state_of_folder
    from codechoir.compose.config import TuneConfig
    from codechoir.compose.tuning.stage import TuneInputs
    from codechoir.compose.tuning.stage import tune as run
    from codechoir.config import parse_overrides

    config = TuneConfig.parse(parse_overrides(overrides), "--set")
    digests = {
        "model": state_of_folder(model),
        "documents": files_digest(documents, sorted(documents.rglob("*.parquet"))),
    }
    manifest = run(config, TuneInputs(model, documents, digests), out)
    click.echo(json.dumps(dict(manifest.facts), indent=1))
