"""`codechoir generate` on a dense and a composed model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

PROMPT = b"def grow_1(value):\n"


def test_a_dense_model(codechoir, finished_run: Path) -> None:
    done = codechoir("generate", finished_run / "train" / "python", "--max-tokens", 5, stdin=PROMPT)
    assert done.code == 0
    assert done.stderr == ""
    as_json = codechoir("generate", finished_run / "train" / "python", "--max-tokens", 5, "--json", stdin=PROMPT)
    said = json.loads(as_json.stdout)
    assert done.stdout == said["text"] + "\n"
    assert said.keys() == {"text", "finish", "num_tokens", "route"}
    assert said["route"] == {}


@pytest.mark.parametrize("routing", ["prompt", "token", "uniform", "python", "javascript"])
def test_a_composed_model_with_each_routing(codechoir, finished_run: Path, tmp_path: Path, routing: str) -> None:
    (tmp_path / "prompt.py").write_bytes(PROMPT)
    options = ("--routing", routing, "--max-tokens", 5, "--prompt-file", tmp_path / "prompt.py")
    done = codechoir("generate", finished_run / "compose", *options, "--json")
    assert done.code == 0, done.stderr
    said = json.loads(done.stdout)
    expected = {"prompt": {"python"}, "python": {"python"}, "javascript": {"javascript"}}
    assert said["route"].keys() == expected.get(routing, {"python", "javascript"})
    if routing in ("python", "javascript"):
        alone = codechoir("generate", finished_run / "train" / routing, *options, "--json")
        assert json.loads(alone.stdout)["text"] == said["text"]
    told = codechoir("generate", finished_run / "compose", *options)
    assert told.stdout == said["text"] + "\n"
    assert told.stderr == f"route: {said['route']}\n"


def test_samples(codechoir, finished_run: Path) -> None:
    options = ("--num-samples", 3, "--temperature", 1.0, "--top-p", 1.0, "--max-tokens", 8, "--json")
    done = codechoir("generate", finished_run / "compose", *options, "--seed", 4, stdin=PROMPT)
    texts = [json.loads(line)["text"] for line in done.stdout.splitlines()]
    assert len(texts) == len(set(texts)) == 3
    later = codechoir("generate", finished_run / "compose", *options, "--seed", 5, stdin=PROMPT)
    assert [json.loads(line)["text"] for line in later.stdout.splitlines()][:2] == texts[1:]


def test_stop(codechoir, finished_run: Path) -> None:
    model = finished_run / "train" / "python"
    free = json.loads(codechoir("generate", model, "--max-tokens", 8, "--json", stdin=PROMPT).stdout)
    middle = free["text"][3]
    stopped = codechoir("generate", model, "--max-tokens", 8, "--stop", middle, "--json", stdin=PROMPT)
    said = json.loads(stopped.stdout)
    assert (said["text"], said["finish"]) == (free["text"].partition(middle)[0], "stop")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--routing", "cobol"],
            "unknown routing\n  seen:    cobol\n  allowed: prompt, token, uniform, python, javascript",
        ),
        (["--routing", "token", "--top-k", 3], "no such number of experts\n  seen:    3\n  allowed: 1 to 2"),
    ],
)
def test_what_is_refused(codechoir, finished_run: Path, options: list[object], said: str) -> None:
    assert codechoir("generate", finished_run / "compose", *options, stdin=PROMPT).refusal().startswith(said)


def test_models_that_cannot_be_loaded(codechoir, finished_run: Path, tmp_path: Path) -> None:
    missing = codechoir("generate", tmp_path / "nowhere", stdin=PROMPT).refusal()
    assert missing.startswith(f"no such model folder\n  seen:    {tmp_path / 'nowhere'}")
    (tmp_path / "config.json").write_bytes((finished_run / "train" / "python" / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle")
    pickled = codechoir("generate", tmp_path, stdin=PROMPT).refusal()
    assert "pytorch_model.bin" in pickled and "pickled weights run code" in pickled


def test_a_prompt_that_is_not_text(codechoir, finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "prompt").write_bytes(b"\xff\xfe\x00")
    options = ("--prompt-file", tmp_path / "prompt")
    assert codechoir("generate", finished_run / "compose", *options).refusal().startswith("the prompt is not UTF-8")
