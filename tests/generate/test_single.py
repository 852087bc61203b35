"""Any model folder, ready to complete prompts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from codechoir.errors import ConfigError, InputError
from codechoir.generate.single import load_any
from codechoir.model.engine import Request


@pytest.mark.parametrize(
    ("routing", "expert"), [("prompt", None), ("token", None), ("uniform", None), ("java", "java"), ("cpp", "cpp")]
)
def test_a_composed_folder_with_each_routing(composed: Path, routing: str, expert: str | None) -> None:
    engine, named = load_any(composed, routing, 1)
    assert named == expert
    [(index, output)] = engine.complete([Request("for alpha", (), 4, expert=named)])
    assert index == 0
    assert output.num_tokens <= 4
    assert sum(output.route.values()) == pytest.approx(1, abs=1e-3)
    if expert:
        assert output.route == {expert: 1.0}


def test_a_composed_folder_on_a_fixed_route_writes_what_the_expert_does(
    composed: Path, experts: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codechoir.generate.single.compute_dtype", lambda _: torch.float32)
    request = Request("import alpha\n", (), 12, expert="python")
    ours, theirs = (load_any(folder, "python", 1)[0].complete([request]) for folder in (composed, experts["python"]))
    assert next(ours)[1].text == next(theirs)[1].text != ""


def test_a_dense_folder_takes_any_routing(trunk: Path) -> None:
    engine, expert = load_any(trunk, "whatever", 9)
    assert expert is None
    assert [output.route for _, output in engine.complete([Request("x", (), 2)])] == [{}]


def test_what_is_refused(composed: Path, tmp_path: Path, trunk: Path) -> None:
    with pytest.raises(ConfigError, match="unknown routing") as caught:
        load_any(composed, "cobol", 1)
    assert caught.value.allowed == "prompt, token, uniform, python, java, cpp"
    for top_k in (0, 4):
        with pytest.raises(ConfigError, match="1 to 3"):
            load_any(composed, "token", top_k)
    with pytest.raises(InputError, match="no such model folder"):
        load_any(tmp_path / "nowhere", "prompt", 1)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((trunk / name).read_bytes())
    with pytest.raises(InputError, match="no tokenizer"):
        load_any(tmp_path, "prompt", 1)
