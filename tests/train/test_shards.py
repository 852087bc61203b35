"""Shards on disk against the same documents packed in memory, whoever writes them and however often that is ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codechoir.artifacts import read_manifest
from codechoir.documents import DOCUMENT_SCHEMA, in_seeded_order, in_turn, read_texts, write_parquet
from codechoir.errors import InputError
from codechoir.model.infilling_tokens import with_infilling_tokens
from codechoir.model.token_shards import TokenShard
from codechoir.train import shards as shards_module
from codechoir.train.config import TrainConfig
from codechoir.train.packing import Writer, fill
from codechoir.train.shards import Source, make_shards
from codechoir.train.validation import hold_back

CONFIG = TrainConfig(sequence_length=64, document_tokens=100, validation_documents=3, infilling_rate=0.5)
WANTED = {"python": 40}


@pytest.fixture(scope="module")
def source(documents: Path, random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Source:
    folder = with_infilling_tokens(random_base, "base", tmp_path_factory.mktemp("base"))
    return Source(documents, "documents", folder)


def expected(source: Source, config: TrainConfig, num_sequences: int) -> tuple[Any, Any, dict[str, Any]]:
    """The shard's tokens, positions and figures, from all texts in memory."""
    texts, _ = hold_back(read_texts(source.documents, "python", "train"), config.validation_documents, config.seed)
    writer = shards_module.writer_of(source.tokenizer, config)
    orders: Any = chain([config.seed], (f"{config.seed}.{epoch}" for epoch in count(1)))
    documents = (
        document
        for order in orders
        for one in in_turn(in_seeded_order(texts, order))
        for document in writer.write(one.content, f"infilling:{order}:{one.key}")
    )
    rows = list(islice(fill(documents, config.sequence_length), num_sequences))
    figures = {
        "num_documents": sum(row.num_texts for row in rows),
        "num_infillings": sum(row.num_infillings for row in rows),
        "num_bytes": round(sum(row.num_bytes for row in rows)),
    }
    return np.array([row.tokens for row in rows]), np.array([row.positions for row in rows]), figures


def compare(shard: TokenShard, source: Source, config: TrainConfig) -> None:
    tokens, positions, figures = expected(source, config, len(shard.tokens_NT))
    assert np.array_equal(shard.tokens_NT, tokens)
    assert np.array_equal(shard.positions_NT, positions)
    assert {name: getattr(shard, name) for name in figures} == figures


@given(
    length=st.integers(8, 200),
    document_tokens=st.integers(8, 400),
    rate=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 3),
    num_sequences=st.integers(1, 60),
)
@settings(max_examples=12)
def test_a_shard_is_the_documents_in_order(
    source: Source, tmp_path_factory: pytest.TempPathFactory, length: int, document_tokens: int, rate: float,
    seed: int, num_sequences: int,
) -> None:  # fmt: skip
    config = CONFIG.model_copy(
        update={"sequence_length": length, "document_tokens": document_tokens, "infilling_rate": rate, "seed": seed}
    )
    shard = make_shards(source, {"python": num_sequences}, config, tmp_path_factory.mktemp("shards"))["python"]
    compare(shard, source, config)


def test_it_is_mapped_and_small(source: Source, tmp_path: Path) -> None:
    shard = make_shards(source, WANTED, CONFIG, tmp_path)["python"]
    for array in (shard.tokens_NT, shard.positions_NT):
        assert isinstance(array, np.memmap) and array.dtype == np.uint16 and not array.flags.writeable
    assert {path.name for path in (tmp_path / "python").iterdir()} == {"manifest.json", "tokens.npy", "positions.npy"}
    assert shard.epochs == round(shard.num_documents / 17, 3)  # 20 documents, 3 held back
    assert shard.epochs > 1


@pytest.mark.parametrize("name", ["tokens.npy", "positions.npy"])
@pytest.mark.parametrize("place", [slice(0, 64), slice(-64, None)])  # its header, its last numbers
def test_a_damaged_shard_is_written_anew(source: Source, tmp_path: Path, name: str, place: slice) -> None:
    written = make_shards(source, WANTED, CONFIG, tmp_path)["python"]
    tokens_NT, positions_NT = np.array(written.tokens_NT), np.array(written.positions_NT)
    path = tmp_path / "python" / name
    content = np.frombuffer(path.read_bytes(), np.uint8).copy()
    content[place] ^= 1
    path.write_bytes(content.tobytes())
    again = make_shards(source, WANTED, CONFIG, tmp_path)["python"]
    assert np.array_equal(again.tokens_NT, tokens_NT) and np.array_equal(again.positions_NT, positions_NT)


def test_large_vocabularies_have_four_bytes() -> None:
    assert [shards_module._format(size) for size in (257, 65536, 65537)] == [np.uint16, np.uint16, np.uint32]


def test_fewer_sequences_are_the_first_of_more(source: Source, tmp_path: Path) -> None:
    few, many = (make_shards(source, {"python": n}, CONFIG, tmp_path / str(n))["python"] for n in (7, 30))
    assert np.array_equal(few.tokens_NT, many.tokens_NT[:7])
    assert np.array_equal(few.positions_NT, many.positions_NT[:7])


def in_process(work: Callable[[], object]) -> int:
    """Does the work in a process of its own and returns its number; the end is the caller's to wait for."""
    number = os.fork()
    if not number:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return number


@pytest.mark.parametrize("at", [1, 9])
def test_a_killed_writer_leaves_nothing_that_counts(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    write, seen = Writer.write, []

    def end(writer: Writer, text: str, draw: str) -> Any:
        seen.append(draw)
        if len(seen) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return write(writer, text, draw)

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "write", end)
        _, status = os.waitpid(in_process(lambda: make_shards(source, WANTED, CONFIG, tmp_path)), 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    with pytest.raises(InputError, match="not finished"):
        read_manifest(tmp_path / "python")
    compare(make_shards(source, WANTED, CONFIG, tmp_path)["python"], source, CONFIG)


def test_one_of_many_processes_writes(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = shards_module._spool

    def note(*arguments: Any) -> Any:
        with (tmp_path / "writers").open("a") as log:
            log.write("one\n")
        return spool(*arguments)

    monkeypatch.setattr(shards_module, "_spool", note)

    def work() -> None:
        shard = make_shards(source, WANTED, CONFIG, tmp_path / "shards")["python"]
        assert shard.tokens_NT.shape == (40, 64)

    statuses = [os.waitpid(number, 0)[1] for number in [in_process(work) for _ in range(3)]]
    assert statuses == [0, 0, 0]
    assert (tmp_path / "writers").read_text() == "one\n"
    compare(make_shards(source, WANTED, CONFIG, tmp_path / "shards")["python"], source, CONFIG)
    assert (tmp_path / "writers").read_text() == "one\n"


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"infilling_rate": 0.4}, {"infilling_spm_rate": 0.1}, {"document_tokens": 90},
               {"sequence_length": 32}, {"validation_documents": 0}],
)  # fmt: skip
def test_what_it_depends_on_writes_it_anew(source: Source, tmp_path: Path, change: dict[str, Any]) -> None:
    make_shards(source, WANTED, CONFIG, tmp_path)
    first = read_manifest(tmp_path / "python").digest
    changed = CONFIG.model_copy(update=change)
    compare(make_shards(source, WANTED, changed, tmp_path)["python"], source, changed)
    assert read_manifest(tmp_path / "python").digest != first


def test_other_documents_and_tokenizers_too(source: Source, tmp_path: Path, random_base: Path) -> None:
    config = CONFIG.model_copy(update={"infilling_rate": 0.0})
    digests = set()
    for other in (
        source,
        Source(source.documents, "other", source.tokenizer),
        Source(source.documents, "other", random_base),
    ):
        make_shards(other, WANTED, config, tmp_path)
        digests.add(read_manifest(tmp_path / "python").digest)
    assert len(digests) == 3


def test_a_changed_learning_rate_does_not(source: Source, tmp_path: Path) -> None:
    make_shards(source, WANTED, CONFIG, tmp_path)
    written = (tmp_path / "python" / "tokens.npy").stat().st_mtime_ns
    make_shards(source, WANTED, CONFIG.model_copy(update={"learning_rate": 1.0}), tmp_path)
    assert (tmp_path / "python" / "tokens.npy").stat().st_mtime_ns == written


def test_no_documents(source: Source, tmp_path: Path) -> None:
    row = {"key": "a", "package": "p", "content": "text", "split": "held_out"}
    write_parquet(tmp_path / "documents" / "python" / "part.parquet", [row], DOCUMENT_SCHEMA)
    config = CONFIG.model_copy(update={"validation_documents": 0})
    with pytest.raises(InputError, match="no training documents"):
        make_shards(Source(tmp_path / "documents", "none", source.tokenizer), WANTED, config, tmp_path / "out")
