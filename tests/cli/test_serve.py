"""`codechoir serve`: what it refuses before anything is loaded."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import codechoir.serve
from codechoir.cli.serve import serve
from codechoir.errors import ToolMissingError


def test_what_is_wrong_is_said_in_one_message(codechoir, tmp_path: Path) -> None:
    said = codechoir("serve", tmp_path, "--host", "0.0.0.0").refusal()
    assert "needs an API key" in said and "--api-key-file" in said
    assert "no model in this folder" in codechoir("serve", f"x={tmp_path}", "--port", 0).refusal()
    assert "two models have one name" in codechoir("serve", "a=x", "a=y").refusal()
    assert "max_tokns" in codechoir("serve", tmp_path, "--set", "max_tokns=5").refusal()
    keys = codechoir("serve", tmp_path, "--api-key-file", tmp_path / "absent").refusal()
    assert "API key file cannot be read" in keys


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn", "prometheus_client"])
def test_without_its_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for name in [name for name in sys.modules if name.startswith("codechoir.serve.")]:
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(codechoir.serve, name.rpartition(".")[2], raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ToolMissingError, match=r"pip install 'codechoir\[serve\]'"):
        serve.main(["somewhere"], standalone_mode=False)
