"""Parts that lie measured are taken up where their sizes are the same, and told with the rounds that they had."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from bench.compose import __main__ as compose
from bench.kept import Kept
from bench.serve import __main__ as serve
from bench.train import __main__ as train


def resumed(main: Callable[[list[str]], int], work: Path, *options: str) -> str:
    """The page of a benchmark that measures only the part named."""
    out = work / "page.md"
    assert main([f"--work={work}", f"--out={out}", "--resume", *options]) == 0
    return out.read_text(encoding="utf-8")


def trained(num_rounds: int) -> dict[str, Any]:
    """A hundred tokens a second for all."""
    run = {"seconds": [2.0], "step_tokens": 200, "gpu_mib": None, "peak_mib": 10}
    runs = {name: [run] * num_rounds for name in train.CONTESTANTS}
    return {"device": "the CPU", "told": "A machine.", "found": {"float32": runs}}


@pytest.mark.parametrize("name", ["cpu.json", "quick-cpu.json"])
def test_a_toys_training_is_not_told_as_a_real_ones(name: str, tmp_path: Path) -> None:
    toy = {"sizes": asdict(train.QUICK["cpu"]), **trained(1)}
    (tmp_path / name).write_text(json.dumps(toy), encoding="utf-8")
    assert "## On the CPU" not in resumed(train.main, tmp_path, "--only")


def test_training_measured_in_other_rounds_is_told_with_its_own(tmp_path: Path) -> None:
    kept = {"sizes": asdict(train.FULL["cpu"]) | {"rounds": 5}, **trained(5)}
    (tmp_path / "cpu.json").write_text(json.dumps(kept), encoding="utf-8")
    told = resumed(train.main, tmp_path, "--only", "--rounds=2")
    assert "A machine. 5 rounds." in told
    assert "## On the CPU" not in resumed(train.main, tmp_path, "--only", "--quick")


def test_utilisation_is_taken_up_by_its_own_shapes_sizes(tmp_path: Path) -> None:
    found = {"device": "H100", "told": "An H100.", "found": {"speed": 12345.0, "share": 0.5, "peak_mib": 10}}
    for shape in train.LARGE:
        kept = {"sizes": asdict(train.FULL["1.3b"]), **found}
        (tmp_path / f"{shape}.json").write_text(json.dumps(kept), encoding="utf-8")
    told = resumed(train.main, tmp_path, "--only")
    assert "| 1.3b | H100 | 12,345 |" in told and "\n1.3b: An H100." in told and "| 135m |" not in told


def test_serving_takes_up_a_part_of_its_sizes(tmp_path: Path) -> None:
    found = {"found": {"requests": 1, "cancelled": 2, "differing": 3}}
    Kept(tmp_path, True).write("exact", asdict(serve.QUICK) | {"rounds": 9}, found)
    assert "3 differ in any token" in resumed(serve.main, tmp_path, "--quick", "--only", "exact")


def test_composing_tells_the_rounds_of_a_part_taken_up(tmp_path: Path) -> None:
    seconds = {name: [4.0] * 5 for name in ("sums", "solve", "calibration", "base", "base_headless")}
    found = {"seconds": seconds, "tokens": {"go": 1000}, "calibration_tokens": {"go": 100}, "dtype": "float32"}
    Kept(tmp_path, False).write("fit", asdict(compose.FULL) | {"rounds": 5}, {"found": found})
    told = resumed(compose.main, tmp_path, "--only", "fit", "--rounds=2")
    assert "Rounds: fit 5." in told and "| solve | 4.00" in told


def test_what_is_kept_is_what_was_written_with_its_sizes(tmp_path: Path) -> None:
    kept, sizes = Kept(tmp_path / "work", False), {"batches": (1, 8), "rounds": 3}
    assert kept.read("a", sizes) is None
    part = {"sizes": {"batches": [1, 8], "rounds": 3}, "found": 7}
    assert kept.write("a", sizes, {"found": 7}) == part
    assert kept.read("a", sizes) == kept.read("a", sizes | {"rounds": 9}) == part
    assert kept.read("a", sizes | {"batches": (1,)}) is None
    assert kept.read("a", sizes | {"more": 1}) is None
    assert kept.read("b", sizes) is None
    assert Kept(tmp_path / "work", True).read("a", sizes) is None
    kept.path("a").write_text("{}", encoding="utf-8")
    assert kept.read("a", sizes) is None


def test_a_quick_run_replaces_nothing_that_a_full_one_kept(tmp_path: Path) -> None:
    full, quick = Kept(tmp_path, False), Kept(tmp_path, True)
    full.write("a", {"rounds": 3}, {"found": "real"})
    quick.write("a", {"rounds": 3}, {"found": "toy"})
    assert [each.read("a", {"rounds": 3})["found"] for each in (full, quick)] == ["real", "toy"]
