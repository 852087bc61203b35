"""What lies where among the benchmark's inputs, for processes that load no torch."""

from __future__ import annotations

import json
from pathlib import Path

# language -> the pinned package of bench/curate that its documents come out of
PACKAGE_OF = {"python": "django", "java": "@capacitor/android", "javascript": "core-js", "cpp": "grpc"}
LANGUAGES = tuple(PACKAGE_OF)


def expert_options(folder: Path) -> list[str]:
    """`--expert` options for all experts below a folder."""
    return [text for name in LANGUAGES for text in ("--expert", f"{name}={folder / name}")]


def read_prompts(inputs: Path) -> dict[str, dict[str, list[str]]]:
    """Volume of text -> language -> prompts."""
    prompts: dict[str, dict[str, list[str]]] = json.loads((inputs / "prompts.json").read_text(encoding="utf-8"))
    return prompts
