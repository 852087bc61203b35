"""Models opened by their path: each kind, and what it answers against the expert or model asked directly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from codechoir.errors import InputError, UserError
from codechoir.model.checkpoint import load_model, load_tokenizer
from codechoir.model.opening import open_any
from codechoir.model.requests import Chunk, End, Request, stream


def text_of(folder: Path, request: Request) -> tuple[str, End]:
    opened = open_any(folder, 2)
    try:
        *chunks, end = stream(opened.engine, request)
    finally:
        opened.engine.close()
    assert isinstance(end, End)
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, Chunk)), end


def test_a_composed_folder_on_a_fixed_route_writes_what_transformers_does_with_the_expert(
    composed: Path, experts: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codechoir.model.opening.compute_dtype", lambda _: torch.float32)
    tokenizer = load_tokenizer(experts["python"])
    prompt = [tokenizer.get_vocab()["<|endoftext|>"], *tokenizer("import alpha").input_ids]
    model = load_model(experts["python"], torch.float32)
    ids = model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False, pad_token_id=0)
    told = tokenizer.decode(ids[0, len(prompt) :], skip_special_tokens=True)
    text, end = text_of(composed, Request(tuple(prompt), (), 12, expert="python"))
    assert told.startswith(text) and text
    assert end.route == {"python": 1.0}
    assert text_of(experts["python"], Request(tuple(prompt), (), 12))[0] == text


def test_a_composed_folder_routes_by_the_prompt_unless_it_is_told(composed: Path) -> None:
    _, end = text_of(composed, Request("for alpha", (), 4))
    assert sum(end.probabilities.values()) == pytest.approx(1, abs=1e-3)
    assert text_of(composed, Request("for alpha", (), 4, routing="token"))[1].probabilities == {}


def test_what_cannot_be_opened_is_said(tmp_path: Path, trunk: Path) -> None:
    with pytest.raises(InputError, match="no such model folder"):
        open_any(tmp_path / "nowhere", 1)
    with pytest.raises(UserError, match=r"llama\.cpp|no such GGUF file"):  # where the extra is missing, and where not
        open_any(tmp_path / "nowhere.gguf", 1)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((trunk / name).read_bytes())
    with pytest.raises(InputError, match="no tokenizer"):
        open_any(tmp_path, 1)
