"""What the pages of all benchmarks have alike: tables, verdicts, the machine in words."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path


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
