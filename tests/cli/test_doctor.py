"""`codechoir doctor`: what works and what does not."""

from __future__ import annotations

import json
import subprocess


def test_json(codechoir) -> None:
    done = codechoir("doctor", "--json", hidden=["javac", "g++"])
    assert done.code == 0, done.stderr
    told = json.loads(done.stdout)
    parts = {part["part"]: part for part in told["parts"]}
    assert {name: part["state"] for name, part in parts.items()} == {
        "sandbox": "works", "python": "works", "java": "missing", "javascript": "works", "cpp": "missing"
    }  # fmt: skip
    node = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip()
    assert node in parts["javascript"]["version"]
    assert parts["cpp"]["packages"] == ["g++"]
    assert "torch" in told["device"]


def test_what_is_missing_is_told_with_its_package(codechoir) -> None:
    done = codechoir("doctor", hidden=["bwrap", "javac", "g++", "node"])
    assert done.code == 0
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines if not line.startswith(" ")] == [
        ["sandbox", "missing"], ["python", "works"], ["java", "missing"], ["javascript", "missing"],
        ["cpp", "missing"], ["device", "works"],
    ]  # fmt: skip
    assert any("missing: javac; apt-get install default-jdk-headless" in line for line in lines)
