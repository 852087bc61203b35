"""Debian's copyright files, in the machine-readable form and in prose."""

import logging

import pytest

from codechoir.data.files.debian_copyright import parse_copyright

DEP5 = b"""Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: p

Files: *
Copyright: 2020 A
License: Expat

Files: lib/*.c
       src/old?.h
Copyright: 2019 B
License: GPL-2+ or Expat, and BSD-mine

Files: lib/own.c lib/sub/*
Copyright: 2018 C
License: LGPL-2.1+

Files: debian/*
Copyright: 2021 D
License: BSD-odd

Files: zlib/*
Copyright: 1995 E
License: Z-like
 This software is provided 'as-is', without any express or implied warranty.
 .
 2. Altered source versions must be plainly marked as such, and must not be misrepresented.

License: Expat
 Permission is granted.

License: BSD-mine
 Redistribution and use in source and binary forms, with or without
 modification, are permitted provided that the following conditions are met:
 .
 Redistributions of source code must retain it.
 Redistributions in binary form must reproduce it.

License: BSD-odd
 Do as you are told.
"""


@pytest.mark.parametrize(
    ("path", "licence"),
    [
        ("a.c", "MIT"),
        ("deep/down/a.c", "MIT"),
        ("lib/a.c", "BSD-2-Clause AND (GPL-2.0-or-later OR MIT)"),  # a name that the file itself explains
        ("lib/deep/a.c", "BSD-2-Clause AND (GPL-2.0-or-later OR MIT)"),  # "*" also matches "/"
        ("src/old1.h", "BSD-2-Clause AND (GPL-2.0-or-later OR MIT)"),
        ("src/old12.h", "MIT"),
        ("lib/a.cc", "MIT"),
        ("lib/own.c", "LGPL-2.1-or-later"),  # the last paragraph that matches holds
        ("lib/sub/a.c", "LGPL-2.1-or-later"),
        ("debian/rules", "BSD-odd"),
        ("zlib/a.c", "Zlib"),  # told by the text
    ],
)
def test_the_licence_of_each_file(path: str, licence: str) -> None:
    assert parse_copyright(DEP5).licence_of(path) == licence


def test_all_licences_in_order() -> None:
    assert parse_copyright(DEP5).licences() == [
        "MIT",
        "BSD-2-Clause AND (GPL-2.0-or-later OR MIT)",
        "LGPL-2.1-or-later",
        "BSD-odd",
        "Zlib",
    ]


def test_a_file_that_no_paragraph_names_has_no_licence() -> None:
    only = DEP5.replace(b"Files: *\n", b"Files: a.c\n")
    assert parse_copyright(only).licence_of("a.c") == "MIT"
    assert parse_copyright(only).licence_of("b.c") is None


def test_prose_states_one_licence_for_all() -> None:
    prose = b"""This is p.

    It is free software; you can redistribute it under the terms of the GNU General Public License, either
    version 2 of the License, or (at your option) any later version.
    """
    assert parse_copyright(prose).licence_of("any/file") == "GPL-2.0-or-later"
    assert parse_copyright(prose).licences() == ["GPL-2.0-or-later"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe nothing",
        b"Made by me.\n",
        b"Files: *\n",
        b"Format: x\n\nFiles: *\nLicense:\n",
        b"Format: x\n\nFiles: *\nCopyright: me\nLicense: \n",
        b"Format: x\n\nFiles: bad\\q\nCopyright: me\nLicense: MIT\n",
        b"Format: x\n\n: :\n\n\n",
    ],
)
def test_what_cannot_be_read_names_no_licence(content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    assert parse_copyright(content).licence_of("a.c") is None
    assert parse_copyright(content).licences() == []
    assert caplog.records == []
    assert not logging.getLogger("debian.copyright").disabled
