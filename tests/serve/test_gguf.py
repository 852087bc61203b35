"""A GGUF file behind the server, against llama.cpp's own greedy search."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from codechoir.serve.models import ServedModel, open_model

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="needs the optional extra llama-cpp (llama-cpp-python)"
)
PROMPT = [0, 5, 17, 33, 8]


@pytest.fixture(scope="module")
def written(write_gguf: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = write_gguf(tmp_path_factory.mktemp("gguf") / "small.gguf").path
    return path


@pytest.fixture(scope="module")
def model(written: Path) -> Iterator[ServedModel]:
    opened = open_model("small", written, 1)
    yield opened
    opened.engine.close()


def test_it_completes_as_llama_cpp_does(model: ServedModel, written: Path, serving: Callable[..., Any]) -> None:
    from llama_cpp import Llama

    llama = Llama(str(written), verbose=False)
    expected = list(islice(llama.generate(PROMPT, temp=0.0), 6))
    answer = serving([model]).openai().completions.create(model="small", prompt=PROMPT, max_tokens=6, temperature=0)
    assert answer.choices[0].text == llama.detokenize(expected).decode(errors="replace")


def test_what_the_file_cannot_do_is_refused(model: ServedModel, serving: Callable[..., Any]) -> None:
    chat = {"model": "small", "messages": [{"role": "user", "content": "x"}]}
    with serving([model]).http() as client:
        assert client.post("/v1/chat/completions", json=chat).status_code == 400
        assert client.post("/infill", json={"input_prefix": "x", "input_suffix": "y"}).status_code in (400, 501)
        told = client.get("/v1/models").json()["data"][0]
    assert told["x_lacks"] and not told["x_infill"] and not told["x_chat"]
