"""A language's packed sequences, written to disk once.

In: curate's documents and a tokenizer. Out: a finished folder a language with `tokens.npy` and `positions.npy`, keyed
by a digest of all that they depend on. Memory holds each document's key and package, never the texts: these are
spooled to a file that is read in the order that training asks for. Knows no branches.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from codechoir.artifacts import StageFolder, disk_full_told, file_sha256, files_digest, locked, read_manifest
from codechoir.documents import Text, in_seeded_order, in_turn, stream_texts
from codechoir.errors import InputError
from codechoir.model.checkpoint import TOKENIZER_FILES, load_tokenizer, separator_id
from codechoir.model.encoding import TextEncoder
from codechoir.model.infilling_tokens import find_sentinels
from codechoir.model.token_shards import POSITIONS, TOKENS, TokenShard, open_token_shard
from codechoir.train.config import TrainConfig
from codechoir.train.infilling import Rates
from codechoir.train.packing import Document, Writer, fill
from codechoir.train.validation import hold_back

VERSION = 3
SHARD_SETTINGS = (
    "sequence_length",
    "document_tokens",
    "validation_documents",
    "infilling_rate",
    "infilling_spm_rate",
    "seed",
)


@dataclass(frozen=True, slots=True)
class Source:
    """What shards are made of: curate's documents with the digest that stands for them, and the tokenizer's folder."""

    documents: Path
    documents_digest: str
    tokenizer: Path


def make_shards(
    source: Source, num_sequences: Mapping[str, int], config: TrainConfig, out: Path
) -> dict[str, TokenShard]:
    """Every language's shard under `out`, of so many sequences; those that are not there are written.

    Any number of processes may call this at once, as those of one training do: one of them writes, the others wait at
    a lock that ends with its holder.
    """
    shards = {}
    for language, wanted in num_sequences.items():
        folder = StageFolder(
            out / language,
            f"tokens-{language}",
            VERSION,
            {name: getattr(config, name) for name in SHARD_SETTINGS} | {"language": language, "num_sequences": wanted},
            {"documents": source.documents_digest, "tokenizer": tokenizer_digest(source.tokenizer)},
        )
        with locked(out):
            if folder.finished() is None or not _is_sound(folder.path):
                folder.begin()
                texts = stream_texts(source.documents, language, "train")
                folder.finish(_write(folder.path, texts, writer_of(source.tokenizer, config), config, wanted))
        shards[language] = open_token_shard(folder.path)
    return shards


def _is_sound(folder: Path) -> bool:
    """Whether a finished shard's bytes are those that were written: a token changed would train without a word."""
    told = read_manifest(folder).facts["checksums"]
    return all(file_sha256(folder / name) == told[name] for name in (TOKENS, POSITIONS))


def tokenizer_digest(folder: Path) -> str:
    """A digest of a model folder's tokenizer."""
    return files_digest(folder, [folder / name for name in TOKENIZER_FILES if (folder / name).exists()])


def writer_of(tokenizer_folder: Path, config: TrainConfig) -> Writer:
    """What turns texts into training's documents."""
    tokenizer = load_tokenizer(tokenizer_folder)
    rates = Rates(config.infilling_rate, config.infilling_spm_rate)
    control = separator_id(tokenizer), find_sentinels(tokenizer)
    return Writer(TextEncoder(tokenizer), *control, config.document_tokens, config.sequence_length, rates)


@dataclass(frozen=True, slots=True)
class _Spooled:
    """A text's place in the spool."""

    key: str
    package: str
    start: int
    length: int


def _write(folder: Path, texts: Iterable[Text], writer: Writer, config: TrainConfig, wanted: int) -> dict[str, Any]:
    """Writes the shard's arrays, durably, and returns its figures. Raises InputError where there are no documents."""
    num_texts, num_infillings, num_bytes = 0, 0, 0.0
    with disk_full_told(folder), tempfile.TemporaryFile(dir=folder) as spool:
        held = _spool(texts, spool)
        kept, _ = hold_back(held, config.validation_documents, config.seed)
        if not kept:
            raise InputError("no training documents", next_step="run the curate stage with more sources")
        shape = (wanted, config.sequence_length)
        size = writer.encoder.vocabulary
        with _array(folder / TOKENS, size, shape) as tokens, _array(folder / POSITIONS, shape[1], shape) as positions:
            for row in islice(fill(_documents(kept, spool, writer, config.seed), config.sequence_length), wanted):
                tokens.write(np.asarray(row.tokens, _format(size)).tobytes())
                positions.write(np.asarray(row.positions, _format(shape[1])).tobytes())
                num_texts += row.num_texts
                num_infillings += row.num_infillings
                num_bytes += row.num_bytes
    return {
        "num_documents": num_texts,
        "num_infillings": num_infillings,
        "epochs": round(num_texts / len(kept), 3),
        "num_bytes": round(num_bytes),
        "checksums": {name: file_sha256(folder / name) for name in (TOKENS, POSITIONS)},
    }


def _documents(texts: Sequence[_Spooled], spool: IO[bytes], writer: Writer, seed: int) -> Iterator[Document]:
    """All texts' documents in training's order, without end.

    Epoch after epoch, each in another seeded order, the packages in turn, so that no large one crowds out others.
    """
    for epoch in count():
        order = f"{seed}.{epoch}" if epoch else seed
        for text in in_turn(in_seeded_order(texts, order)):
            spool.seek(text.start)
            yield from writer.write(spool.read(text.length).decode(), f"infilling:{order}:{text.key}")


def _spool(texts: Iterable[Text], spool: IO[bytes]) -> list[_Spooled]:
    """Writes every text to the spool and returns their places, by key."""
    places = []
    start = 0
    for text in texts:
        content = text.content.encode()
        spool.write(content)
        places.append(_Spooled(text.key, text.package, start, len(content)))
        start += len(content)
    return sorted(places, key=lambda place: place.key)


def _format(size: int) -> type[np.unsignedinteger[Any]]:
    """The smaller of two formats that holds every number below `size`."""
    return np.uint16 if size <= 1 << 16 else np.uint32


@contextmanager
def _array(path: Path, size: int, shape: tuple[int, int]) -> Iterator[IO[bytes]]:
    """A file with the header of an array; its rows are the caller's to write. Durable when closed.

    Written plainly: a full disk under a memory map would end the process without a word.
    """
    with path.open("wb") as out:
        header = {"descr": np.dtype(_format(size)).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(out, header)
        yield out
        out.flush()
        os.fsync(out.fileno())
