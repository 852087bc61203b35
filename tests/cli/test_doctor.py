"""`codechoir doctor`: what works and what does not."""

from __future__ import annotations

import json
import subprocess

import pytest

from codechoir.sandbox.toolchains.table import TOOLCHAINS

# Every toolchain but the quick ones: they are hidden, so that the tests wait for few.
SLOW = ("javac", "java", "g++", "go", "rustc", "Rscript", "racket", "mcs", "ldc2", "node")
QUICK = ("python", "php", "ruby", "perl", "lua", "shell")


def test_json(codechoir) -> None:
    done = codechoir("doctor", "--json", hidden=[name for name in SLOW if name != "node"])
    assert done.code == 0, done.stderr
    told = json.loads(done.stdout)
    parts = {part["part"]: part for part in told["parts"]}
    assert list(parts) == ["sandbox", *TOOLCHAINS]
    assert parts["sandbox"]["state"] == parts["python"]["state"] == parts["javascript"]["state"] == "works"
    assert parts["sandbox"]["walls"]["no network"] is True
    assert parts["java"]["state"] == parts["cpp"]["state"] == parts["scala"]["state"] == "missing"
    node = subprocess.run(["/usr/bin/node", "--version"], capture_output=True, text=True).stdout.strip()
    assert node in parts["javascript"]["version"]
    assert parts["cpp"]["packages"] == ["g++"] and "apt-get install g++" in parts["cpp"]["install"]
    assert "torch" in told["device"]


def test_what_is_missing_is_told_with_its_package(codechoir) -> None:
    done = codechoir("doctor", hidden=["bwrap", *SLOW])
    assert done.code == 0
    lines = done.stdout.splitlines()
    states = dict(line.split()[:2] for line in lines if not line.startswith(" "))
    assert list(states) == ["sandbox", *TOOLCHAINS, "device"]
    assert states["sandbox"] == "missing" and states["python"] == states["device"] == "works"
    assert {states[name] for name in TOOLCHAINS if name not in QUICK} == {"missing"}
    assert any("missing: java, javac" in line for line in lines)
    assert any("to get it: apt-get install default-jdk-headless libjavatuples-java" in line for line in lines)
    assert any("to get it: apt-get install bubblewrap" in line for line in lines)


@pytest.mark.parametrize("arguments", [["--nonsense"], ["python"]])
def test_wrong_usage(codechoir, arguments: list[str]) -> None:
    assert codechoir("doctor", *arguments).code == 2
