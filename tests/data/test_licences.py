"""Licence names as real packages write them."""

import json

import pytest

from codechoir.data.licences import check_licence, declared_licences, is_metadata
from codechoir.errors import InputError
from codechoir.packages import Package

WHEEL = Package(registry="pypi", name="p", version="1", sha256="0" * 64)
NPM = Package(registry="npm", name="@scope/p", version="1", sha256="0" * 64)


def wheel(*lines: str) -> dict[str, bytes]:
    text = "\n".join(["Metadata-Version: 2.1", "Name: p", *lines, "", "License: not a header\n"])
    return {"p/a.py": b"", "p-1.dist-info/METADATA": text.encode()}


def npm(values: object) -> dict[str, bytes]:
    return {"package/package.json": json.dumps(values).encode()}


@pytest.mark.parametrize(
    ("lines", "licence"),
    [
        (["License-Expression: MIT"], "MIT"),
        (["License-Expression: MIT", "Classifier: License :: OSI Approved :: BSD License"], "MIT"),
        (["License: BSD", "Classifier: License :: OSI Approved :: BSD License"], "BSD-3-Clause"),
        (["Classifier: License :: OSI Approved :: BSD License"], "BSD-2-Clause"),
        (["License: Apache 2.0", "Classifier: License :: OSI Approved :: Apache Software License"], "Apache-2.0"),
        (["License: BSD-3-Clause", "Classifier: License :: OSI Approved :: BSD License"], "BSD-3-Clause"),
        (["License: " + "Permission is hereby granted " * 9, "Classifier: License :: OSI Approved"], None),
        (["License: UNKNOWN", "Classifier: License :: OSI Approved :: MIT License"], "MIT"),
        (["License: MIT", "Classifier: License :: OSI Approved :: BSD License"], None),
        (["License-Expression: GPL-3.0-only"], None),
        (["License-Expression: MIT OR GPL-3.0-only"], None),
        (["License: BSD-2-Clause", "Classifier: License :: OSI Approved :: BSD License"], None),
        ([], None),
    ],
)
def test_a_wheels_metadata(lines: list[str], licence: str | None) -> None:
    """`None`: neither MIT nor BSD-3-Clause agrees."""
    for stated in ("MIT", "BSD-3-Clause") if licence is None else (licence,):
        if licence is None:
            with pytest.raises(InputError, match="the licence stated for pypi:p@1"):
                check_licence(WHEEL, wheel(*lines), stated)
        else:
            check_licence(WHEEL, wheel(*lines), stated)


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


def test_a_mismatch_says_what_was_seen_and_stated() -> None:
    with pytest.raises(InputError) as caught:
        check_licence(NPM, npm({"license": "GPL-2.0"}), "MIT")
    assert caught.value.seen == "GPL-2.0"
    assert caught.value.allowed == "MIT"
    with pytest.raises(InputError, match="no licence"):
        check_licence(NPM, {}, "MIT")


def test_two_licences_are_not_one_of_them() -> None:
    with pytest.raises(InputError):
        check_licence(NPM, npm({"licenses": ["MIT", "Apache-2.0"]}), "MIT")


def test_damaged_metadata_are_told() -> None:
    with pytest.raises(InputError, match=r"package\.json is damaged"):
        declared_licences(NPM, {"package/package.json": b"{"})


def test_only_the_packages_own_metadata_count() -> None:
    assert is_metadata(NPM, "package/package.json")
    assert not is_metadata(NPM, "package/node_modules/other/package.json")
    assert is_metadata(WHEEL, "p-1.dist-info/METADATA")
    assert not is_metadata(WHEEL, "p/_vendor/q-1.dist-info/METADATA")
