"""The machine and the installed versions, asked without importing any of the packages."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("codechoir", "torch", "transformers", "tokenizers", "safetensors", "accelerate", "numpy", "pyarrow")


@dataclass(frozen=True, slots=True)
class Environment:
    """What the report says of its surroundings, as names and texts."""

    machine: Mapping[str, str]
    versions: Mapping[str, str]


def environment() -> Environment:
    """This machine and this installation; a package that is not installed says so."""
    machine = {
        "CPU": _cpu(),
        "Cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "Memory": _memory(),
        "System": f"{platform.system()}, {platform.machine()}",
    }
    versions = {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}
    return Environment(machine, versions)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"
    except (OSError, ValueError):
        return "unknown"
