"""Which text tunes and which validates."""

from __future__ import annotations

from pathlib import Path

import torch

from codechoir.compose.config import TuneConfig
from codechoir.compose.tuning.texts import read_tune_texts
from codechoir.documents import read_texts
from codechoir.model.checkpoint import load_tokenizer, separator_id

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
        validation, training = texts.validation[language], texts.training[language]
        assert validation.shape == (3, 120) and training.shape == (10, 120)
        sources = [_sources(row, contents["train"]) for row in torch.cat([validation, training]).tolist()]
        assert all(len(found) == 1 for found in sources)
        assert len(set.union(*sources)) == 13
        assert not any(_sources(row, contents["held_out"]) for row in torch.cat([validation, training]).tolist())


def test_a_batch_has_one_sequence_of_each_language(documents: Path, random_base: Path) -> None:
    languages = ("cpp", "python")
    texts = read_tune_texts(documents, languages, load_tokenizer(random_base), CONFIG)
    for number in (0, 3, 10, 13):
        batch = texts.batch(number)
        assert batch.shape == (2, 120)
        for row, name in zip(batch, languages, strict=True):
            assert torch.equal(row, texts.training[name][number % 10])


def test_the_seed_chooses_what_validates(documents: Path, random_base: Path) -> None:
    tokenizer = load_tokenizer(random_base)
    one, same = (read_tune_texts(documents, ("cpp",), tokenizer, CONFIG) for _ in range(2))
    other = read_tune_texts(documents, ("cpp",), tokenizer, CONFIG.model_copy(update={"seed": 1}))
    assert torch.equal(one.validation["cpp"], same.validation["cpp"])
    assert not torch.equal(one.validation["cpp"], other.validation["cpp"])


def _sources(row: list[int], documents: list[list[int]]) -> set[int]:
    """The numbers of the documents that have the row in them."""
    return {
        number
        for number, tokens in enumerate(documents)
        if any(tokens[start : start + len(row)] == row for start in range(len(tokens) - len(row) + 1))
    }
