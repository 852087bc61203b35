"""Licence texts and notices: whole texts as Debian ships them, and notices as files carry them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.data.files.licence_texts import HEAD_CHARACTERS, PROPRIETARY, header_licence, text_licence

MIT = """Copyright (c) 2020 A B

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so{condition}

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND.
"""
NOTICE_KEPT = """, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies of the Software."""
BSD = """Copyright (c) 2020, A B. All rights reserved.

Redistribution and use in source and binary forms, with or without modification, are permitted provided that the
following conditions are met:
1. Redistributions of source code must retain the above copyright notice.
"""
BINARY = "2. Redistributions in binary form must reproduce the above copyright notice.\n"
ENDORSE = "3. The names of contributors may not be used to endorse or promote products derived from this software.\n"
ADVERTISE = "4. All advertising materials mentioning features of this software must display the following.\n"
ISC = """Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee
is hereby granted"""
KEEP = ", provided that the above copyright notice and this permission notice appear in all copies."
ZLIB = """This software is provided 'as-is', without any express or implied warranty.
2. Altered source versions must be plainly marked as such, and must not be misrepresented."""

TEXTS = {
    "MIT": MIT.format(condition=NOTICE_KEPT),
    "MIT-0": MIT.format(condition="."),
    "X11": MIT.format(condition=NOTICE_KEPT) + "Except as contained in this notice, the name of A B shall not be used.",
    "NCSA": MIT.replace("deal in the", "deal with the").format(condition=NOTICE_KEPT),
    "BSD-1-Clause": BSD,
    "BSD-2-Clause": BSD + BINARY,
    "BSD-3-Clause": BSD + BINARY + ENDORSE,
    "BSD-4-Clause": BSD + BINARY + ENDORSE + ADVERTISE,
    "ISC": ISC + KEEP,
    "0BSD": ISC + ".",
    "Zlib": ZLIB,
    "Unlicense": "This is free and unencumbered software released into the public domain.",
    "BSL-1.0": "Boost Software License - Version 1.0 - August 17th, 2003",
    "JSON AND MIT": MIT.format(condition=NOTICE_KEPT) + "The Software shall be used for Good, not Evil.",
    "BSD-3-Clause AND MIT": BSD + BINARY + ENDORSE + MIT.format(condition=NOTICE_KEPT),
}


@pytest.mark.parametrize("licence", TEXTS)
def test_texts_are_known_by_what_they_grant(licence: str) -> None:
    assert text_licence(TEXTS[licence]) == licence


@pytest.mark.parametrize(
    "text",
    ["", "All rights reserved.", "See the LICENSE file.", BSD.replace("are permitted", "are permitted for research")],
)
def test_other_texts_are_not_known(text: str) -> None:
    assert text_licence(text) is None


COMMON = Path("/usr/share/common-licenses")


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("Apache-2.0", "Apache-2.0"),
        ("BSD", "BSD-3-Clause"),
        ("CC0-1.0", "CC0-1.0"),
        ("GFDL-1.3", "GFDL-1.3-only"),
        ("GPL-1", "GPL-1.0-only"),
        ("GPL-2", "GPL-2.0-only"),
        ("GPL-3", "GPL-3.0-only"),
        ("LGPL-2", "LGPL-2.0-only"),
        ("LGPL-2.1", "LGPL-2.1-only"),
        ("LGPL-3", "LGPL-3.0-only"),
        ("MPL-1.1", "MPL-1.1"),
        ("MPL-2.0", "MPL-2.0"),
    ],
)
def test_whole_texts_as_debian_ships_them(name: str, licence: str) -> None:
    path = COMMON / name
    if not path.exists():
        pytest.skip("not a Debian system")
    text = path.read_text(errors="replace")
    assert text_licence(text) == licence
    mit = MIT.format(condition=NOTICE_KEPT)
    assert text_licence(f"{mit}\n----\n{text}") == " AND ".join(sorted([licence, "MIT"]))


def gnu(kind: str, version: str, later: bool) -> str:
    either = (
        f"either version {version} of the License, or\n(at your option) any later version"
        if later
        else f"version {version}"
    )
    return (
        "This program is free software; you can redistribute it and/or modify\n"
        f"it under the terms of the GNU {kind}General Public License as\npublished by the Foundation; {either}.\n"
        f"You should have received a copy of the GNU {kind}General Public License along with this program.\n"
    )


@pytest.mark.parametrize("marks", [" * ", "# ", "// ", "-- ", ";; ", ""])
@pytest.mark.parametrize(
    ("notice", "licence"),
    [
        (gnu("", "2", True), "GPL-2.0-or-later"),
        (gnu("", "3", False), "GPL-3.0-only"),
        (gnu("Lesser ", "2.1", True), "LGPL-2.1-or-later"),
        (gnu("Library ", "2", True), "LGPL-2.0-or-later"),
        (gnu("Affero ", "3", True), "AGPL-3.0-or-later"),
        ("You may use this under the GNU General Public License.", "GPL-1.0-or-later"),
        ("@license http://www.gnu.org/licenses/gpl.html GPL", "GPL-1.0-or-later"),
        ("Licensed under the GPL v2.", "GPL-2.0-only"),
        ("Licensed under the terms of the GPLv3 or later", "GPL-3.0-or-later"),
        ("This Source Code Form is subject to the terms of the Mozilla Public\nLicense, v. 2.0.", "MPL-2.0"),
        ('Licensed under the Apache License, Version 2.0 (the "License");', "Apache-2.0"),
        (
            "under the Apache License v2.0 with LLVM Exceptions.\nMay be linked with code licensed under the GPLv2",
            "Apache-2.0",
        ),
        (
            "Use of this source code is governed by a BSD-style\nlicense that can be found in the LICENSE file.",
            "BSD-3-Clause",
        ),
        ("Released under the MIT license", "MIT"),
        (TEXTS["BSD-3-Clause"], "BSD-3-Clause"),
        (
            TEXTS["BSD-2-Clause"] + "Alternatively, this may be used\n" + gnu("", "2", False),
            "BSD-2-Clause OR GPL-2.0-only",
        ),
        (TEXTS["BSD-2-Clause"] + gnu("", "2", False), "BSD-2-Clause AND GPL-2.0-only"),
        (
            "X is free software dual licensed under the GNU LGPL or MIT License.\n" + gnu("Lesser ", "3", True),
            "LGPL-3.0-or-later OR MIT",
        ),
        ("Copyright X Corp. Proprietary and confidential.", PROPRIETARY),
        (
            "Copyright 2020 X. All rights reserved. Unauthorized copying of this\nfile is strictly prohibited.",
            PROPRIETARY,
        ),
        ("Copyright 2020 X. License: for academic research\nuse only", PROPRIETARY),
        ("Licensed under the Business Source License 1.1", "BUSL-1.1"),
    ],
)
def test_notices_at_a_files_head(notice: str, licence: str, marks: str) -> None:
    comment = "".join(f"{marks}{line}\n" for line in notice.splitlines())
    assert header_licence(f"#!/bin/sh\n{comment}\nint main() {{}}\n") == licence
    assert header_licence(" " * HEAD_CHARACTERS + comment) is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "int main() {}\n",
        "# Copyright (c) 2020 A B. All rights reserved.\n",
        "# See the LICENSE file for the licence.\n",
        "# This licence is compatible with the GNU General Public License.\n",
        "# Dual licensed under the MIT or GPL licenses.\n",
        "def check_license(name):\n    return name in ALLOWED\n",
        "# access to this folder is strictly prohibited\n",
        "/* a proprietary format */\n",
    ],
)
def test_what_is_no_notice(content: str) -> None:
    assert header_licence(content) is None


@given(st.text(max_size=300))
def test_any_text_gives_an_answer(text: str) -> None:
    assert header_licence(text) is None or isinstance(header_licence(text), str)
    text_licence(text)
