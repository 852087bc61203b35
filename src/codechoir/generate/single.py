"""What one model outside a run is asked: a prompt to complete, or a gap in a file to fill, on a route of one's choice.

In: a request's settings and texts. Out: the request as the engine takes it. Knows nothing of terminals.
"""

from __future__ import annotations

from dataclasses import replace

from codechoir.errors import ConfigError, IncompatibleModelError, InputError
from codechoir.model.infilling_format import infilling_format
from codechoir.model.opening import OpenedModel
from codechoir.model.requests import Abilities, Request, RoutingChoice

AUTO = "auto"


def on_route(request: Request, route: str, abilities: Abilities) -> Request:
    """The request with its route: `auto` is the model's own, `token` by token, else an expert. Raises ConfigError."""
    if route == AUTO:
        return replace(request, expert=None, routing=None)
    by_token: tuple[RoutingChoice, ...] = tuple(choice for choice in abilities.routings if choice == "token")
    if route in by_token:
        return replace(request, expert=None, routing=by_token[0])
    if route not in abilities.experts:
        known = ", ".join([AUTO, *by_token, *abilities.experts])
        lacks = "; ".join(abilities.lacks) or "this model has no experts"
        raise ConfigError("no such route", seen=route, allowed=known if abilities.experts else f"{AUTO}: {lacks}")
    return replace(request, expert=route, routing=None)


def infilling(request: Request, model: OpenedModel, before: str, after: str) -> Request:
    """The request to fill in what is between two texts. Raises IncompatibleModelError where the model cannot."""
    if model.tokenizer is None:
        raise IncompatibleModelError(
            "a GGUF file is asked for completions alone", next_step="give the model's folder to fill in"
        )
    form = infilling_format(model.tokenizer)
    if form is None:
        raise IncompatibleModelError(
            "the model knows no infilling tokens: it was not trained to fill in",
            next_step="give a model that was, or complete the text before the cursor with --prompt-file",
        )
    return replace(request, prompt=form.prompt(before, after), cursor=before)


def cut_at(text: str, line: int, column: int) -> tuple[str, str]:
    """The text before and after a position; both count from 1, columns in characters, the line's end included.

    Raises InputError for a position outside the text.
    """
    lines = text.split("\n")  # after the last newline a cursor can stand, too
    if not 1 <= line <= len(lines):
        raise InputError("no such line in the file", seen=line, allowed=f"1 to {len(lines)}")
    width = len(lines[line - 1].removesuffix("\r"))
    if not 1 <= column <= width + 1:
        raise InputError(f"no such column in line {line}", seen=column, allowed=f"1 to {width + 1}")
    place = sum(len(each) + 1 for each in lines[: line - 1]) + column - 1
    return text[:place], text[place:]
