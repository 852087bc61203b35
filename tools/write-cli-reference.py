"""Writes docs/cli.md; see codechoir.cli.reference."""

from pathlib import Path

from codechoir.cli.main import codechoir
from codechoir.cli.reference import reference

(Path(__file__).parents[1] / "docs" / "cli.md").write_text(reference(codechoir), encoding="utf-8")
