"""`codechoir generate`: what comes after a prompt, or between two halves of a file, as the model writes it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import BinaryIO

import click

from codechoir.cli.streaming import read_text, route_told, show

_POSITION = re.compile(r"([0-9]+):([0-9]+)")


def _position(context: click.Context, option: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """The two numbers of LINE:COL."""
    if value is None:
        return None
    found = _POSITION.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"{value!r} is not LINE:COL, such as 12:5", context, option)
    return int(found[1]), int(found[2])


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--prompt-file", type=click.File("rb"), help="The prompt; - is stdin  [default: stdin]")
@click.option("--infill", "infilled", metavar="FILE", type=click.File("rb"), help="Fill in this file at a position.")
@click.option("--at", "position", callback=_position, metavar="LINE:COL", help="Where to fill in; both count from 1.")
@click.option("--route", default="auto", show_default=True, help="auto (by the prompt), token, or an expert's name.")
@click.option("--max-tokens", default=128, show_default=True, type=click.IntRange(1), help="Tokens at most.")
@click.option("--temperature", default=0.0, show_default=True, type=click.FloatRange(0), help="0 is greedy.")
@click.option("--top-p", default=0.95, show_default=True, type=click.FloatRange(0, 1, min_open=True), help="Nucleus.")
@click.option("--seed", default=0, show_default=True, help="Fixes what is drawn.")
@click.option("--stop", multiple=True, help="Stop before this text (repeatable).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object in the end, the route included.")
def generate(
    model: Path,
    prompt_file: BinaryIO | None,
    infilled: BinaryIO | None,
    position: tuple[int, int] | None,
    route: str,
    max_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    stop: tuple[str, ...],
    as_json: bool,
) -> None:
    """Complete a prompt with MODEL: a folder that train or compose wrote, any Hugging Face folder, or a .gguf file.

    The text streams to stdout, which gets nothing else; the expert that wrote it is told on stderr.
    """
    from codechoir.generate.single import cut_at, infilling, on_route
    from codechoir.model.opening import open_any
    from codechoir.model.requests import Request

    if (infilled is None) != (position is None):
        raise click.UsageError("--infill FILE and --at LINE:COL go together")
    if infilled is not None and prompt_file is not None:
        raise click.UsageError("give --prompt-file or --infill, not both")
    text = read_text(infilled or prompt_file or sys.stdin.buffer)
    halves = cut_at(text, *position) if position else None
    opened = open_any(model, 1)
    try:
        request = Request("" if halves else text, stop, max_tokens, temperature, top_p, seed)
        request = on_route(request, route, opened.engine.abilities)
        if halves:
            request = infilling(request, opened, *halves)
        answer = show(opened.engine, request, quiet=as_json)
    finally:
        opened.engine.close()
    if as_json:
        end = answer.end
        told: dict[str, object] = {
            "text": answer.text,
            "finish": end.finish,
            "tokens": end.num_tokens,
            "route": end.route,
        }
        told["probabilities"] = end.probabilities
        click.echo(json.dumps(told, ensure_ascii=False))
    elif answer.end.route:
        click.echo(route_told(answer.end), err=True)
