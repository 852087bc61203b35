"""`codechoir plan`: a whole plan of the tiny recipe, and what a user can get wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from codechoir.cli.plan import plan
from codechoir.languages import LANGUAGES
from codechoir.planning import plan as planning
from codechoir.planning.trial import Trials
from codechoir.sandbox.diagnosis import Finding

Json = dict[str, Any]


@pytest.fixture(scope="module")
def arguments(tiny: list[str]) -> list[str]:
    return ["plan", *tiny[1:], "--set", "curate.decontaminate.against=[]"]


@pytest.fixture(scope="module")
def planned(codechoir, arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Json:
    """One plan with everything tried, as JSON."""
    out = tmp_path_factory.mktemp("planned") / "run"
    done = codechoir(*arguments, "--json", "--out", out, hidden=["javac", "g++"])
    assert done.code == 0, done.stderr
    assert not out.exists()
    told: Json = json.loads(done.stdout)
    return told


def test_languages(planned: Json, corpus: Path) -> None:
    found = {one["language"]: one for one in planned["languages"]}
    assert list(found) == list(LANGUAGES)
    for name, suffix in (("python", "py"), ("javascript", "js")):
        files = list(corpus.rglob(f"*.{suffix}"))
        amount = {
            "num_files": len(files), "num_bytes": sum(path.stat().st_size for path in files), "num_packages": 3
        }  # fmt: skip
        assert found[name] == {
            "language": name, "in_recipe": True, "there": amount, "taken": amount, "kept": None,
            "toolchain": "works", "toolchain_detail": "", "num_problems": 2, "problems_reason": "",
        }  # fmt: skip
    states = [found[name]["toolchain"] for name in ("java", "cpp", "perl", "css")]
    assert states == ["missing", "missing", "installed", "none known"]
    assert found["java"]["toolchain_detail"] == "missing: javac"


def test_stages(planned: Json) -> None:
    found = {need["stage"]: need for need in planned["needs"]}
    assert list(found) == ["curate", "train", "compose", "generate", "evaluate", "report"]
    for stage in ("curate", "train", "compose", "generate", "evaluate"):
        assert found[stage]["seconds"] > 0, stage
        assert found[stage]["memory"] > 10**8, stage
        assert found[stage]["disk"] > 0, stage
    assert "12 steps" in found["train"]["how"]  # 16 + 2 x 8 + 16 sequences, 4 in a step
    assert planned["num_tokens"] == 16 * 128


def test_the_proposal(planned: Json) -> None:
    assert [(one["language"], one["proposed"]) for one in planned["choices"]] == [
        ("javascript", True),  # of equals, the one with more data
        ("python", True),
    ]
    assert not [line for line in planned["warnings"] if "lacks" in line]


def test_text_and_a_finished_run(
    arguments: list[str], finished_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CODECHOIR_CACHE", str(tmp_path))
    monkeypatch.setattr(planning, "run_trials", lambda *_: Trials("not tried", "not tried"))
    monkeypatch.setattr(
        planning, "diagnose", lambda names: [Finding(name, "missing", "", (), "not here") for name in names]
    )
    asked = [*arguments[1:-2], "--out", str(finished_run)]
    done = CliRunner().invoke(plan, asked, catch_exceptions=False)
    manifests = {
        stage: json.loads((finished_run / stage / "manifest.json").read_text()) for stage in ("curate", "report")
    }
    row = next(line.split() for line in done.stdout.splitlines() if line.startswith("python*"))
    kept = manifests["curate"]["facts"]["languages"]["python"]
    assert row[7:9] == [str(kept["documents"]), f"{kept['bytes'] / 1e6:.2f}"]
    assert f"what the finished stage in {finished_run / 'curate'} took (unknown before)" in " ".join(
        done.stdout.split()
    )
    assert "note: python, which the recipe names, lacks a toolchain" in done.stdout


def test_problems_that_are_not_to_be_had_are_told(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(planning, "run_trials", lambda *_: Trials("not tried", "not tried"))
    monkeypatch.setattr(planning, "diagnose", lambda _: [])
    asked = [*arguments[1:], "--set", f"problems.source={tmp_path / 'none'}", "--json"]
    done = json.loads(CliRunner().invoke(plan, asked, catch_exceptions=False).stdout)
    python = next(one for one in done["languages"] if one["language"] == "python")
    assert python["num_problems"] == 0
    assert str(tmp_path / "none") in python["problems_reason"]


def test_a_source_that_is_missing(codechoir, arguments: list[str], tmp_path: Path) -> None:
    source = f"curate.sources=[{{kind: folder, path: {tmp_path / 'none'}}}]"
    message = codechoir(*arguments, "--set", source).refusal()
    assert message.startswith(f"no such folder\n  seen:    {tmp_path / 'none'}")


def test_a_missing_recipe(codechoir, tmp_path: Path) -> None:
    assert str(tmp_path / "none.yaml") in codechoir("plan", tmp_path / "none.yaml").refusal()
