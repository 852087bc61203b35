"""`codechoir recipe show`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from codechoir.recipe import described, load_recipe

TINY = Path(__file__).parents[2] / "recipes" / "tiny.yaml"


def test_every_value_is_shown_with_its_description(codechoir) -> None:
    shown = codechoir("recipe", "show", TINY, "--set", "train.seed=5")
    assert (shown.code, shown.stderr) == (0, "")
    expected = [
        f"{key} = {json.dumps(value)}  # {description}"
        for key, value, description in described(load_recipe(TINY, ["train.seed=5"]))
    ]
    assert shown.stdout.splitlines() == expected
    assert "train.seed = 5  # orders documents and draws low-rank updates" in expected
    assert "base.layers = 2  # decoder layers" in expected  # a default, and one of several kinds


def test_json(codechoir) -> None:
    shown = json.loads(codechoir("recipe", "show", TINY, "--json").stdout)
    assert shown == load_recipe(TINY).model_dump(mode="json")


def test_a_wrong_recipe(codechoir, tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("name: x\ncurate: {source: []}\n")
    message = codechoir("recipe", "show", tmp_path / "wrong.yaml").refusal()
    assert "did you mean 'sources'?" in message


def test_it_loads_no_torch() -> None:
    import subprocess

    script = (
        "import sys; from codechoir.cli.main import codechoir\n"
        "codechoir.main(['recipe', 'show', sys.argv[1]], standalone_mode=False); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script, str(TINY)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
