"""What the routing section tells of tuning, and that a run without it has no word of it."""

from __future__ import annotations

from typing import Any

from codechoir.report.config import ReportConfig
from codechoir.report.facts import TUNED, Run, read_run
from codechoir.report.machine import environment
from codechoir.report.quality import bits_section
from codechoir.report.routing import routing_section
from codechoir.report.stage import build
from codechoir.report.view import Table, Text

from .conftest import LANGUAGES, Fake, _score

MEANS = {
    "before": {"uniform": 2.0, "oracle": 1.5, "token": 1.75},
    "after": {"uniform": 2.0, "oracle": 1.5, "token": 1.5},
}


def tune_facts(best_step: int) -> dict[str, Any]:
    losses = {
        side: {routing: dict.fromkeys((*LANGUAGES, "mean"), value) for routing, value in by.items()}
        for side, by in MEANS.items()
    }
    recovered = {"before": {"java": 0.5, "mean": 0.5, "cpp": None}, "after": {"java": 1.0, "mean": 1.0, "cpp": None}}
    return {
        "what": "routers",
        "top_k": 2,
        "steps": 40,
        "best_step": best_step,
        "losses": losses,
        "recovered": recovered,
    }


def tables(run: Run) -> list[Table]:
    return [block for block in routing_section(run, ReportConfig()).blocks if isinstance(block, Table)]


def texts(run: Run) -> str:
    return " ".join(block.text for block in routing_section(run, ReportConfig()).blocks if isinstance(block, Text))


def test_tuning_is_told(fake: Fake) -> None:
    fake.facts["tune"] = tune_facts(30)
    run = read_run(fake.write())
    assert "tuned by gradient for 40 steps at top-2. The best step by validation loss was 30." in texts(run)
    (table,) = (each for each in tables(run) if each.caption.startswith("Tuning"))
    rows = {row.name: [cell.text for cell in row.cells] for row in table.rows}
    java, mean = table.columns.index("Java") - 1, table.columns.index("Mean") - 1
    assert rows["token routing, step 0"][java] == "1.7500" and rows["token routing, best step"][mean] == "1.5000"
    assert rows["share of the gap recovered, step 0"][java] == "50.0%"
    assert rows["share of the gap recovered, best step"][mean] == "100.0%"
    assert rows["share of the gap recovered, best step"][table.columns.index("C++") - 1] == "no gap"
    assert "tune" in run.stages()


def test_a_model_that_stayed_as_it_was_is_told(fake: Fake) -> None:
    fake.facts["tune"] = tune_facts(0)
    assert "No step was better than step 0" in texts(read_run(fake.write()))


def test_the_tuned_model_stands_in_the_tables_of_a_run_that_has_one(fake: Fake) -> None:
    name = "MoE, token routing, tuned"

    def rows(run: Run) -> list[str]:
        return [row.name for block in bits_section(run).blocks if isinstance(block, Table) for row in block.rows]

    untuned = read_run(fake.write())
    assert name not in rows(untuned) and "MoE, uniform routing" in rows(untuned)
    assert name not in str(build(ReportConfig(), untuned, {}, environment()))
    fake.facts["tune"] = tune_facts(30)
    assert name in rows(read_run(fake.write()))  # as not run
    for language in (*LANGUAGES, "mean"):
        fake.scores.append(_score(TUNED, language, "bits_per_byte", 0.68, 0.01))
    run = read_run(fake.write())
    assert name in rows(run)
    gaps = next(each for each in tables(run) if each.caption.startswith("Share of the gap"))
    shares = {row.name: [cell.text for cell in row.cells] for row in gaps.rows}
    values = {(s.model, s.language): s.value for s in fake.scores if s.metric == "bits_per_byte"}
    uniform, oracle = values["moe-uniform", "java"], values["moe-oracle", "java"]
    assert shares[name][LANGUAGES.index("java")] == f"{(uniform - 0.68) / (uniform - oracle):.1%}"
