"""What generate and chat share: text that is read whole, and an answer that is shown as it comes."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import click

from codechoir.errors import InputError

if TYPE_CHECKING:
    from codechoir.model.requests import CompletionEngine, End, Request


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    text: str
    end: End


def read_text(file: BinaryIO) -> str:
    """A file's text, its line ends left as they are. Raises InputError."""
    try:
        return file.read().decode()
    except UnicodeDecodeError as error:
        raise InputError("the prompt is not UTF-8", seen=error) from None


def show(engine: CompletionEngine, request: Request, *, quiet: bool = False) -> Answer:
    """Writes an answer to stdout piece by piece, unless `quiet`; a terminal's line is ended. Raises as the engine does.

    A file or pipe gets the text alone, so that it can be used as it is.
    """
    from codechoir.model.requests import End, Failure, stream

    text, end = "", None
    for event in stream(engine, request):
        if isinstance(event, Failure):
            raise event.error
        if isinstance(event, End):
            end = event
            continue
        text += event.text
        if not quiet and event.text:
            _write(event.text)
    if not quiet and sys.stdout.isatty() and not text.endswith("\n"):
        _write("\n")
    assert end is not None, "an engine's last event is an end or a failure"
    return Answer(text, end)


def _write(text: str) -> None:
    """Writes at once. Where nobody reads any more, as after `| head`, the command ends as others do."""
    try:
        click.echo(text, nl=False)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the last flush fails no more
        sys.exit(128 + signal.SIGPIPE)


def route_told(end: End) -> str:
    """The experts that wrote an answer, and how sure the prompt router was of the first."""
    shares = sorted(end.route.items(), key=lambda pair: -pair[1])
    if len(shares) > 1:
        return "route: " + ", ".join(f"{expert} {share:.1%}" for expert, share in shares)
    expert = shares[0][0]
    sure = f", probability {end.probabilities[expert]:.4f}" if expert in end.probabilities else ""
    return f"route: {expert}{sure}"
