"""How much memory this process has needed, and how much this machine has."""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path

_KIB = 1024


def peak_memory() -> int:
    """The most memory that this process has held so far, in bytes."""
    # The kernel's own peak for a process begins with that of the one that started it; VmHWM begins anew.
    found = _proc_kib(Path("/proc/self/status"), "VmHWM")
    return found if found is not None else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB


def total_memory() -> int:
    """The machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_memory() -> int:
    """The memory that a new process may take without others being pushed out, in bytes."""
    found = _proc_kib(Path("/proc/meminfo"), "MemAvailable")
    return found if found is not None else total_memory()


def _proc_kib(path: Path, name: str) -> int | None:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return None
    line = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(line[1]) * _KIB if line else None
