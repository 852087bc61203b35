"""`codechoir inspect` on the finished run's model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "grow.py"
    path.write_text("def grow(value):\n    return '<b>' + value\n" * 3)
    return path


def test_it_tells_experts_sizes_and_similarity(codechoir, finished_run: Path) -> None:
    model = finished_run / "compose"
    done = codechoir("inspect", model, "--json")
    assert done.code == 0, done.stderr
    told = json.loads(done.stdout)
    manifest = json.loads((model / "manifest.json").read_text())["facts"]
    assert told["experts"] == ["python", "javascript"]
    assert told["total_parameters"] == manifest["total_parameters"]
    assert told["active_parameters"] == manifest["active_parameters"]
    assert [each["layer"] for each in told["similarity"]] == told["layers"] == [0, 1]
    assert told["similarity"][0]["differences"][0][1] == pytest.approx(-1)  # two experts lie across their mean
    assert set(told["moments"]) == {"python", "javascript"}
    assert "texts" not in told
    words = codechoir("inspect", model)
    assert words.code == 0
    assert "python, javascript" in words.stdout and "python-javascript" in words.stdout


def test_a_text_is_routed(codechoir, finished_run: Path, source: Path, tmp_path: Path) -> None:
    page = tmp_path / "routes.html"
    done = codechoir("inspect", finished_run / "compose", "--text", source, "--html", page, "--json")
    assert done.code == 0, done.stderr
    told = json.loads(done.stdout)
    for row in told["routing_share"]["python"]:
        assert sum(row) == pytest.approx(1, abs=1e-3)
    assert set(told["dead_experts"]) == {"0", "1"}
    (text,) = told["texts"]
    assert text["tokens"] == text["tokens_read"] > 16
    assert set(text["prompt_router"]) >= {"16", str(text["tokens"])}
    assert all(sum(route.values()) == pytest.approx(1, abs=1e-3) for route in text["prompt_route"].values())
    html = page.read_text()
    assert "&lt;" in html and "<b>" not in html
    words = codechoir("inspect", finished_run / "compose", "--text", source)
    assert "dead experts" in words.stdout and "after" in words.stdout
    route = max(text["prompt_route"][str(text["tokens"])].items(), key=lambda each: each[1])
    assert route[0] in words.stdout.rstrip().splitlines()[-1].split("%")[2]  # after two experts' probabilities


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--html", "page.html"], "a page of routes needs a text"),
        (["--text", "/nowhere.py"], "no such file"),
    ],
)
def test_what_is_refused(codechoir, finished_run: Path, arguments: list[str], said: str) -> None:
    assert said in codechoir("inspect", finished_run / "compose", *arguments).refusal()


def test_a_dense_model_is_refused(codechoir, finished_run: Path) -> None:
    assert "routing.json" in codechoir("inspect", finished_run / "train" / "trunk").refusal()
