"""Translated problems as MultiPL-E's own files.

In go problems of one language; out comes the text of a JSON file that MultiPL-E's tools and ours read. Knows nothing
of how the problems were made.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from codechoir.records import Problem


def multipl_e_json(problems: Iterable[Problem], code: str, original: str) -> str:
    """One file's text: `code` is MultiPL-E's for the language, `original` says where the Python problems are from."""
    rows = [
        {
            "name": problem.name,
            "language": code,
            "prompt": problem.prompt,
            "doctests": "transform",
            "original": original,
            "prompt_terminology": "reworded",
            "tests": problem.tests,
            "stop_tokens": list(problem.stop_tokens),
        }
        for problem in problems
    ]
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"
