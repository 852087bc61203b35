"""docs/cli.md: every command's --help, joined. `make docs` writes it, a test holds it to the code."""

from __future__ import annotations

from collections.abc import Iterator

import click


def reference(root: click.Command) -> str:
    """The Markdown of `root` and every command below it."""
    parts = ["# Command line\n\nMade by `make docs` from each command's `--help`.\n"]
    for path, text in _helps(root, "codechoir"):
        parts.append(f"## {path}\n\n```\n{text.rstrip()}\n```\n")
    return "\n".join(parts)


def _helps(command: click.Command, path: str) -> Iterator[tuple[str, str]]:
    context = click.Context(command, info_name=path, terminal_width=100, max_content_width=100)
    yield path, command.get_help(context)
    if isinstance(command, click.Group):
        for name, below in sorted(command.commands.items()):
            yield from _helps(below, f"{path} {name}")
