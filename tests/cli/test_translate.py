"""`codechoir translate` on a user's own problems."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from codechoir.cli.translate import translate
from codechoir.errors import ConfigError, InputError
from codechoir.problems import ProblemsConfig, load_problems

ROWS = [
    {
        "task_id": "Own/0",
        "entry_point": "twice",
        "prompt": 'def twice(x):\n    """Twice x.\n    >>> twice(2)\n    4\n    """\n',
        "test": "def check(f):\n    assert f(1) == 2\n    assert f(g()) == 2\n",
    },
    {
        "task_id": "Own/1",
        "entry_point": "either",
        "prompt": "def either(x):\n",
        "test": "def check(f):\n    assert f(1) == 'a'\n    assert f(2) == 1\n",
    },
]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(translate, list(map(str, arguments)), standalone_mode=False, catch_exceptions=True)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


def test_files_and_what_is_said(rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("--problems", rows, "--to", "java", "--to", "js", "--to", "javascript", "--out", out)
    assert done.exception is None
    assert done.output == (
        f"java: 1 of 2 translated: {out}/own-java.json\n"
        "  Own_1_either: Java has no type for unions\n"
        f"javascript: 2 of 2 translated: {out}/own-js.json\n"
        "problems without some of their Python tests, in every language:\n"
        "  Own_0_twice: g() is no constant\n"
    )
    assert sorted(path.name for path in out.iterdir()) == ["own-java.json", "own-js.json"]
    read = load_problems(ProblemsConfig(source=str(out)), ["java", "javascript"], tmp_path).problems
    assert {id: sorted(each.name for each in problems) for id, problems in read.items()} == {
        "java": ["Own_0_twice"],
        "javascript": ["Own_0_twice", "Own_1_either"],
    }
    (row,) = json.loads((out / "own-java.json").read_text(encoding="utf-8"))
    assert (row["language"], row["original"]) == ("java", "own.jsonl")


def test_json(rows: Path, tmp_path: Path) -> None:
    done = run("--problems", rows, "--to", "java", "--out", tmp_path, "--json")
    assert json.loads(done.output) == {
        "languages": {
            "java": {
                "file": f"{tmp_path}/own-java.json",
                "translated": 1,
                "untranslatable": {"Own_1_either": "Java has no type for unions"},
            }
        },
        "tests_left_out": {"Own_0_twice": ["g() is no constant"]},
    }


@pytest.mark.network
def test_humaneval_is_the_default(tmp_path: Path) -> None:
    done = run("--to", "python", "--out", tmp_path)
    assert done.exception is None, done.exception
    assert done.output.startswith("python: 161 of 164 translated")
    assert len(json.loads((tmp_path / "humaneval-py.json").read_text(encoding="utf-8"))) == 161


def test_what_is_refused(rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert isinstance(run("--problems", rows, "--to", "html", "--out", out).exception, ConfigError)
    assert isinstance(run("--problems", tmp_path / "none.json", "--to", "java", "--out", out).exception, InputError)
    rows.write_text('{"prompt": "x"}\n', encoding="utf-8")
    assert isinstance(run("--problems", rows, "--to", "java", "--out", out).exception, InputError)
    assert not out.exists()
