"""Which text tunes and which validates."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from codechoir.compose.config import TuneConfig
from codechoir.compose.tuning.objective import NO_TARGET
from codechoir.compose.tuning.texts import Sequences, read_left, read_tune_texts
from codechoir.documents import read_texts
from codechoir.model.checkpoint import load_tokenizer, separator_id
from codechoir.model.token_shards import LeftSequences, TokenShard

CONFIG = TuneConfig(sequence_length=120, validation_sequences=3, steps=5, sequences_per_language=2)


def test_no_document_is_in_both_and_none_is_held_out(documents: Path, random_base: Path) -> None:
    """Every sequence is a stretch of a document of the training split; the tokenizer's tokens are bytes."""
    tokenizer = load_tokenizer(random_base)
    texts = read_tune_texts(documents, ("python", "java"), tokenizer, CONFIG)
    assert texts.languages == ("python", "java")
    for language in texts.languages:
        contents = {
            split: [
                [separator_id(tokenizer), *tokenizer(text.content)["input_ids"]]
                for text in read_texts(documents, language, split)
            ]
            for split in ("train", "held_out")
        }
        validation, training = texts.validation[language].tokens_NT, texts.training[language].tokens_NT
        assert validation.shape == (3, 120) and training.shape == (10, 120)
        sources = [_sources(row, contents["train"]) for row in torch.cat([validation, training]).tolist()]
        assert all(len(found) == 1 for found in sources)
        assert len(set.union(*sources)) == 13
        assert not any(_sources(row, contents["held_out"]) for row in torch.cat([validation, training]).tolist())


def test_a_batch_has_as_many_sequences_of_each_language(documents: Path, random_base: Path) -> None:
    languages = ("cpp", "python")
    texts = read_tune_texts(documents, languages, load_tokenizer(random_base), CONFIG)
    for start, stop in ((0, 1), (3, 4), (10, 11), (8, 11), (13, 15)):
        batch = texts.batch(start, stop)
        assert batch.tokens_NT.shape == (2 * (stop - start), 120) and batch.positions_NT is None
        for rows, name in zip(batch.tokens_NT.chunk(2), languages, strict=True):
            assert torch.equal(rows, texts.training[name].tokens_NT[[row % 10 for row in range(start, stop)]])


def test_the_seed_chooses_what_validates(documents: Path, random_base: Path) -> None:
    tokenizer = load_tokenizer(random_base)
    one, same = (read_tune_texts(documents, ("cpp",), tokenizer, CONFIG) for _ in range(2))
    other = read_tune_texts(documents, ("cpp",), tokenizer, CONFIG.model_copy(update={"seed": 1}))
    assert torch.equal(one.validation["cpp"].tokens_NT, same.validation["cpp"].tokens_NT)
    assert not torch.equal(one.validation["cpp"].tokens_NT, other.validation["cpp"].tokens_NT)


PACKED = CONFIG.model_copy(update={"sequence_length": 8})
NAMES = ("cpp", "python")


@pytest.fixture
def left() -> LeftSequences:
    """Two shards of 20 sequences of 8 tokens, each with a document that ends after its fifth; 4 and 5 rows are read."""
    positions = np.tile(np.array([0, 1, 2, 3, 4, 0, 1, 2], np.uint16), (20, 1))
    shards = {
        name: TokenShard((np.arange(160).reshape(20, 8) + 1000 * number).astype(np.uint16), positions, 40, 0, epochs, 9)
        for number, (name, epochs) in enumerate(zip(NAMES, (1.0, 2.51), strict=True))
    }
    return LeftSequences({"cpp": 4, "python": 5}, lambda: shards)


def test_what_training_has_left_is_read_in_order(left: LeftSequences) -> None:
    texts = read_left(left, NAMES, PACKED)
    for number in (0, 9, 10):
        batch = texts.batch(number, number + 1).to(torch.device("cpu"))
        starts = [8 * (4 + number % 10), 1000 + 8 * (5 + number % 10)]
        assert batch.tokens_NT.tolist() == [list(range(start, start + 8)) for start in starts]
        assert batch.positions_NT is not None and batch.positions_NT.tolist() == 2 * [[0, 1, 2, 3, 4, 0, 1, 2]]
    held = texts.validation["python"].tokens_NT.long()
    assert held.tolist() == [list(range(start, start + 8)) for start in (1120, 1128, 1136)]


def test_text_that_was_gone_through_again_is_told(left: LeftSequences, capsys: pytest.CaptureFixture[str]) -> None:
    read_left(left, NAMES, PACKED)
    assert capsys.readouterr().err.splitlines() == [
        "tune: python has 2.5 times less text than is read: what validates has been trained on"
    ]


def test_targets_are_the_next_tokens_of_the_same_document(left: LeftSequences) -> None:
    packed = read_left(left, NAMES, PACKED).batch(0, 1).to(torch.device("cpu"))
    none = NO_TARGET
    assert packed.targets()[0].tolist() == [33, 34, 35, 36, none, 38, 39, none]
    assert Sequences(packed.tokens_NT).targets()[0].tolist() == [33, 34, 35, 36, 37, 38, 39, none]
    model = SimpleNamespace(config=SimpleNamespace(_attn_implementation="sdpa"))
    assert packed.told(model)["position_ids"] is packed.positions_NT
    assert "position_ids" not in Sequences(packed.tokens_NT).told(model)


def _sources(row: list[int], documents: list[list[int]]) -> set[int]:
    """The numbers of the documents that have the row in them."""
    return {
        number
        for number, tokens in enumerate(documents)
        if any(tokens[start : start + len(row)] == row for start in range(len(tokens) - len(row) + 1))
    }
