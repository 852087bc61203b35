"""What is held back from training, and bits per byte against the engine that the report's figures come from."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from codechoir.documents import Text
from codechoir.errors import InputError
from codechoir.model.checkpoint import load_model, load_tokenizer, separator_id
from codechoir.model.engine import Engine
from codechoir.train.devices import Devices
from codechoir.train.loss import PackedLoss
from codechoir.train.validation import bits_per_byte, hold_back, mean_bits, validation_rows

TEXTS = [Text(f"key-{n}", "package", f"def f{n}(x):\n    return 'é' * {n}\n" * (n % 3 + 1)) for n in range(12)]


def test_whole_documents_are_held_back_whatever_others_there_are() -> None:
    train, held = hold_back(TEXTS, 4, seed=0)
    assert len(held) == 4 and {text.key for text in train + held} == {text.key for text in TEXTS}
    assert hold_back(TEXTS[::-1], 4, seed=0)[1] == held
    kept = {text.key for text in hold_back(TEXTS[:8], 2, seed=0)[1]}
    assert kept <= {text.key for text in hold_back(TEXTS[:8], 4, seed=0)[1]}
    assert any(hold_back(TEXTS, 4, seed=seed)[1] != held for seed in range(1, 4))
    assert hold_back(TEXTS, 0, seed=0) == (TEXTS, [])
    with pytest.raises(InputError, match="too few documents"):
        hold_back(TEXTS, 7, seed=0)


def test_bits_per_byte_are_the_engines(random_base: Path) -> None:
    model, tokenizer = load_model(random_base, torch.float32), load_tokenizer(random_base)
    texts = {"python": TEXTS[:5], "cpp": TEXTS[5:7]}
    rows = validation_rows(texts, tokenizer, separator_id(tokenizer), 41, 2)
    measured = bits_per_byte(PackedLoss(model), rows, Devices(0, 1, torch.device("cpu")))
    engine = Engine(model.eval(), tokenizer, 2)
    for language, some in texts.items():
        scores = [score for _, score in engine.log_likelihoods([text.content for text in some], 40)]
        nats, num_bytes = sum(s.log_likelihood for s in scores), sum(s.num_bytes for s in scores)
        assert measured[language] == pytest.approx(-nats / math.log(2) / num_bytes, rel=2e-2)  # a character cut in two
    assert mean_bits({"a": 1.0, "b": 2.0}) == 1.5
    assert mean_bits({"a": 1.0, "b": None}) == math.inf


def test_control_tokens_in_a_text_are_text(random_base: Path) -> None:
    tokenizer = load_tokenizer(random_base)
    text = f"a = 'é'  # {tokenizer.eos_token}\n"
    (rows,) = validation_rows({"python": [Text("key", "package", text)]}, tokenizer, separator_id(tokenizer), 64, 1)
    assert separator_id(tokenizer) not in rows.tokens_BT[0, 1:]
    assert rows.num_bytes == len(text.encode()) == rows.tokens_BT.shape[1] - 1  # the base's tokens are bytes
