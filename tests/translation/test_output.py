"""Files of problems, read back by the project's own reader."""

from __future__ import annotations

import json
from pathlib import Path

from codechoir.problems import ProblemsConfig, load_problems
from codechoir.records import Problem
from codechoir.translation.output import multipl_e_json

PROBLEM = Problem(
    name="Own_0_f", language="javascript", prompt="//“two”\nfunction f(){\n", tests="}\n", stop_tokens=("\n}",)
)


def test_a_file_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "own-js.json"
    path.write_text(multipl_e_json([PROBLEM], "js", "mine.jsonl"), encoding="utf-8")
    assert load_problems(ProblemsConfig(source=str(path)), ["javascript"], tmp_path).problems == {
        "javascript": (PROBLEM,)
    }
    (row,) = json.loads(path.read_text(encoding="utf-8"))
    assert {key: row[key] for key in ("language", "doctests", "prompt_terminology", "original")} == {
        "language": "js",
        "doctests": "transform",
        "prompt_terminology": "reworded",
        "original": "mine.jsonl",
    }
