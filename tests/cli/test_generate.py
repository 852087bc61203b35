"""`codechoir generate` on a dense and a composed model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from codechoir.model.infilling_tokens import with_infilling_tokens

PROMPT = b"def grow_1(value):\n"
# Whoever started the tests may have interrupts ignored, as a shell does for what it runs in the background.
MAIN = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from codechoir.cli.main import main
main()
"""


def started(*arguments: object) -> subprocess.Popen[bytes]:
    """The command in an interpreter of its own, its output in a pipe."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", MAIN, *map(str, arguments)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )


def test_a_dense_model(codechoir, finished_run: Path) -> None:
    done = codechoir("generate", finished_run / "train" / "python", "--max-tokens", 5, stdin=PROMPT)
    assert done.code == 0
    assert done.stderr == ""
    as_json = codechoir("generate", finished_run / "train" / "python", "--max-tokens", 5, "--json", stdin=PROMPT)
    said = json.loads(as_json.stdout)
    assert done.stdout == said["text"]
    assert said.keys() == {"text", "finish", "tokens", "route", "probabilities"}
    assert (said["tokens"], said["route"], said["probabilities"]) == (5, {}, {})


@pytest.mark.parametrize("route", ["auto", "token", "python", "javascript"])
def test_a_composed_model_on_each_route(codechoir, finished_run: Path, tmp_path: Path, route: str) -> None:
    (tmp_path / "prompt.py").write_bytes(PROMPT)
    options = ("--route", route, "--max-tokens", 5, "--prompt-file", tmp_path / "prompt.py")
    done = codechoir("generate", finished_run / "compose", *options, "--json")
    assert done.code == 0, done.stderr
    said = json.loads(done.stdout)
    expected = {"auto": {"python"}, "python": {"python"}, "javascript": {"javascript"}}
    assert said["route"].keys() == expected.get(route, {"python", "javascript"})
    assert said["probabilities"].keys() == ({"python", "javascript"} if route == "auto" else set())
    if route in ("python", "javascript"):
        alone = codechoir("generate", finished_run / "train" / route, "--max-tokens", 5, "--json", stdin=PROMPT)
        assert json.loads(alone.stdout)["text"] == said["text"]
    told = codechoir("generate", finished_run / "compose", *options)
    assert told.stdout == said["text"]
    first = max(said["route"], key=said["route"].get)
    assert told.stderr.startswith(f"route: {first}")
    if route == "auto":
        assert told.stderr == f"route: python, probability {said['probabilities']['python']:.4f}\n"


def test_seeds_fix_what_is_drawn(codechoir, finished_run: Path) -> None:
    options = ("--temperature", 1.0, "--top-p", 1.0, "--max-tokens", 8)
    texts = [
        codechoir("generate", finished_run / "compose", *options, "--seed", seed, stdin=PROMPT).stdout
        for seed in (4, 4, 5)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_stop(codechoir, finished_run: Path) -> None:
    model = finished_run / "train" / "python"
    free = json.loads(codechoir("generate", model, "--max-tokens", 8, "--json", stdin=PROMPT).stdout)
    middle = free["text"][3]
    stopped = codechoir("generate", model, "--max-tokens", 8, "--stop", middle, "--json", stdin=PROMPT)
    said = json.loads(stopped.stdout)
    assert (said["text"], said["finish"]) == (free["text"].partition(middle)[0], "stop")


def test_an_infilling_is_what_the_model_writes_after_its_sentinels(
    codechoir, random_base: Path, tmp_path: Path
) -> None:
    """The same prompt spelt out by hand: this tokenizer reads sentinels in a prompt."""
    model = with_infilling_tokens(random_base, "random", tmp_path / "model")
    (tmp_path / "main.py").write_text("a = 1\nreturn\nb = é\n")
    options = ("--max-tokens", 6, "--json")
    done = codechoir("generate", model, "--infill", tmp_path / "main.py", "--at", "2:7", *options)
    spelt = "<fim_prefix>a = 1\nreturn<fim_suffix>\nb = é\n<fim_middle>"
    by_hand = codechoir("generate", model, *options, stdin=spelt.encode())
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(by_hand.stdout)
    piped = codechoir(
        "generate", model, "--infill", "-", "--at", "2:7", *options, stdin="a = 1\nreturn\nb = é\n".encode()
    )
    assert piped.stdout == done.stdout


def test_what_is_refused(codechoir, finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("a = 1\n")
    model, at = finished_run / "compose", ("--infill", tmp_path / "main.py", "--at")
    routes = codechoir("generate", model, "--route", "cobol", stdin=PROMPT).refusal()
    assert routes.startswith("no such route\n  seen:    cobol\n  allowed: auto, token, python, javascript")
    assert "has no experts" in codechoir("generate", finished_run / "train" / "python", "--route", "token").refusal()
    assert "no such line in the file\n  seen:    9\n" in codechoir("generate", model, *at, "9:1").refusal()
    assert "no such column in line 1\n  seen:    8\n" in codechoir("generate", model, *at, "1:8").refusal()
    for options in (
        ["--infill", tmp_path / "main.py"],
        ["--at", "1:1"],
        [*at, "1"],
        [*at, "1:1", "--prompt-file", "-"],
    ):
        done = codechoir("generate", model, *options, stdin=PROMPT)
        assert (done.code, done.stdout) == (2, "")
        assert "Traceback" not in done.stderr


def test_a_model_that_was_not_trained_to_fill_in_says_so(codechoir, trunk: Path) -> None:
    said = codechoir("generate", trunk, "--infill", "-", "--at", "1:1", stdin=PROMPT).refusal()
    assert said.startswith("the model knows no infilling tokens")


def test_models_that_cannot_be_loaded(codechoir, finished_run: Path, tmp_path: Path) -> None:
    missing = codechoir("generate", tmp_path / "nowhere", stdin=PROMPT).refusal()
    assert missing.startswith(f"no such model folder\n  seen:    {tmp_path / 'nowhere'}")
    (tmp_path / "config.json").write_bytes((finished_run / "train" / "python" / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle")
    pickled = codechoir("generate", tmp_path, stdin=PROMPT).refusal()
    assert "pytorch_model.bin" in pickled and "pickled weights run code" in pickled
    gguf = codechoir("generate", tmp_path / "model.gguf", stdin=PROMPT).refusal()
    assert "llama.cpp" in gguf or "no such GGUF file" in gguf


def test_a_prompt_that_is_not_text(codechoir, finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "prompt").write_bytes(b"\xff\xfe\x00")
    options = ("--prompt-file", tmp_path / "prompt")
    assert codechoir("generate", finished_run / "compose", *options).refusal().startswith("the prompt is not UTF-8")


def test_text_comes_as_it_is_written_and_an_interrupt_ends_it(random_base: Path) -> None:
    with started("generate", random_base, "--max-tokens", 2000) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(PROMPT)
        process.stdin.close()
        assert process.stdout.read(1)  # of 2000 tokens, long before the last
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        said = process.stderr.read().decode()
        assert process.wait() == 130
    assert "interrupted" in said and "Traceback" not in said


def test_a_reader_that_goes_ends_it_in_silence(random_base: Path) -> None:
    with started("generate", random_base, "--max-tokens", 2000) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(PROMPT)
        process.stdin.close()
        assert process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 128 + signal.SIGPIPE
