"""The corpus section: its numbers are the manifest's, in both renderings, and old or odd manifests still report."""

from __future__ import annotations

import dataclasses
import html
import math
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.data.config import CurateConfig, FilterConfig, SamplingConfig
from codechoir.data.corpus.sampling import Cluster, Stratum, StratumPlan, sample_plan
from codechoir.data.files.columns import measure
from codechoir.data.files.filters import decisions
from codechoir.data.files.licences import NOT_ALLOWED, UNKNOWN
from codechoir.data.files.rejection import FileText
from codechoir.errors import InputError
from codechoir.languages import language
from codechoir.report import render
from codechoir.report.corpus import LONGEST_LIST, REASONS, SETTINGS, corpus_section, lsh_recall
from codechoir.report.facts import PlanFacts, read_run
from codechoir.report.view import Page, Table

Rows = list[tuple[str, ...]]


class Shown:
    """The section as a reader finds it: each table's rows by caption, and all text, the same in HTML and Markdown."""

    def __init__(self, fake: Any) -> None:
        self.section = corpus_section(read_run(curated(fake)))
        self.page = Page("t", "s", (), (), (self.section,))
        self.html, self.markdown = render.html(self.page), render.markdown(self.page)
        self.text = plain(self.html)
        assert html_tables(self.html) == markdown_tables(self.markdown)
        captions = [block.caption for block in self.section.blocks if isinstance(block, Table)]
        self.tables = dict(zip(captions, html_tables(self.html), strict=True))

    def row(self, caption: str, name: str) -> dict[str, str]:
        """Column -> text of one row of the one table whose caption begins so."""
        (table,) = (table for found, table in self.tables.items() if found.startswith(caption))
        (row,) = (row for row in table[1:] if row[0] == name)
        return dict(zip(table[0], row, strict=True))


def curated(fake: Any) -> Path:
    """The run's folder with nothing but curation in it."""
    return fake.write(leave_out=tuple(stage for stage in fake.facts if stage != "curate"))


def plain(fragment: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", fragment)).split())


def html_tables(page: str) -> list[Rows]:
    return [
        [
            tuple(plain(cell) for cell in re.findall(r"<t[hd]\b.*?</t[hd]>", row, re.DOTALL))
            for row in re.findall(r"<tr>.*?</tr>", table, re.DOTALL)
        ]
        for table in re.findall(r"<table.*?</table>", page, re.DOTALL)
    ]


def markdown_tables(page: str) -> list[Rows]:
    found = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
    rows = [[tuple(map(unescaped, line[2:-2].split(" | "))) for line in table.splitlines()] for table in found]
    assert all(set(table[1]) == {"---"} for table in rows)
    return [[table[0], *table[2:]] for table in rows]


def unescaped(text: str) -> str:
    return html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)).strip()


def test_reasons_stand_in_rows_in_the_order_of_the_steps_with_their_meaning(fake) -> None:
    fake.facts["curate"]["rejected"] = {
        "python": {"near-duplicate": 1234, "licence-unknown": 5, "of-another-time": 2},
        "cpp": {"near-duplicate": 6, "empty": 1},
    }
    shown = Shown(fake)
    table = shown.tables["Rejected files by reason"]
    assert table[0] == ("Reason", "Python", "Java", "JavaScript", "C++", "All", "Meaning")
    assert [row[:6] for row in table[1:]] == [
        ("licence-unknown", "5", "0", "0", "0", "5"),
        ("empty", "0", "0", "0", "1", "1"),
        ("near-duplicate", "1,234", "0", "0", "6", "1,240"),
        ("of-another-time", "2", "0", "0", "0", "2"),
    ]
    assert [row[6] for row in table[1:]] == [
        REASONS["licence-unknown"], "nothing but blanks", REASONS["near-duplicate"], "–"
    ]  # fmt: skip
    assert shown.row("Files kept", "Python")["Rejected files"] == "1,241"


def test_every_reason_that_curation_gives_is_explained() -> None:
    file = FileText("a.py", language("python"), "x = 1\n")
    steps = [decision.step for decision in decisions(file, measure(file.content), FilterConfig())]
    corpus_wide = ["contaminated", "duplicate", "near-duplicate", "not-sampled"]
    of_reading = ["too-large", "unreadable", "not-utf8", "no-content"]
    assert (
        list(REASONS)
        == [*of_reading, UNKNOWN, NOT_ALLOWED, "auto-generated", "vendored"]
        + [step for step in steps if step != "auto-generated"]
        + corpus_wide
    )


def test_what_was_replaced_left_out_and_doubted(fake) -> None:
    shown = Shown(fake)
    assert "replaced in the kept files: 1,234." in shown.text
    assert "no longer have them: npm:left-pad@0.0.1, pypi:lost@1.0." in shown.text
    assert shown.row("Kept files of doubtful language", "c or cpp: a header")["Files"] == "17"
    assert shown.row("Stored columns that their content contradicts", "size, hexsha")["Files"] == "3"


def test_near_duplicates_and_their_precision(fake) -> None:
    shown = Shown(fake)
    assert shown.tables["Near-duplicates"][1:] == [
        ("Pairs proposed and compared exactly", "51,234"),
        ("Of these, with a Jaccard similarity of 0.7 or more", "2,345"),
        ("Files removed", "1,357"),
        ("Crowded buckets", "6"),
    ]
    assert "precision is 1 by construction" in shown.text


def test_the_realised_recall_stands_beside_the_theoretical(fake) -> None:
    shown = Shown(fake)
    table = shown.tables["Realised recall of the near-duplicates' search, estimated on a sample"]
    assert len(table) == 12
    assert table[5] == ("0.7 to 0.75", "10", "9", "0.900", "0.975 to 0.996")  # 20 bands of 5 rows
    assert table[7] == ("0.8 to 0.85", "0", "0", "–", "1.000 to 1.000")
    assert table[11] == ("0.7 and above", "65", "64", "0.985", "–")
    assert "A sample of up to 200 files" in shown.text


def test_the_recall_is_drawn_as_steps_with_a_gap_where_there_are_no_pairs(fake) -> None:
    (figure,) = Shown(fake).page.figures()
    found = list(ElementTree.fromstring(f"<svg>{figure.body}</svg>"))
    lines = [e.attrib["points"].split() for e in found if e.tag == "polyline" and "c2" in e.attrib["class"]]
    steps, after_gap, legend = ([tuple(map(float, point.split(","))) for point in line] for line in lines)
    assert [len(steps), len(after_gap), len(legend)] == [12, 6, 2]
    assert steps[-1][0] < after_gap[0][0]
    height = [steps[2 * i][1] for i in range(6)]
    axis = {
        e.text: float(e.attrib["y"]) - 4 for e in found if e.attrib.get("class") == "tick" and e.attrib["x"] == "46.0"
    }
    zero, one = axis["0"], axis["1.0"]
    for y, recall in zip(height, (0.2, 0.4, 0.65, 0.8125, 0.9, 1.0), strict=True):
        assert (zero - y) / (zero - one) == pytest.approx(recall, abs=2e-3)
    assert [e.text for e in found if e.text in ("realised", "theoretical")] == ["realised", "theoretical"]
    assert "0.812 from 0.65 to 0.7" in figure.alternative


def test_a_recall_without_pairs_is_not_drawn(fake) -> None:
    fake.facts["curate"]["recall"] = [{"low": 0.9, "high": 1.0, "pairs": 0, "proposed": 0}]
    shown = Shown(fake)
    assert shown.row("Realised recall", "0.9 and above")["Realised recall"] == "–"
    assert shown.page.figures() == []


def test_a_recall_that_was_not_asked_for_is_said(fake) -> None:
    fake.facts["curate"]["recall"] = []
    fake.configs["curate"]["dedup"]["recall_sample"] = 0
    assert "recall of the near-duplicates' search was not estimated" in Shown(fake).text


@given(similarity=st.floats(0, 1), bands=st.integers(1, 40), rows=st.integers(1, 10))
def test_the_theoretical_recall_is_the_chance_of_at_least_one_band(similarity: float, bands: int, rows: int) -> None:
    none_shared = math.prod(1 - math.prod([similarity] * rows) for _ in range(bands))
    assert lsh_recall(similarity, bands, rows) == pytest.approx(1 - none_shared, abs=1e-9)


def test_the_arithmetic_of_the_sample_is_shown_step_by_step(fake) -> None:
    shown = Shown(fake)
    needed = "Files that the stated precision asks for: e = 0.05, confidence = 0.95, p = 0.5"
    assert shown.tables[needed] == [
        ("Language", "N", "Repositories", "z", "n0", "m", "rho", "Design effect", "Inflated", "Finite", "Required"),
        ("Python", "1,000", "125", "1.960", "384.1", "11.00", "0.050", "1.50", "576.2", "0.6348", "366"),
        ("Java", "3", "1", "1.960", "384.1", "3.00", "undefined", "1.00", "384.1", "0.0078", "3"),
    ]
    assert shown.tables["Files taken, and the precision reached"] == [
        ("Language", "N", "S", "Required", "Allocated", "Chosen", "Half width"),
        ("Python", "1,000", "1.250", "366", "366", "366", "0.0500"),
        ("Java", "3", "1.250", "3", "1", "0", "undefined"),
    ]
    formulas = shown.tables["The steps of that arithmetic"]
    columns = {column for table in ("Files that", "Files taken") for column in shown.row(table, "Java")}
    assert {row[0] for row in formulas[1:]} == columns - {"Language", "Repositories"}
    assert shown.row("The steps", "n0")["Formula"] == "z² p (1 − p) / e²"


def test_real_plans_are_shown(fake) -> None:
    strata = [Stratum("python", (Cluster.of([1.0, 2.0, 4.0]), Cluster.of([5.0, 5.5]))), Stratum("java", ())]
    plans = [dataclasses.asdict(plan) for plan in sample_plan(strata, SamplingConfig())]
    fake.facts["curate"]["sampling"] = plans
    assert Shown(fake).row("Files taken", "Python")["Chosen"] == f"{plans[0]['chosen']}"
    assert {each.name for each in dataclasses.fields(StratumPlan)} == set(PlanFacts.model_fields)


def test_that_no_sample_was_drawn_is_said(fake) -> None:
    fake.facts["curate"]["sampling"] = []
    fake.configs["curate"]["sampling"] = None
    assert "No sample was drawn: every file that passed is kept." in Shown(fake).text


def test_settings_are_shown_with_their_place_in_the_recipe(fake) -> None:
    table = Shown(fake).tables["Settings of the curation"]
    values = {row[2]: row[1] for row in table[1:]}
    assert values == {
        "licences.min_rating": "bronze",
        "licences.allowed": "none",
        "filters.max_line_length": "1000",
        "filters.min_alphanum_fraction": "0.25",
        "filters.max_error_fractions": "c 0.2",
        "decontaminate.against": "human-eval, problems/mbpp",
        "dedup.threshold": "0.7",
        "dedup.bands": "20",
        "dedup.rows": "5",
        "sampling.precision": "0.05",
        "sampling.confidence": "0.95",
        "sampling.total": "none",
    }


def test_every_setting_shown_is_one_of_the_stage() -> None:
    source = {"kind": "folder", "path": "code"}
    config = CurateConfig.model_validate({"sources": [source], "sampling": {}}).model_dump(mode="json")
    for place in SETTINGS:
        section, _, name = place.rpartition(".")
        assert name in (config[section] if section else config), place


def test_many_packages_are_cut_short(fake) -> None:
    names = [f"owner/{number}" for number in range(LONGEST_LIST + 1500)]
    fake.facts["curate"]["languages"]["java"]["held_out"]["packages"] = names
    said = Shown(fake).row("Packages on each side", "Java")["Held-out"]
    assert said == ", ".join(names[:LONGEST_LIST]) + " and 1,500 more"


OLD = ("languages", "rejected", "sources")
NEW = ("replaced", "doubtful", "differing_columns", "gone", "near_duplicates", "recall", "sampling")


def test_a_manifest_of_an_older_curation_is_reported_without_what_it_lacks(fake) -> None:
    fake.facts["curate"] = {name: fake.facts["curate"][name] for name in OLD}
    fake.configs.clear()
    shown = Shown(fake)
    assert list(shown.tables) == [
        "Files kept and rejected",
        "Rejected files by reason",
        "Packages on each side of the split",
        "Sources and their licences",
    ]
    assert "undefined" not in shown.text


@pytest.mark.parametrize("absent", [*OLD, *NEW])
def test_any_fact_may_be_missing(fake, absent: str) -> None:
    del fake.facts["curate"][absent]
    shown = Shown(fake)
    assert "Settings of the curation" in shown.tables
    assert "No sample was drawn" not in shown.text  # the settings ask for one


@pytest.mark.parametrize("config", [{"dedup": "as ever"}, {"dedup": {"bands": "many"}}, {"sampling": 3}])
def test_settings_of_another_shape_are_passed_over(fake, config: dict[str, Any]) -> None:
    fake.configs["curate"] = config
    shown = Shown(fake)
    assert shown.row("Realised recall", "0.7 to 0.75")["Theoretical recall"] == "–"
    assert "0.7 and above" not in shown.text
    assert "Files that the stated precision asks for" in shown.tables


@pytest.mark.parametrize("low", [math.nan, -0.1, "much"])
def test_an_interval_that_is_none_is_named(fake, low: object) -> None:
    fake.facts["curate"]["recall"][3]["low"] = low
    with pytest.raises(InputError, match=r"recall\.3\.low"):
        read_run(curated(fake))
