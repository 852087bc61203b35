"""`codechoir generate`: completions of a prompt from any model folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TextIO

import click


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--prompt-file", type=click.File(encoding="utf-8"), default="-", help="The prompt  [default: stdin]")
@click.option("--max-tokens", default=128, show_default=True, type=click.IntRange(1), help="Tokens at most.")
@click.option("--num-samples", default=1, show_default=True, type=click.IntRange(1), help="Completions.")
@click.option("--temperature", default=0.0, show_default=True, type=click.FloatRange(0), help="0 is greedy.")
@click.option("--top-p", default=0.95, show_default=True, type=click.FloatRange(0, 1, min_open=True), help="Nucleus.")
@click.option("--seed", default=0, show_default=True, help="The first sample's seed; the others count up.")
@click.option("--stop", multiple=True, help="Stop before this text (repeatable).")
@click.option(
    "--routing",
    default="prompt",
    show_default=True,
    help="For a composed model: prompt, token, uniform, or an expert's language.",
)
@click.option("--top-k", default=2, show_default=True, type=click.IntRange(1), help="Experts a token (token routing).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a completion, its route included.")
def generate(
    model: Path,
    prompt_file: TextIO,
    max_tokens: int,
    num_samples: int,
    temperature: float,
    top_p: float,
    seed: int,
    stop: tuple[str, ...],
    routing: str,
    top_k: int,
    as_json: bool,
) -> None:
    """Complete a prompt with MODEL, a folder that train or compose wrote or any Hugging Face folder."""
    from codechoir.errors import InputError
    from codechoir.generate.single import load_any
    from codechoir.model.engine import Request

    try:
        prompt = prompt_file.read()
    except UnicodeDecodeError as error:
        raise InputError("the prompt is not UTF-8", seen=error) from None
    engine, expert = load_any(model, routing, top_k)
    requests = [
        Request(prompt, stop, max_tokens, temperature, top_p, seed + sample, expert) for sample in range(num_samples)
    ]
    outputs = dict(engine.complete(requests))
    for _, output in sorted(outputs.items()):
        if as_json:
            fields = ("text", "finish", "num_tokens", "route")
            click.echo(json.dumps({name: getattr(output, name) for name in fields}, ensure_ascii=False))
        else:
            click.echo(output.text)
            if output.route:
                click.echo(f"route: {output.route}", file=sys.stderr)
