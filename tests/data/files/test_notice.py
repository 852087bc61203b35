"""The NOTICE file and the copyright lines in it."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.data.files import notice
from codechoir.data.files.notice import HEAD_CHARACTERS, MAX_COPYRIGHTS, NoticeEntry, copyright_lines, write_notice


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (
            "/* Copyright (c) 2001-2010, Foo Bar <foo@bar.com>. All rights reserved. */",
            "Copyright (c) 2001-2010, Foo Bar",
        ),
        (" * Copyright (C) The Project", "Copyright (C) The Project"),
        ("// Copyright 2012 Example Inc.  ", "Copyright 2012 Example Inc."),
        ("# (c) 2013 Ünïcode GmbH", "(c) 2013 Ünïcode GmbH"),
        ("© 2019 X Ltd", "© 2019 X Ltd"),
        ("Copyright © 2019\tX  Ltd\r", "Copyright © 2019 X Ltd"),
        ("Copyright (c) 2020 a@b.org (Joe Doe)", "Copyright (c) 2020 (Joe Doe)"),
        ("__copyright__ = 'x'  # Copyright (c) 2020 Me Too", "Copyright (c) 2020 Me Too"),
        ("the above copyright notice", None),
        ("Copyright (c) <year> <owner>", None),
        ("Copyright [yyyy] [name of copyright owner]", None),
        ("Copyright (c) 2020", None),
        ("Copyright (c) 2020 <a@b.org>", None),
        ("def copyright(c): return 2020", None),
        ("(c) is a letter", None),
    ],
)
def test_copyright_lines(line: str, found: str | None) -> None:
    content = f"first\n{line}\n{line}\nlast\n"
    assert copyright_lines(content) == ([] if found is None else [found])
    assert copyright_lines("x" * HEAD_CHARACTERS + content) == []


@given(st.text(max_size=200), st.text(alphabet="copyrightCOPYRIGHT(c)© 2019@.<>", max_size=80))
def test_copyright_lines_are_one_line_without_addresses(before: str, after: str) -> None:
    for line in copyright_lines(before + after):
        assert line == " ".join(line.split())
        assert len(line) <= 200
        assert "a@b.org" not in line


ENTRIES = [
    NoticeEntry("beta", "2", "MIT", 1, ("Copyright (c) 2020 B",)),
    NoticeEntry("alpha", "1.0", "MIT", 3, ("Copyright (c) 2020 B", "Copyright (c) 2019 A")),
    NoticeEntry("alpha", "1.0", "Apache-2.0", 1200, ("Copyright (c) 2019 A",)),
    NoticeEntry("alpha", "1.0", "MIT", 1),
    NoticeEntry("user/gamma", "", "ISC", 1),
]


def written(entries: list[NoticeEntry], tmp_path: Path) -> str:
    write_notice(tmp_path / "NOTICE", iter(entries))
    return (tmp_path / "NOTICE").read_text(encoding="utf-8")


def test_the_notice_names_packages_licences_and_holders(tmp_path: Path) -> None:
    assert (
        written(ENTRIES, tmp_path)
        == """NOTICE

These documents hold 1,206 files of 3 packages, taken under:

  Apache-2.0: 1,200 files
  ISC: 1 file
  MIT: 5 files

alpha 1.0
  Apache-2.0: 1,200 files
  MIT: 4 files
  Copyright (c) 2019 A
  Copyright (c) 2020 B

beta 2
  MIT: 1 file
  Copyright (c) 2020 B

user/gamma
  ISC: 1 file
"""
    )


def test_an_empty_notice(tmp_path: Path) -> None:
    assert "0 files of 0 packages" in written([], tmp_path)


def test_a_packages_lines_are_bounded_and_do_not_depend_on_the_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notice, "_MAX_HELD", 100)
    entries = [NoticeEntry("p", "1", "MIT", 1, (f"Copyright (c) {year} A",)) for year in range(1000, 1600)]
    texts = set()
    for seed in range(3):
        random.Random(seed).shuffle(entries)
        texts.add(written(entries, tmp_path))
    (text,) = texts
    lines = text.splitlines()
    assert [line for line in lines if "Copyright" in line] == [
        f"  Copyright (c) {year} A" for year in range(1000, 1000 + MAX_COPYRIGHTS)
    ]
    assert lines[-1] == "  and others"
    assert "600 files" in text
    exactly = [
        NoticeEntry("p", "1", "MIT", 1, (f"Copyright (c) {year} A",)) for year in range(1000, 1000 + MAX_COPYRIGHTS)
    ]
    assert "and others" not in written(exactly, tmp_path)
