"""The surroundings are told without importing what is told of."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

from codechoir.report.machine import environment


def test_versions_are_the_installed_ones() -> None:
    found = environment()
    assert found.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found.versions["transformers"] == version("transformers")
    assert int(found.machine["Cores"]) >= 1
    assert all(found.machine.values())


def test_the_stage_runs_without_torch() -> None:
    code = "import sys, codechoir.report.stage as s; s.environment(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
