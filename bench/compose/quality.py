"""What a finished run's files say of its routers: bits per byte, accuracies, load. Reads and counts; runs no model."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

ORACLE, UNIFORM, PROMPT = "moe-oracle", "moe-uniform", "moe-prompt"
TOKEN = ("moe-token-top1", "moe-token-top2")
NEEDED = ("evaluate/scores.json", "compose/manifest.json")


def read_quality(run: Path) -> dict[str, Any]:
    """Model -> language -> bits per byte (`mean`: over the languages), the prompt router's accuracy, and the load."""
    scores = _json(run / "evaluate/scores.json")["scores"]
    bits: dict[str, dict[str, float]] = {}
    for score in scores:
        if score["metric"] == "bits_per_byte" and score["language"] != "mean":
            bits.setdefault(score["model"], {})[score["language"]] = score["value"]
    for by_language in bits.values():
        by_language["mean"] = mean(by_language.values())
    router = _json(run / "compose/manifest.json")["facts"]["prompt_router"]
    return {
        "bits": bits,
        "languages": sorted(router["accuracy_by_language"]),
        "accuracy": router["accuracy"],
        "accuracy_by_language": router["accuracy_by_language"],
        "documents": router["documents"],
        "load": {model: _load(run / "generate" / model) for model in (*TOKEN, PROMPT)},
        "held_out": _json(run / "generate/manifest.json")["config"]["held_out_documents"],
    }


def _load(folder: Path) -> dict[str, dict[str, float]]:
    """Language of the text -> expert -> mean share of the routing decisions."""
    found: dict[str, dict[str, float]] = {}
    for path in sorted(folder.glob("*.likelihood.jsonl")):
        routes = [json.loads(line).get("route", {}) for line in path.read_text(encoding="utf-8").splitlines()]
        experts = sorted({expert for route in routes for expert in route})
        if experts:
            language = path.name.removesuffix(".likelihood.jsonl")
            found[language] = {name: mean(route.get(name, 0.0) for route in routes) for name in experts}
    return found


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
