"""What a benchmark keeps of each part that it measured, for --resume: a JSON file a part, with the sizes it had.

Goes by the sizes alone: whether the machine or the code has changed since, whoever asks for --resume has to know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Kept:
    """The parts that lie measured in a folder. A quick run's have names of their own, so that it replaces no others."""

    folder: Path
    is_quick: bool

    def path(self, part: str) -> Path:
        """Where a part lies."""
        return self.folder / f"{'quick-' * self.is_quick}{part}.json"

    def read(self, part: str, sizes: Mapping[str, Any]) -> dict[str, Any] | None:
        """A part as it was written, if its sizes are these; its rounds may have been more or fewer."""
        path = self.path(part)
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        earlier = kept.get("sizes", {})
        rounds = {"rounds": earlier.get("rounds")}
        return kept if earlier == json.loads(json.dumps({**sizes, **rounds})) else None

    def write(self, part: str, sizes: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
        """Keeps a part with its sizes; returns what `read` will."""
        path = self.path(part)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"sizes": sizes, **found}, indent=1)
        path.write_text(text, encoding="utf-8")
        kept: dict[str, Any] = json.loads(text)
        return kept
