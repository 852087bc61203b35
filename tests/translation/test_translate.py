"""All rows into all languages; and, where published problems are at hand, beside them."""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

import pytest

from codechoir.errors import ConfigError, InputError
from codechoir.translation.table import TARGETS
from codechoir.translation.translate import translate_all

PUBLISHED = os.environ.get("CODECHOIR_MULTIPL_E", "")
COMPARE = Path(__file__).parents[2] / "tools" / "compare-translations.py"
PLAIN = {
    "task_id": "Own/0",
    "entry_point": "double_all",
    "prompt": 'def double_all(numbers):\n    """Twice each of a list.\n    >>> double_all([1])\n    [2]\n    """\n',
    "test": "def check(f):\n    assert f([1, 2]) == [2, 4]\n    assert f([]) == []\n    assert f(g()) == []\n",
}
EITHER = {
    "task_id": "Own/1",
    "entry_point": "either",
    "prompt": "def either(x):\n",
    "test": "def check(f):\n    assert f(1) == 'a'\n    assert f(2) == 1\n",
}
RANDOM = {**PLAIN, "task_id": "Own/2", "test": "def check(f):\n    assert f(g()) == []\n"}


def test_rows_into_languages() -> None:
    found = translate_all([PLAIN, EITHER, RANDOM], ["java", "js", "javascript"])
    assert [(each.language, each.name) for each in found.problems] == [
        ("java", "Own_0_double_all"),
        ("javascript", "Own_0_double_all"),
        ("javascript", "Own_1_either"),
    ]
    hindered = "none of the tests can be expressed; the first hindrance: g() is no constant"
    assert found.untranslatable == {
        "java": {"Own_2_double_all": hindered, "Own_1_either": "Java has no type for unions"},
        "javascript": {"Own_2_double_all": hindered},
    }
    assert found.left_out == {"Own_0_double_all": ("g() is no constant",)}


@pytest.mark.parametrize("id", TARGETS)
def test_every_language_says_a_plain_problem(id: str) -> None:
    (problem,) = translate_all([PLAIN], [id]).problems
    assert problem.language == id
    assert {"1", "2", "4"} <= set("".join(each if each.isdigit() else " " for each in problem.tests).split())
    assert "double" in problem.prompt.lower() and "Twice each of a" in problem.prompt


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="lacks a field") as refused:
        translate_all([PLAIN, {"prompt": ""}], ["java"])
    assert "problem 2" in str(refused.value.seen)
    with pytest.raises(ConfigError, match="no translation"):
        translate_all([PLAIN], ["html"])


@pytest.mark.network
@pytest.mark.skipif(not PUBLISHED, reason="CODECHOIR_MULTIPL_E names no folder of published problems")
def test_translations_equal_the_published_ones() -> None:
    tool: dict[str, Any] = runpy.run_path(str(COMPARE))
    compared = tool["compare"](Path(PUBLISHED), list(TARGETS))
    assert compared
    for each in compared:
        total = len(each.published)
        assert each.equal("tests") >= 0.95 * total, tool["differences"](each, "tests")
        assert each.equal("prompt") >= 0.8 * total, tool["differences"](each, "prompt")
        assert each.published.keys() == each.ours.keys(), each.reasons
