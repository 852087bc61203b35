"""Which licence a file is taken under: metadata as real packages write them, and what counts before what."""

import json

import pytest

from codechoir.data.config import LicenceConfig, PackageSource
from codechoir.data.files.licences import (
    LicenceDecision,
    LicensedFile,
    check_licence,
    decide,
    declared_licences,
    file_licences,
    is_metadata,
)
from codechoir.errors import ConfigError, InputError
from codechoir.packages import Package

WHEEL = Package(registry="pypi", name="p", version="1", sha256="0" * 64)
SDIST = Package(registry="pypi-sdist", name="p", version="1", sha256="0" * 64)
NPM = Package(registry="npm", name="@scope/p", version="1", sha256="0" * 64)
DEBIAN = Package(registry="debian", name="p", version="1-1", sha256="0" * 64)
PYTHON = {WHEEL: "p-1.dist-info/METADATA", SDIST: "p-1/PKG-INFO"}


def python(name: str, *lines: str) -> dict[str, bytes]:
    text = "\n".join(["Metadata-Version: 2.1", "Name: p", *lines, "", "License: not a header\n"])
    return {"p/a.py": b"", name: text.encode()}


def npm(values: object) -> dict[str, bytes]:
    return {"package/package.json": json.dumps(values).encode()}


def debian(*stated: tuple[str, str]) -> dict[str, bytes]:
    paragraphs = [f"Files: {files}\nCopyright: me\nLicense: {licence}\n" for files, licence in stated]
    return {"debian/copyright": "\n".join(["Format: x\n", *paragraphs]).encode()}


STATED = ("MIT", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0", "Apache-2.0 OR MIT")
BSD = ["BSD-2-Clause", "BSD-3-Clause"]  # "BSD" says neither which: it agrees with both


@pytest.mark.parametrize("package", PYTHON)
@pytest.mark.parametrize(
    ("lines", "agreeing"),
    [
        (["License-Expression: MIT"], ["MIT"]),
        (["License-Expression: MIT", "Classifier: License :: OSI Approved :: BSD License"], ["MIT"]),
        (["License-Expression: MIT OR Apache-2.0"], ["Apache-2.0 OR MIT"]),
        (["License: BSD", "Classifier: License :: OSI Approved :: BSD License"], BSD),
        (["Classifier: License :: OSI Approved :: BSD License"], BSD),
        (["License: Apache 2.0", "Classifier: License :: OSI Approved :: Apache Software License"], ["Apache-2.0"]),
        (["License: BSD-3-Clause", "Classifier: License :: OSI Approved :: BSD License"], ["BSD-3-Clause"]),
        (["License: BSD-2-Clause", "Classifier: License :: OSI Approved :: BSD License"], ["BSD-2-Clause"]),
        (["License: 2-Clause BSD"], ["BSD-2-Clause"]),
        (["License: UNKNOWN", "Classifier: License :: OSI Approved :: MIT License"], ["MIT"]),
        (["License: MIT", "Classifier: License :: Whatever"], ["MIT"]),
        (["License: MIT", "Classifier: License :: OSI Approved :: BSD License"], []),
        (["License: MIT", "Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)"], []),
        (["License: " + "Permission is hereby granted " * 9, "Classifier: License :: OSI Approved"], []),
        (["License-Expression: GPL-3.0-only"], []),
        (["License-Expression: MIT OR GPL-3.0-only"], []),
        ([], []),
    ],
)
def test_pythons_metadata(lines: list[str], agreeing: list[str], package: Package) -> None:
    members = python(PYTHON[package], *lines)
    for stated in STATED:
        if stated in agreeing:
            check_licence(package, members, stated)
        else:
            with pytest.raises(InputError, match=f"the licence stated for {package.registry}:p@1"):
                check_licence(package, members, stated)
    check_licence(package, members, None)


@pytest.mark.parametrize(
    ("values", "declared"),
    [
        ({"license": "ISC"}, ["ISC"]),
        ({"license": {"type": "MIT", "url": "x"}}, ["MIT"]),
        ({"licenses": [{"type": "MIT"}, {"type": "Apache-2.0"}]}, ["MIT", "Apache-2.0"]),
        ({}, []),
        ([], []),
    ],
)
def test_npms_metadata(values: object, declared: list[str]) -> None:
    assert declared_licences(NPM, npm(values)) == declared
    assert list(file_licences(NPM, npm(values), None)("lib/a.js")) == declared
    assert list(file_licences(NPM, npm(values), "BSD-3-Clause")("lib/a.js")) == ["BSD-3-Clause"]


def test_a_mismatch_says_what_was_seen_and_stated() -> None:
    with pytest.raises(InputError) as caught:
        check_licence(NPM, npm({"license": "GPL-2.0"}), "MIT")
    assert caught.value.seen == "GPL-2.0"
    assert caught.value.allowed == "MIT"
    with pytest.raises(InputError, match="no licence"):
        check_licence(NPM, {}, "MIT")
    check_licence(NPM, {}, None)


def test_two_licences_are_not_one_of_them() -> None:
    for stated in ("MIT", "Apache-2.0", "ISC AND MIT"):
        with pytest.raises(InputError):
            check_licence(NPM, npm({"licenses": ["MIT", "Apache-2.0"]}), stated)
    check_licence(NPM, npm({"licenses": ["MIT", "Apache-2.0"]}), "MIT AND Apache-2.0")


@pytest.mark.parametrize("content", [b"{", b"[" * 100_000])
def test_damaged_metadata_are_told(content: bytes) -> None:
    with pytest.raises(InputError, match=r"package\.json is damaged"):
        declared_licences(NPM, {"package/package.json": content})


def test_debians_metadata_speak_for_each_file() -> None:
    members = debian(("*", "Expat"), ("lib/*", "GPL-2+"))
    licences_of = file_licences(DEBIAN, members, "MIT")
    assert list(licences_of("a.c")) == ["MIT"]
    assert list(licences_of("lib/a.c")) == ["GPL-2.0-or-later"]  # whatever the recipe says of the package
    check_licence(DEBIAN, members, "MIT")
    with pytest.raises(InputError, match="debian:p@1-1"):
        check_licence(DEBIAN, members, "BSD-3-Clause")
    unnamed = debian(("lib/*", "GPL-2+"))
    assert list(file_licences(DEBIAN, unnamed, "MIT")("a.c")) == ["MIT"]
    assert list(file_licences(DEBIAN, unnamed, None)("a.c")) == []
    assert list(file_licences(DEBIAN, {}, None)("a.c")) == []


def test_only_the_packages_own_metadata_count() -> None:
    assert is_metadata(NPM, "package/package.json")
    assert not is_metadata(NPM, "package/node_modules/other/package.json")
    assert is_metadata(WHEEL, "p-1.dist-info/METADATA")
    assert not is_metadata(WHEEL, "p/_vendor/q-1.dist-info/METADATA")
    assert is_metadata(SDIST, "p-1/PKG-INFO")
    assert not is_metadata(SDIST, "p-1/src/p.egg-info/PKG-INFO")
    assert is_metadata(DEBIAN, "debian/copyright")
    assert not is_metadata(DEBIAN, "p-1/vendor/debian/copyright")


GPL = "// This is free software under the terms of the GNU General Public License, version 2.\n"
APACHE = "// Licensed under the Apache License, Version 2.0\n"
CONFIG = LicenceConfig()


def decided(declared: list[str], content: str = "int a;\n", config: LicenceConfig = CONFIG) -> LicenceDecision:
    return decide(LicensedFile("deb:p@1/lib/a.c", "p", "lib/a.c", content), declared, config)


@pytest.mark.parametrize(
    ("declared", "content", "licence"),
    [
        (["MIT"], "", "MIT"),
        (["MIT License"], "", "MIT"),
        (["MIT OR GPL-2.0"], "", "MIT"),  # what it is taken under
        (["MIT", "Apache-2.0"], "", "Apache-2.0 AND MIT"),
        (["MIT"], APACHE, "Apache-2.0"),  # a file of another project
        ([], APACHE, "Apache-2.0"),
        (["no such licence"], APACHE, "Apache-2.0"),
        (["GPL-2.0-only"], "# SPDX-License-Identifier: MIT\n", "MIT"),
        ([], "/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */\n", "MIT"),
        ([], "<!-- SPDX-License-Identifier: MIT-->\n", "MIT"),
        ([], "(SPDX-License-Identifier: MIT)\n", "MIT"),
        ([], "# SPDX-License-Identifier: MIT\n# SPDX-License-Identifier: ISC\n", "ISC AND MIT"),
        (["MIT"], f"# SPDX-License-Identifier: MIT\n{GPL}", "MIT"),
        (["MIT"], "see SPDX-License-Identifier: {}\n", "MIT"),
        (["MIT"], "x" * 5000 + "\n# SPDX-License-Identifier: GPL-2.0\n", "MIT"),
        (["MIT"], "x" * 5000 + GPL, "MIT"),
    ],
)
def test_files_that_are_taken(declared: list[str], content: str, licence: str) -> None:
    decision = decided(declared, content)
    assert (decision.licence, decision.rejection) == (licence, None)


@pytest.mark.parametrize(
    ("declared", "content", "reason", "detail"),
    [
        ([], "", "licence-unknown", "no licence is stated"),
        (["my own"], "", "licence-unknown", "my own (its package)"),
        (["MIT", "my own"], "", "licence-unknown", "MIT, my own (its package)"),
        (["GPL-2.0"], "", "licence-not-allowed", "GPL-2.0 (its package)"),
        (["MIT", "GPL-2.0"], "", "licence-not-allowed", "MIT, GPL-2.0 (its package)"),
        (["MIT AND GPL-2.0"], "", "licence-not-allowed", "MIT AND GPL-2.0 (its package)"),
        (["WTFPL"], "", "licence-not-allowed", "WTFPL (its package)"),
        (["MIT"], GPL, "licence-not-allowed", "GPL-2.0-only (the notice at its head)"),
        ([], GPL, "licence-not-allowed", "GPL-2.0-only (the notice at its head)"),
        (["GPL-2.0"], APACHE, "licence-not-allowed", "GPL-2.0 (its package)"),
        (
            ["MIT"],
            "# SPDX-License-Identifier: GPL-2.0\n",
            "licence-not-allowed",
            "GPL-2.0 (the file's SPDX-License-Identifier)",
        ),
        (
            ["MIT"],
            "# SPDX-License-Identifier: Mine-1.0\n",
            "licence-unknown",
            "Mine-1.0 (the file's SPDX-License-Identifier)",
        ),
        (
            ["MIT"],
            "# SPDX-License-Identifier: MIT\n# SPDX-License-Identifier: GPL-2.0\n",
            "licence-not-allowed",
            "MIT, GPL-2.0 (the file's SPDX-License-Identifier)",
        ),
    ],
)
def test_files_that_are_rejected(declared: list[str], content: str, reason: str, detail: str) -> None:
    decision = decided(declared, content)
    assert decision.rejection is not None
    assert (decision.rejection.reason, decision.rejection.detail, decision.detail) == (reason, detail, detail)
    assert bool(decision.licence) == (reason == "licence-not-allowed")


@pytest.mark.parametrize(
    ("values", "declared", "licence"),
    [
        ({"min_rating": "silver"}, "MIT", "MIT"),
        ({"min_rating": "silver"}, "BSD-3-Clause", None),
        ({"min_rating": "lead"}, "WTFPL", "WTFPL"),
        ({"allowed": ["MPL-2.0"]}, "MPL-2.0", "MPL-2.0"),
        ({"allowed": ["mpl 2.0"]}, "MPL-2.0 OR GPL-2.0", "MPL-2.0"),
        ({"allowed": ["MPL-2.0"]}, "GPL-2.0", None),
        ({"overrides": {"lib/*": "MIT"}}, "GPL-2.0", "MIT"),
        ({"overrides": {"p": "MIT"}}, "GPL-2.0", "MIT"),
        ({"overrides": {"deb:p@1/*": "MIT"}}, "GPL-2.0", "MIT"),
        ({"overrides": {"src/*": "MIT"}}, "GPL-2.0", None),
        ({"overrides": {"lib/*": "GPL-2.0", "*": "MIT"}}, "MIT", None),
    ],
)
def test_what_the_recipe_allows(values: dict[str, object], declared: str, licence: str | None) -> None:
    decision = decided([declared], config=LicenceConfig.parse(values, "test"))
    assert (None if decision.rejection else decision.licence) == licence


def test_an_override_counts_before_what_the_file_says() -> None:
    config = LicenceConfig.parse({"overrides": {"lib/*": "MIT"}}, "test")
    decision = decided([], "# SPDX-License-Identifier: GPL-2.0\n", config)
    assert (decision.licence, decision.detail) == ("MIT", "MIT (the recipe's override 'lib/*')")


@pytest.mark.parametrize(
    ("declared", "rating"),
    [
        ("BlueOak-1.0.0", 0),
        ("MIT", 1),
        ("BSD-3-Clause", 2),
        ("MIT AND BSD-3-Clause", 2),
        ("MIT OR BSD-3-Clause", 1),
        ("GPL-2.0", 4),
        ("my own", 4),
        ("MPL-2.0", 4),
    ],
)
def test_a_decision_has_the_licences_rating(declared: str, rating: int) -> None:
    config = LicenceConfig.parse({"allowed": ["MPL-2.0"]}, "test")
    assert decided([declared], config=config).rating == rating


@pytest.mark.parametrize(
    "values", [{"allowed": ["Mine-1.0"]}, {"overrides": {"a": "Mine-1.0"}}, {"min_rating": "tin"}, {"allow": ["MIT"]}]
)
def test_a_recipes_unknown_licence_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        LicenceConfig.parse(values, "test")


def test_a_sources_licence_is_an_spdx_expression_in_one_form() -> None:
    values = {"kind": "package", "package": NPM.model_dump(), "languages": ["python"]}
    assert PackageSource.parse(values, "test").licence is None
    assert PackageSource.parse({**values, "licence": "mit or Apache-2.0"}, "test").licence == "Apache-2.0 OR MIT"
    with pytest.raises(ConfigError, match="an SPDX licence expression"):
        PackageSource.parse({**values, "licence": "mine"}, "test")
