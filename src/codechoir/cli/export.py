"""`codechoir export`: a composed model as other programs read it."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "target",
    required=True,
    type=click.Choice(["mixtral", "qwen2_moe", "gguf", "dense", "peft", "hf"]),
    help="mixtral and qwen2_moe: for transformers and vLLM; gguf: for llama.cpp and Ollama; dense: one expert alone; "
    "peft: one expert as a LoRA adapter; hf: our own model class with its modelling files.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option("--expert", metavar="LANG", help="The expert to export (with dense and peft).")
@click.option("--quantise", type=click.Choice(["f16", "q8_0"]), help="The matrices' format in gguf  [default: f16]")
@click.option(
    "--base",
    type=click.Path(path_type=Path),
    help="The base model's folder (with peft)  [default: the generalist expert]",
)
@click.option(
    "--rank",
    type=click.IntRange(min=1),
    help="Cut the expert's change to this rank (with peft)  [default: the change's own, refused where that is full]",
)
@click.option(
    "--text", type=click.Path(path_type=Path, dir_okay=False), help="Text to compare logits on (default: some code)."
)
@click.option(
    "--scores",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The evaluate stage's scores.json, for the card  [default: that of MODEL's run]",
)
@click.option("--no-compare", is_flag=True, help="Do not read the export back: it takes memory for a float32 model.")
def export(
    model: Path,
    target: str,
    out: Path,
    expert: str | None,
    quantise: str | None,
    base: Path | None,
    rank: int | None,
    text: Path | None,
    scores: Path | None,
    no_compare: bool,
) -> None:
    """Export a composed MODEL, read the result back with another's reader, and compare logits.

    Prints what the export's manifest says as JSON: checksums, and how far the logits are from MODEL's.
    """
    from codechoir.compose.export.comparison import TEXT
    from codechoir.compose.export.stage import FORMATS, ExportRequest
    from codechoir.compose.export.stage import export as run
    from codechoir.errors import ConfigError, InputError

    chosen = next(each for each in FORMATS if each == target)
    if quantise and chosen != "gguf":
        raise ConfigError("only gguf is quantised", seen=f"--quantise {quantise} with --format {chosen}")
    if (base or rank) and chosen != "peft":
        raise ConfigError("a base and a rank go with peft alone", seen=f"--format {chosen}")
    content = TEXT
    if text is not None:
        try:
            content = text.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError("the text cannot be read", seen=f"{text}: {error}") from None
        if not content.strip():
            raise InputError("the text is empty", seen=text)
    request = ExportRequest(
        chosen,
        expert,
        "q8_0" if quantise == "q8_0" else "f16",
        compare=not no_compare,
        text=content,
        base=base,
        rank=rank,
        scores=scores,
    )
    click.echo(json.dumps(dict(run(model, request, out).facts), indent=1))
