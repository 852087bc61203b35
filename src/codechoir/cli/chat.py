"""`codechoir chat`: a small chat on the terminal, or one turn a line of stdin."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from codechoir.cli.streaming import Answer, route_told, show
from codechoir.console import say
from codechoir.errors import InputError, UserError

if TYPE_CHECKING:
    from codechoir.generate.conversation import Conversation
    from codechoir.model.requests import CompletionEngine, Request

_HELP = """/route LANG   let one expert answer; /route token: by token; /route auto: by the prompt
/clear        forget what was said
/quit         leave (as the end of input does)
Ctrl-C stops an answer; at the prompt it leaves."""


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--route", default="auto", show_default=True, help="auto (by the prompt), token, or an expert's name.")
@click.option("--max-tokens", default=512, show_default=True, type=click.IntRange(1), help="Tokens of an answer.")
@click.option("--temperature", default=0.0, show_default=True, type=click.FloatRange(0), help="0 is greedy.")
@click.option("--top-p", default=0.95, show_default=True, type=click.FloatRange(0, 1, min_open=True), help="Nucleus.")
@click.option("--seed", default=0, show_default=True, help="Fixes what is drawn.")
def chat(model: Path, route: str, max_tokens: int, temperature: float, top_p: float, seed: int) -> None:
    """Chat with MODEL, a folder whose tokenizer has a chat template.

    Each line is a message; /help tells the commands. Answers stream to stdout, all else goes to stderr. Where what was
    said outgrows the model's context, the oldest turns are forgotten.
    """
    from codechoir.generate.conversation import Conversation
    from codechoir.generate.single import on_route
    from codechoir.model.opening import open_any
    from codechoir.model.requests import Request

    opened = open_any(model, 1)
    try:
        settings = on_route(Request("", (), max_tokens, temperature, top_p, seed), route, opened.engine.abilities)
        _Chat(Conversation(opened), opened.engine, settings, sys.stdin.isatty()).run()
    finally:
        opened.engine.close()


class _Chat:
    """Lines in, answers out."""

    def __init__(
        self, conversation: Conversation, engine: CompletionEngine, settings: Request, with_prompt: bool
    ) -> None:
        self._conversation, self._engine, self._settings = conversation, engine, settings
        self._with_prompt = with_prompt
        self._told_forgotten = False

    def run(self) -> None:
        """Until the input ends or /quit."""
        if self._with_prompt:
            say("/help tells the commands")
        for line in self._lines():
            try:
                if not line.startswith("/"):
                    self._answer(line)
                elif not self._obey(*line[1:].split(maxsplit=1)):
                    return
            except UserError as error:
                if not self._with_prompt:
                    raise
                say(f"error: {error}")

    def _lines(self) -> Iterator[str]:
        """What is typed, line by line, without empty ones."""
        while True:
            if self._with_prompt:
                click.echo("> ", nl=False, err=True)
            try:
                line = sys.stdin.readline()
            except UnicodeDecodeError as error:
                raise InputError("the input is not UTF-8", seen=error) from None
            if not line:
                return
            if line.strip():
                yield line.strip()

    def _obey(self, command: str = "", argument: str = "") -> bool:
        """Does what a line that begins with / says; False for /quit."""
        from codechoir.generate.single import on_route

        if command == "quit":
            return False
        if command == "clear":
            self._conversation.clear()
            self._told_forgotten = False
        elif command == "route" and argument:
            self._settings = on_route(self._settings, argument, self._engine.abilities)
        elif command == "route":
            say(self._settings.expert or self._settings.routing or "auto")
        else:
            if command != "help":
                say(f"no such command: /{command}")
            say(_HELP)
        return True

    def _answer(self, text: str) -> None:
        request = self._conversation.ask(text, self._settings)
        if self._conversation.num_forgotten and not self._told_forgotten:
            self._told_forgotten = True
            say("the chat has outgrown the model's context: its oldest turns are forgotten from here on")
        answer = self._shown(request)
        if answer is None:
            return
        self._conversation.answered(text, answer.text)
        if answer.end.route:
            say(route_told(answer.end))

    def _shown(self, request: Request) -> Answer | None:
        """The answer; None where it was stopped at the terminal, and the turn is as if it had not been."""
        try:
            answer = show(self._engine, request)
        except KeyboardInterrupt:
            if not self._with_prompt:
                raise
            click.echo()
            return None
        if not sys.stdout.isatty():
            click.echo()  # so that an answer's end can be told
        return answer
