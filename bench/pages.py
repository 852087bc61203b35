"""What all benchmarks have alike: a program that writes a page, and the page's tables, verdicts, machine in words."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from codechoir.cli.main import end_by


def page_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of `python -m bench.NAME`, which can be told where its page goes."""
    parser = argparse.ArgumentParser(prog=f"python -m bench.{name}", description=description)
    parser.add_argument("--out", type=Path, help="the page to write; none: stdout")
    return parser


def command_given(name: str) -> str:
    """The command that this process was started with; make's own where it told but where the page goes."""
    given = sys.argv[1:]
    is_make = len(given) == 2 and given[0] == "--out"
    return f"make bench-{name}" if is_make else shlex.join(["python", "-m", f"bench.{name}", *given])


def run_program(main: Callable[[], int]) -> NoReturn:
    """Runs a benchmark's command and exits; a user's error is one message and code 2, as `codechoir` has it."""
    try:
        sys.exit(main())
    except Exception as error:
        end_by(error)


def write_page(text: str, out: Path | None) -> None:
    """Writes a page to its place."""
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are flush right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def met(holds: bool) -> str:
    """The verdict on a target."""
    return "met" if holds else "missed"


def machine() -> str:
    """The machine that this runs on, in a sentence."""
    model = "an unnamed processor"
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []:
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    python = sys.version.split()[0]
    return f"The machine: {cores} cores of {model}, {memory:.0f} GiB, {platform.system()}, Python {python}."
