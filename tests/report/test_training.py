"""What the training section tells: curves of held-out bits, the search for learning rates, what is matched."""

from __future__ import annotations

import re
from typing import Any

import pytest

from codechoir.languages import LANGUAGES as KNOWN
from codechoir.report.config import ReportConfig
from codechoir.report.facts import read_run
from codechoir.report.training import training_section
from codechoir.report.view import Figures, Section, Table, Text

from .conftest import LANGUAGES, Fake


def section(fake: Fake) -> Section:
    return training_section(read_run(fake.write()), ReportConfig())


def add(fake: Fake, branch: str, **facts: Any) -> None:
    fake.facts[f"train/{branch}"] |= facts


def figures(found: Section) -> dict[str, Any]:
    return {figure.name: figure for block in found.blocks if isinstance(block, Figures) for figure in block.items}


def test_a_run_that_measured_nothing_has_loss_curves_alone(fake: Fake) -> None:
    found = section(fake)
    assert set(figures(found)) == {"losses-mixed", "losses-experts"}
    assert [block.caption for block in found.blocks if isinstance(block, Table)] == ["Branches"]
    assert not [block for block in found.blocks if isinstance(block, Text)]


def test_held_out_bits_are_drawn_by_language_over_all_tokens_seen(fake: Fake) -> None:
    add(fake, "trunk", bits_per_byte=[[200_000, {"python": 0.9, "java": 0.7}], [400_000, {"python": 0.8, "java": 0.6}]])
    add(fake, "python", bits_per_byte=[[200_000, {"python": 0.75}], [400_000, {"python": 0.7}]])
    add(fake, "universal", bits_per_byte=[[1_600_000, {"python": 0.72, "java": None}]])
    drawn = figures(section(fake))
    assert set(drawn) == {"losses-mixed", "losses-experts", "training-bits-python", "training-bits-java"}
    told = drawn["training-bits-python"].alternative
    assert told == "trunk from 0.900 to 0.800; expert, Python from 0.750 to 0.700; universal from 0.720 to 0.720"
    assert drawn["training-bits-java"].alternative == "trunk from 0.700 to 0.600"
    lines = re.findall(r'polyline points="([^"]*)"', drawn["training-bits-python"].body)[:3]
    places = [[float(point.split(",")[0]) for point in line.split()] for line in lines]
    # Tokens: trunk 0.2M and 0.4M, the expert 0.6M and 0.8M after it, the universal model 2M.
    left, step = places[0][0], places[0][1] - places[0][0]
    assert [(x - left) / step for line in places for x in line] == pytest.approx([0, 1, 2, 3, 9], abs=0.02)


def test_every_line_of_a_languages_chart_has_a_style_of_its_own(fake: Fake) -> None:
    names = list(KNOWN)[:12]
    corpus = fake.facts["curate"]["languages"]
    for name in ("trunk", "universal", *names):
        fake.facts.setdefault(f"train/{name}", dict(fake.facts["train/python"]))
        add(fake, name, bits_per_byte=[[200_000, dict.fromkeys(names, 0.9)]])
        corpus.setdefault(name, corpus["python"])
    charts = [figure.body for name, figure in figures(section(fake)).items() if name.startswith("training-bits-")]
    assert len(charts) >= 12
    for body in charts:
        styles = re.findall(r'polyline points="[^"]*" class="line (c\d)"', body)
        assert len(set(styles)) == 3


def test_the_search_is_told_for_each_arm_once(fake: Fake) -> None:
    def tries(*bits: float | None) -> list[dict[str, Any]]:
        rates = (1e-4, 2e-4, 4e-4)
        return [
            {"learning_rate": rate, "steps": 4, "tokens": 8192, "bits_per_byte": value}
            for rate, value in zip(rates, bits, strict=True)
        ]

    add(fake, "trunk", search=tries(0.9, 0.8, 0.85))
    add(fake, "universal", search=tries(0.7, 0.71, None))
    for name in LANGUAGES:
        add(fake, name, search=tries(0.6, 0.62, 0.59))
    table = next(block for block in section(fake).blocks if isinstance(block, Table) and "search" in block.caption)
    assert table.columns == ("Branch", "0.0001", "0.0002", "0.0004", "Tokens")
    rows = {row.name: [cell.text for cell in row.cells] for row in table.rows}
    assert rows == {
        "trunk": ["0.9000", "0.8000", "0.8500", "8,192"],
        "experts, tried on Python": ["0.6000", "0.6200", "0.5900", "8,192"],
        "universal": ["0.7000", "0.7100", "–", "8,192"],
    }
    assert [[cell.best for cell in row.cells].index(True) for row in table.rows] == [1, 2, 0]


def test_skipped_steps_are_told(fake: Fake) -> None:
    add(fake, "universal", steps=1200, skipped_steps=[5, 6, 7])
    add(fake, "python", steps=300, skipped_steps=[299])
    (text,) = (block.text for block in section(fake).blocks if isinstance(block, Text))
    assert text.endswith("was not sound: universal 3 of 1,200 and expert, Python 1 of 300.")


@pytest.mark.parametrize(
    ("data", "compute", "told"),
    [
        (True, True, r"is data-matched \(.* very tokens .*\) and compute-matched \(.*as many tokens.*\)\.$"),
        (False, True, r"is compute-matched \(.*as many tokens.*\), but not data-matched \(.*\)\.$"),
        (False, False, r"is neither data-matched \(.*\) nor compute-matched \(.*\)\.$"),
    ],
)
def test_what_the_universal_model_is_matched_in(fake: Fake, data: bool, compute: bool, told: str) -> None:
    add(fake, "universal", data_matched=data, compute_matched=compute)
    (text,) = (block.text for block in section(fake).blocks if isinstance(block, Text))
    assert re.search(told, text) and "all experts together" in text
    add(fake, "universal", data_matched=data, compute_matched=False, tuned_tokens=9)
    fake.facts["tune"] = {"top_k": 2}
    (text,) = (block.text for block in section(fake).blocks if isinstance(block, Text))
    assert text.startswith(f"The universal model is {'' if data else 'not '}data-matched (")
    assert "all experts and tuning together" in text and "compute-matched" not in text
    assert text.endswith("what tuning costs a token hangs on its experts a token, 2.")
