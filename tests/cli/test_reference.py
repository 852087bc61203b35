"""docs/cli.md says what the command line says."""

from pathlib import Path

from codechoir.cli.main import codechoir
from codechoir.cli.reference import reference

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_document_is_up_to_date() -> None:
    assert DOCS.read_text(encoding="utf-8") == reference(codechoir), "run `make docs`"


def test_every_command_is_there() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for command in ("run", "recipe show", "compose", "generate", "evaluate", "doctor"):
        assert f"\n## codechoir {command}\n" in text
