"""The report as files: figures agree with the records, nothing hostile comes through, absent parts say so."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from codechoir.artifacts import MANIFEST, Manifest
from codechoir.errors import InputError
from codechoir.records import Comparison, Score
from codechoir.report.config import ReportConfig
from codechoir.report.stage import report

VOID = {"meta", "br", "link", "img", "hr", "input"}
RECIPE = {"name": "demo", "base": {"kind": "wheel"}, "languages": ["python", "java"]}


class Reader(HTMLParser):
    """Tables by caption, all text, and every way in which a document can be wrong or reach outside."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.tables: list[list[list[str]]] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.tags: set[str] = set()
        self.feed(document)
        self.close()
        assert self.open == [], f"left open: {self.open}"
        self.text = " ".join("".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id" and value]
        for name, value in attrs:
            if name in ("aria-labelledby", "aria-describedby") and value:
                self.references += value.split()
            if name == "href" and value and value.startswith("#"):
                self.references.append(value[1:])

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)
        if self.tables and {"th", "td"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def table(self, first: str, rows: str) -> dict[str, dict[str, str]]:
        """The first table whose corner says `first` and which has a row of that name: row -> column -> text."""
        for table in self.tables:
            found = {
                row[0].strip(): {c: " ".join(v.split()) for c, v in zip(table[0], row, strict=True)}
                for row in table[1:]
            }
            if table[0][0] == first and rows in found:
                return found
        raise AssertionError(f"no table of {first} with {rows}")


def run(folder: Path, config: ReportConfig | None = None, recipe: dict[str, Any] | None = None) -> Manifest:
    return report(config or ReportConfig(), folder, RECIPE if recipe is None else recipe, {}, folder / "report")


def written(folder: Path) -> tuple[Reader, str, dict[str, Any]]:
    run(folder)
    out = folder / "report"
    html, text = (out / "index.html").read_text(), (out / "report.md").read_text()
    return Reader(html), text, json.loads((out / "scores.json").read_text())


def figure(value: float, metric: str) -> str:
    return f"{value:.{4 if metric == 'bits_per_byte' else 3}f}".replace("-", "−")


def test_every_score_stands_in_both_pages_and_in_the_file(fake) -> None:
    page, text, scores = written(fake.write())
    for score in fake.scores:
        said = (
            figure(score.value, score.metric),
            f"[{figure(score.low, score.metric)}, {figure(score.high, score.metric)}]",
        )
        assert " ".join(said) in text
        assert " ".join(said) in page.text or f"{said[0]} ★" in page.text or f"{said[0]}★ {said[1]}" in page.text
    assert [Score(**each) for each in scores["scores"]] == fake.scores
    outcomes = [each.pop("outcome") for each in scores["comparisons"]]
    assert [Comparison(**each) for each in scores["comparisons"]] == fake.comparisons
    assert [each == "within noise" for each in outcomes] == [not each.p_adjusted <= 0.05 for each in fake.comparisons]


def test_the_table_takes_each_languages_own_expert_and_marks_the_lowest(fake) -> None:
    page, _, _ = written(fake.write())
    table = page.table("Model", "own expert (dense)")
    by = {(s.model, s.language): s.value for s in fake.scores if s.metric == "bits_per_byte"}
    names = {"Python": "python", "Java": "java", "JavaScript": "javascript", "C++": "cpp"}
    for column, language in names.items():
        assert table["own expert (dense)"][column].startswith(f"{by[f'expert-{language}', language]:.4f}")
        shown = {
            m: v for (m, n), v in by.items() if n == language and (not m.startswith("expert-") or m == f"expert-{n}")
        }
        lowest = [row for row, cells in table.items() if "★" in cells[column]]
        assert len(lowest) == 1
        assert table[lowest[0]][column].startswith(f"{min(shown.values()):.4f}")
    mean = sum(by[f"expert-{name}", name] for name in names.values()) / 4
    assert table["own expert (dense)"]["Mean"] == f"{mean:.4f}"


def test_home_advantage_says_own_others_and_their_difference(fake) -> None:
    page, _, _ = written(fake.write())
    table = page.table("Language", "C++")
    by = {(s.model, s.language): s.value for s in fake.scores if s.metric == "bits_per_byte"}
    others = [by[f"expert-{name}", "cpp"] for name in ("python", "java", "javascript")]
    assert table["C++"]["Mean of the others"] == f"{sum(others) / 3:.4f}"
    (difference,) = (c for c in fake.comparisons if c.against == "other-experts" and c.language == "cpp")
    assert table["C++"]["Own − others"].startswith(f"{difference.difference:+.4f}".replace("-", "−"))
    assert table["C++"]["Own − others"].endswith("better")


@pytest.mark.parametrize(
    ("difference", "width", "starts"),
    [
        (-0.02, 0.01, "Yes, on the mean"),
        (0.02, 0.01, "No, on the mean over languages it is worse"),
        (-0.02, 0.03, "Undecided: on the mean over languages the difference is within noise"),
        (0.02, 0.021, "Undecided"),
        (math.nan, math.nan, "Undecided"),
    ],
)
def test_the_headline_follows_the_corrected_p_value(
    fake, comparison: Callable[..., Comparison], difference: float, width: float, starts: str
) -> None:
    mean = comparison("moe-prompt", "universal", "mean", difference, width)
    key = (mean.model, mean.against, mean.language, mean.metric)
    fake.comparisons = [c for c in fake.comparisons if (c.model, c.against, c.language, c.metric) != key] + [mean]
    manifest = run(fake.write())
    assert (
        manifest.facts["headline"][0]["question"] == "Does the MoE with prompt routing beat the universal dense model?"
    )
    assert manifest.facts["headline"][0]["answer"].startswith(starts)
    assert manifest.facts["headline"][1]["answer"].startswith("Yes")  # the base's own comparison is as it was


def test_within_noise_is_said_exactly_where_chance_may_have_made_it(fake, comparison) -> None:
    for clear in (True, False):
        fake.comparisons = [
            # all intervals lie clear of 0, and so does the p-value of each one alone
            comparison(c.model, c.against, c.language, -0.5, 0.1, c.metric).model_copy(
                update={"p_value": 0.01, "p_adjusted": 0.04 if clear else 0.06}
            )
            for c in fake.comparisons
        ]
        page, text, _ = written(dataclasses.replace(fake, folder=fake.folder / str(clear)).write())
        assert ("within noise" in page.text) is ("within noise" in text) is (not clear)
        if not clear:
            assert "(better)" not in text
            assert "(worse)" not in text
            assert page.text.count("within noise") >= len(fake.comparisons)


def test_higher_is_better_for_pass_rates(fake, comparison) -> None:
    fake.comparisons = [comparison("moe-prompt", "universal", "python", 0.1, 0.05, "pass@1")]
    _, text, _ = written(fake.write())
    assert "+0.100 [+0.050, +0.150], p &lt; 0.001 (better)" in text


def test_a_comparison_shows_its_p_values_and_what_could_have_been_found(fake, comparison) -> None:
    one = comparison("moe-prompt", "universal", "mean", -0.02, 0.01).model_copy(
        update={"p_value": 0.0123, "p_adjusted": 0.0246, "detectable": 0.0143}
    )
    fake.comparisons = [one]
    page, text, _ = written(fake.write())
    assert "Difference: −0.0200 [−0.0300, −0.0100], p 0.025 bits per byte." in text
    assert "A true difference of 0.0143 bits per byte is found in about four of five such evaluations." in page.text
    assert "The least difference found in about four of five such evaluations is 0.0143, by cell." in page.text
    (table,) = (table for table in page.tables if "p by Holm" in table[0])
    cells = dict(zip(table[0], table[1], strict=True))
    assert (cells["p"], cells["p by Holm"], cells["Detectable"]) == ("0.0123", "0.0246", "0.0143")
    assert (cells["Count"], cells["Clusters"]) == ("120", "30")


def test_an_undefined_p_value_claims_nothing(fake, comparison) -> None:
    nan = {"p_value": math.nan, "p_adjusted": math.nan, "detectable": math.nan}
    fake.comparisons = [comparison("moe-prompt", "universal", "mean", -0.02, 0.01).model_copy(update=nan)]
    for null in (True, False):
        page, text, scores = written(dataclasses.replace(fake, folder=fake.folder / str(null)).write(null=null))
        assert "Undecided: on the mean" in page.text
        assert "four of five" not in page.text.split("Every score")[0].split("Pass rates")[0]
        assert "p undefined" not in text
        assert scores["comparisons"][0]["p_adjusted"] is None


def test_infilling_stands_beside_the_pass_rates(fake) -> None:
    value = {"metric": "infill_exact_match", "value": 0.6, "low": 0.5, "high": 0.7}
    fake.scores += [s.model_copy(update=value) for s in fake.scores if s.metric == "pass@1" and s.model == "soup"]
    page, _, _ = written(fake.write())
    assert "infill_exact_match: share of the lines cut out that were written back exactly" in page.text
    fake.scores = [s for s in fake.scores if not s.metric.startswith("pass")]
    page, _, _ = written(dataclasses.replace(fake, folder=fake.folder.with_name("alone")).write())
    assert "Pass rates were not run." in page.text
    assert "infill_exact_match: share of the lines" in page.text
    assert "asked for no infilling" not in page.text


def test_models_that_cannot_fill_in_are_named(fake) -> None:
    page, _, _ = written(fake.write())
    assert "Infilling" not in page.text  # nobody was asked
    fake.facts["generate"]["not_infilled"] = {"base": "it has no infilling tokens", "expert-cpp": "nor has it"}
    page, _, _ = written(dataclasses.replace(fake, folder=fake.folder.with_name("none")).write())
    assert "Infilling was not run." in page.text
    said = "asked for no infilling: base (it has no infilling tokens); expert, C++ (nor has it)."
    assert said in page.text
    fake.scores += [s.model_copy(update={"metric": "infill_exact_match"}) for s in fake.scores if s.metric == "pass@1"]
    page, _, _ = written(dataclasses.replace(fake, folder=fake.folder.with_name("some")).write())
    assert "Infilling was not run." not in page.text and said in page.text


def test_what_the_figures_leave_out_and_rest_on_is_told(fake) -> None:
    page, _, _ = written(fake.write())
    assert "cannot express them (evaluate/manifest.json has the reasons): Java 2." in page.text
    assert (
        "Programs that ran out of time at first: 12. Each was run again, alone on the machine, and that counts. "
        "3 then ended otherwise: a flake rate of 0.2% of all 1,500 programs."
    ) in page.text
    assert "different seeds" not in page.text
    fake.facts["evaluate"]["same_seeds"] = False
    del fake.facts["evaluate"]["time_outs"]
    page, _, _ = written(dataclasses.replace(fake, folder=fake.folder.with_name("other")).write())
    assert "different seeds: they are paired by problem" in page.text
    assert "flake rate" not in page.text


def test_unequal_tokens_are_said_aloud(fake) -> None:
    page, _, _ = written(fake.write())
    assert "Equal total tokens: 2,000,000 tokens for the universal model, 2,000,000 for" in page.text
    fake.facts["train/universal"]["total_tokens"] = 800_000
    page, _, _ = written(dataclasses.replace(fake, folder=fake.folder.with_name("unequal")).write())
    assert "NOT at equal total tokens: 800,000 tokens for the universal model, 2,000,000 for" in page.text


def test_a_tuned_models_tokens_count(fake) -> None:
    fake.scores = [each for each in fake.scores if each.model in ("universal", "base")] + [
        each.model_copy(update={"model": "moe-tuned"}) for each in fake.scores if each.model == "universal"
    ]
    fake.facts["tune"] = {
        "what": "whole",
        "top_k": 1,
        "steps": 3,
        "best_step": 2,
        "tokens": 500_000,
        "tokens_read": 750_000,
    }
    page, _, _ = written(fake.write())
    said = (
        "NOT at equal total tokens: 2,000,000 tokens for the universal model, 2,500,000 for the trunk, all experts and"
    )
    assert said in page.text
    assert "That read 750,000 tokens beside those of the trunk and the experts." in page.text


@pytest.mark.parametrize(("tuned", "judged"), [(500_000, "token routing, tuned"), (0, "prompt routing")])
def test_where_the_universal_model_reads_what_tuning_does_the_tuned_model_is_judged(fake, tuned: int, judged) -> None:
    """It alone has read as much as the universal model, which is said."""
    fake.scores += [each.model_copy(update={"model": "moe-tuned"}) for each in fake.scores if each.model == "universal"]
    fake.facts["tune"] = {"what": "whole", "top_k": 1, "steps": 3, "best_step": 3, "tokens": 500_000}
    fake.facts["train/universal"]["tuned_tokens"] = tuned
    page, _, _ = written(fake.write())
    assert f"Does the MoE with {judged} beat the universal dense model?" in page.text
    assert ("has read the 500,000 tokens that tuning read" in page.text) == bool(tuned)


@pytest.mark.parametrize(("way", "learned"), [("feed-forward", 500_000), ("lora", 400_000)])
def test_what_sets_the_tuned_model_apart_beside_its_experts_is_said(fake, way: str, learned: int) -> None:
    """Other weights that train, and weights that were kept before tuning had read all."""
    fake.scores += [each.model_copy(update={"model": "moe-tuned"}) for each in fake.scores if each.model == "universal"]
    fake.facts["tune"] = {"what": "whole", "top_k": 1, "steps": 3, "best_step": 3, "tokens": learned}
    fake.facts["train/universal"] |= {"tuned_tokens": 500_000, "trainable": way, "data_matched": True}
    page, _, _ = written(fake.write())
    assert ("the universal model trained otherwise (lora)" in page.text) == (way == "lora")
    assert ("its kept weights learned from 400,000 of them" in page.text) == (learned < 500_000)
    assert ("The universal model is not data-matched" in page.text) == (learned < 500_000)


@pytest.mark.parametrize("tokens", [0, 96])
def test_experts_that_are_copies_of_the_trunk_are_said_to_be(fake, tokens: int) -> None:
    fake.facts["tune"] = {"what": "whole", "top_k": 1, "steps": 3, "best_step": 3, "tokens": 500_000}
    fake.facts["train/universal"]["tuned_tokens"] = 500_000
    for language in fake.facts["compose"]["experts"]:
        fake.facts[f"train/{language}"]["tokens"] = tokens
    page, _, _ = written(fake.write())
    assert ("until tuning they are copies of the trunk" in page.text) == (not tokens)


def test_experts_of_an_earlier_recipe_and_a_generalist_are_no_languages(fake) -> None:
    fake.facts["compose"]["experts"] = [*fake.facts["compose"]["experts"], "generalist"]
    fake.facts["train/rust"] = dict(fake.facts["train/python"])
    fake.configs["train/universal"] = {"languages": ["python", "java", "javascript", "cpp"]}
    page, _, _ = written(fake.write())
    assert "Equal total tokens: 2,000,000 tokens for the universal model, 2,000,000 for" in page.text
    assert "expert, Rust" not in page.text
    assert "expert, generalist" not in page.text


def test_undefined_figures_may_be_nan_or_null(fake) -> None:
    nan = Score(
        model="soup", language="cpp", metric="pass@1", value=math.nan, low=math.nan, high=math.nan, count=0, clusters=0
    )
    fake.scores.append(nan)
    pages = []
    for null in (True, False):
        made = dataclasses.replace(fake, folder=fake.folder.parent / str(null) / "demo")
        page, _, scores = written(made.write(null=null))
        assert page.table("Model", "soup (experts averaged)")
        assert "undefined" in page.text
        assert scores["scores"][-1]["value"] is None
        pages.append(page.text)
    assert pages[0] == pages[1]


HOSTILE = "<script>alert(1)</script>`|[x](http://evil.example)<img src=//evil.example/x>\n# *b* &amp;\" onload='x"


def test_hostile_text_is_shown_and_never_obeyed(fake) -> None:
    fake.facts["curate"]["sources"] = [{"name": HOSTILE, "licence": HOSTILE, "documents": 3}]
    fake.facts["curate"]["rejected"]["python"][HOSTILE] = 2
    fake.facts["curate"] |= {"doubtful": {HOSTILE: 1}, "differing_columns": {HOSTILE: 1}, "gone": [HOSTILE]}
    fake.facts["curate"]["sampling"][0]["language"] = HOSTILE
    fake.configs["curate"]["decontaminate"]["against"] = [HOSTILE]
    fake.configs["curate"]["sampling"]["precision"] = HOSTILE
    fake.facts["evaluate"]["statuses"] = {HOSTILE: {HOSTILE: {HOSTILE: 1}}}
    fake.facts["evaluate"]["toolchains"] = {HOSTILE: HOSTILE}
    fake.facts["compose"]["experts"].append(HOSTILE)
    fake.facts["compose"]["prompt_router"]["confusion"]["512"]["python"][HOSTILE] = 0.5
    fake.facts["generate"]["skipped"] = {HOSTILE: HOSTILE}
    fake.skipped = {HOSTILE: HOSTILE}
    folder = fake.write()
    run(folder, ReportConfig(title=HOSTILE), {"name": HOSTILE, "note": "```\n</code><b>"})
    html, text = ((folder / "report" / name).read_text() for name in ("index.html", "report.md"))
    page = Reader(html)
    assert not page.tags & {"script", "img", "b", "iframe", "link"}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in page.text  # as text
    code = re.search(r"^(`{4,})yaml\n(.*?)\n\1$", text, re.DOTALL | re.MULTILINE)
    assert code is not None, "a fence longer than the recipe's own"
    prose = text.replace(code[0], "")
    assert not re.search(r"<(?!/?(details|summary)>)", prose)
    assert "](http" not in re.sub(r"\\.", "", prose)
    assert "://" not in prose.replace(r"\://", "")
    assert not re.search(r"^#+ \*b", prose, re.MULTILINE)


def test_the_page_stands_alone_and_is_well_formed(fake) -> None:
    folder = fake.write()
    page, text, _ = written(folder)
    assert not [(n, v) for n, v in page.attributes if n in ("src", "srcset", "action", "data", "xlink:href")]
    assert all(value and value.startswith("#") for name, value in page.attributes if name == "href")
    html = (folder / "report" / "index.html").read_text()
    assert "http:" not in html
    assert "https:" not in html
    assert "url(" not in html
    assert "@import" not in html
    assert len(page.ids) == len(set(page.ids))
    assert set(page.references) <= set(page.ids)
    assert {"table", "svg", "title", "desc", "details", "th", "nav", "main"} <= page.tags
    assert "prefers-color-scheme: dark" in html
    pictures = sorted(path.name for path in (folder / "report" / "figures").iterdir())
    assert pictures == sorted(re.findall(r"\(figures/([\w-]+\.svg)\)", text))
    for name in pictures:
        root = ElementTree.parse(folder / "report" / "figures" / name).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root.findtext("{http://www.w3.org/2000/svg}desc")


def test_the_routes_are_drawn_as_recorded(fake) -> None:
    folder = fake.write()
    _, _, scores = written(folder)
    for model in ("moe-prompt", "moe-token-top1", "moe-token-top2"):
        for language, routes in fake.routes[model].items():
            for expert in ("python", "cpp"):
                mean = sum(route.get(expert, 0.0) for route in routes) / len(routes)
                assert scores["routes"][model][language].get(expert, 0.0) == pytest.approx(mean)
    picture = ElementTree.parse(folder / "report" / "figures" / "confusion-moe-token-top1.svg")
    numbers = [
        e.text for e in picture.iter("{http://www.w3.org/2000/svg}text") if re.fullmatch(r"[01]\.\d+", e.text or "")
    ]
    order = ("python", "java", "javascript", "cpp")
    expected = [f"{scores['routes']['moe-token-top1'][row][column]:.3f}" for row in order for column in order]
    assert numbers == expected
    assert "universal" not in scores["routes"]


STAGES = ("curate", "train", "train/trunk", "train/universal", "train/cpp", "compose", "generate", "evaluate")


@pytest.mark.parametrize("absent", STAGES)
def test_an_absent_stage_is_not_run(fake, absent: str) -> None:
    page, text, _ = written(fake.write(leave_out=(absent,)))
    assert "not run" in page.text
    assert "not run" in text


def test_a_run_of_nothing_still_reports(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    page, text, scores = written(tmp_path / "empty")
    assert "Not run: the MoE has no scores, so nothing is claimed." in page.text
    assert text.count("not run") >= 10
    assert "no stage is finished" in page.text
    assert scores["scores"] == []


@pytest.mark.parametrize("model", ["base", "universal", "moe-prompt", "expert-java"])
def test_a_missing_model_is_not_run(fake, model: str) -> None:
    fake.scores = [s for s in fake.scores if s.model != model]
    fake.comparisons = [c for c in fake.comparisons if model not in (c.model, c.against)]
    page, _, _ = written(fake.write())
    row = {"base": "base", "universal": "universal (dense)", "moe-prompt": "MoE, prompt routing"}.get(model)
    table = page.table("Model", row or "own expert (dense)")
    assert table[row or "own expert (dense)"]["Java"] == "not run"
    assert table[row or "own expert (dense)"]["Mean"] == "not run"
    if model == "moe-prompt":
        assert "Does the MoE with token routing, top-1 beat the universal dense model?" in page.text


def test_a_complete_run_says_nowhere_that_a_stage_was_not_run(fake) -> None:
    page, _, _ = written(fake.write())
    assert "was not run" not in page.text


def test_facts_show_where_they_belong(fake) -> None:
    page, _, _ = written(fake.write())
    corpus = page.table("Language", "Python")
    assert page.text.count("bubblewrap 0.8.0") == 1
    assert corpus
    kept = next(t for t in page.tables if t[0][1:2] == ["Kept files"])
    assert kept[1] == ["Python", "460", "17", "2.67", "400", "2.48", "60", "2.48"]
    branches = page.table("Branch", "universal")
    assert branches["universal"]["Tokens"] == "1,600,000"
    assert branches["expert, C++"]["With its trunk"] == "800,000"
    assert page.table("Proof", "Identical experts against the trunk")["Route fixed on C++ against its expert"][
        "Max |difference|"
    ] == "0"  # fmt: skip
    assert page.table("Language", "All languages")["All languages"]["512 tokens"] == "99.8%"
    assert page.table("Stage", "all")["all"]["Time"] == "12 min 30 s"
    when = datetime.datetime.fromtimestamp(1_790_000_000, datetime.UTC)
    assert f"{when:%Y-%m-%d %H:%M} UTC" in page.text


def test_the_gap_that_a_router_recovers(fake) -> None:
    page, _, _ = written(fake.write())
    by = {(s.model, s.language): s.value for s in fake.scores if s.metric == "bits_per_byte"}
    gap = by["moe-uniform", "java"] - by["moe-oracle", "java"]
    share = 1 - (by["moe-token-top2", "java"] - by["moe-oracle", "java"]) / gap
    assert page.table("Routing", "MoE, prompt routing")["MoE, token routing, top-2"]["Java"] == f"{share:.1%}"


def test_the_same_run_gives_the_same_files(fake, tmp_path: Path) -> None:
    folder = fake.write()
    for out in ("first", "second"):
        report(ReportConfig(), folder, RECIPE, {}, tmp_path / out)
    files = sorted(p.relative_to(tmp_path / "first") for p in (tmp_path / "first").rglob("*") if p.is_file())
    assert len(files) > 10
    for name in files:
        if name.name != MANIFEST:
            assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_what_an_earlier_recipe_tuned_is_not_told(fake) -> None:
    fake.facts["tune"] = {"steps": 30, "top_k": 2, "what": "whole", "best_step": 20, "losses": {}, "recovered": {}}
    folder = fake.write()
    told = {}
    for tune in ({"steps": 30}, None):
        run(folder, recipe={"tune": tune})
        told[tune is None] = "tuned by gradient for 30 steps" in (folder / "report" / "report.md").read_text()
    assert told == {False: True, True: False}


def test_a_finished_report_is_kept_until_a_stage_or_the_recipe_changes(fake) -> None:
    folder = fake.write(leave_out=("evaluate",))
    page = folder / "report" / "index.html"
    first = run(folder)
    page.write_text(page.read_text().replace("Corpus", "corpus"))  # same size: seen only if it is written anew
    assert run(folder) == first
    assert "Corpus" not in page.read_text()
    assert run(folder, recipe={"name": "other"}).digest != first.digest
    fake.write()
    assert run(folder).digest != first.digest
    assert "Every score" in page.read_text()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("curate/manifest.json", "{"),
        ("evaluate/scores.json", '{"scores": [{"model": 1}], "comparisons": []}'),
        ("evaluate/scores.json", "[]"),
        ("generate/moe-prompt/cpp.likelihood.jsonl", "nonsense\n"),
    ],
)
def test_a_damaged_file_is_named(fake, name: str, content: str) -> None:
    folder = fake.write()
    (folder / name).write_text(content)
    with pytest.raises(InputError, match=re.escape(name)):
        run(folder)
    assert not (folder / "report").exists()


def test_a_fact_of_another_type_is_named(fake) -> None:
    fake.facts["compose"]["total_parameters"] = "many"
    with pytest.raises(InputError, match="total_parameters"):
        run(fake.write())


def test_no_such_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such run"):
        run(tmp_path / "missing")
