"""The plan as text: every figure at its place, never wider than a terminal of 120 columns."""

from __future__ import annotations

from codechoir.languages import LANGUAGES
from codechoir.planning.corpus import Amount
from codechoir.planning.needs import Need
from codechoir.planning.plan import Machine, Plan
from codechoir.planning.proposal import AtHand, propose
from codechoir.planning.table import WIDTH, lines_of

GIB = 2**30


def at_hand(name: str) -> AtHand:
    mine = name in ("python", "visual-basic")
    return AtHand(
        language=name,
        in_recipe=mine,
        there=Amount(1234567, 98765432100, 4321) if mine else Amount(),
        taken=Amount(1234, 56780000, 43) if name == "python" else Amount(),
        kept=Amount(1000, 45670000, 40) if name == "python" else None,
        toolchain="none known" if name == "visual-basic" else "works" if name in ("python", "cpp") else "missing",
        toolchain_detail="" if mine else "missing: it",
        num_problems=24 if name == "python" else 0,
        problems_reason="no translation is at hand, " * 12,
    )


def plan() -> Plan:
    languages = tuple(at_hand(name) for name in LANGUAGES)
    needs = (
        Need("curate", 59.6, 2**20 * 3 // 2, 512, "measured " * 40),
        Need("train", 3725, 5 * GIB // 2, 3 * GIB, "computed"),
        Need("report", None, None, None, "not measured"),
    )
    machine = Machine(2, 16 * GIB, 10 * GIB, 70 * GIB)
    return Plan(languages, 100, needs, machine, propose(languages, 100), ("beware " * 30,))


def test_the_figures() -> None:
    lines = list(lines_of(plan()))
    rows = {line.split()[0]: line.split() for line in lines if line}
    assert rows["python*"] == [
        *("python*", "1,234,567", "98,765.43", "4,321", "1,234", "56.78", "43", "1,000", "45.67", "works", "24")
    ]
    assert rows["visual-basic*"][4:] == ["-", "-", "-", "-", "-", "none", "known", "none"]
    assert rows["cpp"] == ["cpp", *"--------", "works", "none"]
    assert "java" not in rows
    assert rows["curate"] == ["curate", "1:00", "1.5", "MiB", "0.0", "MiB"]
    assert rows["train"] == ["train", "1:02:05", "2.5", "GiB", "3.0", "GiB"]
    assert rows["report"] == ["report", "?", "?", "?"]
    assert rows["together"] == [*["together", "1:03:05", "2.5", "GiB", "3.0", "GiB", "without", "report"]]
    text = " ".join(lines)
    assert "Stages here (2 cores, 10.0 of 16.0 GiB of memory free, 70.0 GiB of disk free)" in text
    assert "Proposed to train: python (the recipe names python, visual-basic; fewer than 4: others lack data" in text
    assert "+ python        about 11,417,500 tokens of 100 asked for" in text
    assert "- visual-basic  the sources give no file of it" in text
    assert "note: beware" in text


def test_the_columns_are_aligned() -> None:
    lines = list(lines_of(plan()))
    start = lines.index("") + 1
    table = lines[start : lines.index("", start)]
    head, units, *rows = table
    assert head.index("toolchain") == rows[0].index("works")
    for row in rows:
        assert row.index("works" if "works" in row else "none known") == head.index("toolchain")
    assert all(len(line) == len(line.rstrip()) for line in table)
    assert units.split()[:4] == ["language", "files", "MB", "packages"]


def test_no_line_is_too_long() -> None:
    assert max(map(len, lines_of(plan()))) <= WIDTH
