"""A trial of curation: some of the recipe's own files go through its steps, and are timed.

Goes in: the recipe. Comes out: what it took, and in the scratch folder `sample.parquet`, which the trial of the models
reads. The steps are the stage's own; left out are the split and the sampling, which need whole packages.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import daft
import pyarrow as pa

from codechoir.data.config import CurateConfig, PackageSource, Source, TableSource
from codechoir.data.corpus.recall import estimate_recall
from codechoir.data.duplicates import find_clashes, find_copies, find_near_duplicates
from codechoir.data.engine import start, store
from codechoir.data.examine import Steps, examine
from codechoir.data.files.contamination import load_benchmarks
from codechoir.data.output import Curated, write_outputs
from codechoir.data.sources.reading import Row, Unit, read_unit, wanted_languages
from codechoir.data.sources.rows import GATHERED_SCHEMA
from codechoir.data.sources.tables import read_scan, scans, told
from codechoir.documents import read_parquet, write_parquet
from codechoir.errors import InputError
from codechoir.languages import Language, language
from codechoir.planning.memory import peak_memory
from codechoir.recipe import Recipe
from codechoir.records import Record
from codechoir.registries import PackageGoneError

SAMPLE = "sample.parquet"
SAMPLE_BYTES = 4 * 2**20  # all languages together
_MIB = 2**20
_SOURCES = 4  # so many of a language's sources share its part of the sample
_TABLE_ROWS = 1000  # at most, from one table
_WARM_ROWS = 16  # a language
_SCHEMA = GATHERED_SCHEMA.append(pa.field("source", pa.string()))


class CurateTrial(Record):
    """What curating the sample took. Bytes are of content, before curation."""

    num_files: int
    num_bytes: int
    num_read: int  # bytes that were read to have the sample
    written_bytes: int  # on disk, of documents and rejections
    first_seconds: float  # what is done once, whatever the corpus: compiling, grammars, benchmarks
    gather_seconds: float
    judge_seconds: float
    first_memory: int  # peak before the sample was judged
    memory: int  # peak


def try_curate(recipe: Recipe, cache: Path, scratch: Path) -> CurateTrial:
    """Curates a sample in this process. Raises UserError as curation does, and where there is nothing to take."""
    config = recipe.curate
    start("native")
    began = time.monotonic()
    sample = _Sample()
    for name in recipe.languages:
        sample.add(config, language(name), cache, SAMPLE_BYTES // len(recipe.languages))
    gather_seconds = time.monotonic() - began
    everything = [row for some in sample.rows.values() for row in some]
    if not everything:
        raise InputError("the sources hold no file in the recipe's languages", seen=", ".join(recipe.languages))
    write_parquet(scratch / SAMPLE, everything, _SCHEMA)
    began = time.monotonic()
    steps = Steps(config, load_benchmarks(config.decontaminate, cache))
    _judge([row for some in sample.rows.values() for row in some[:_WARM_ROWS]], steps, scratch / "warm")
    first_seconds, first_memory = time.monotonic() - began, peak_memory()
    began = time.monotonic()
    written_bytes = _judge(everything, steps, scratch / "judged")
    return CurateTrial(
        num_files=len(everything),
        num_bytes=sum(map(_size, everything)),
        num_read=sample.num_read,
        written_bytes=written_bytes,
        first_seconds=first_seconds,
        gather_seconds=gather_seconds,
        judge_seconds=time.monotonic() - began,
        first_memory=first_memory,
        memory=peak_memory(),
    )


def sample_texts(scratch: Path) -> dict[str, list[str]]:
    """The contents of the sample by Language.id."""
    texts: dict[str, list[str]] = {}
    for row in read_parquet(scratch / SAMPLE, ("language", "content")).to_pylist():
        if row["content"]:
            texts.setdefault(row["language"], []).append(row["content"])
    return texts


def _judge(rows: Sequence[Row], steps: Steps, work: Path) -> int:
    """What the stage does with a batch; the bytes that it leaves on disk."""
    examined = [store(examine(daft.from_arrow(pa.Table.from_pylist(list(rows), _SCHEMA)), steps), work / "examined")]
    copies = find_copies(examined, work)
    verdicts = [copies, find_near_duplicates(examined, copies, work, steps.config.dedup)]
    estimate_recall(examined, copies, steps.config)
    curated = Curated(examined, verdicts, find_clashes(examined, verdicts, work), frozenset())
    write_outputs(curated, work / "out")
    return sum(path.stat().st_size for path in (work / "out").rglob("*.parquet"))


@dataclass(slots=True)
class _Sample:
    """Some files of the recipe's languages, and how many bytes were read to have them."""

    rows: dict[str, list[Row]] = field(default_factory=dict)  # by Language.id
    num_read: int = 0

    def add(self, config: CurateConfig, wanted: Language, cache: Path, share: int) -> None:
        """Adds about `share` bytes of a language, from the first of its sources."""
        sources = [source for source in config.sources if wanted_languages(source, [wanted])]
        kept = self.rows.setdefault(wanted.id, [])
        left = share
        for source in sources:
            here = min(left, share // min(_SOURCES, len(sources)))
            if here <= 0:
                break
            for row in _rows(source, wanted, cache, config.max_file_mib * _MIB):
                size = _size(row)
                self.num_read += size
                if here > 0:
                    kept.append({**row, "source": str(source)})
                    left, here = left - size, here - size
                elif not isinstance(source, PackageSource):
                    break  # an archive is read to its end: where its files lie in it would make the time one of chance


def _rows(source: Source, wanted: Language, cache: Path, max_file_bytes: int) -> Iterator[Row]:
    if not isinstance(source, TableSource):
        try:
            yield from read_unit(Unit("", source, (wanted,)), cache, max_file_bytes)
        except PackageGoneError:
            return  # one that is not optional has been told of before
        return
    for scan in itertools.islice(scans(source, SAMPLE_BYTES), 1):
        with told(source):
            found: list[Row] = read_scan(source, scan, [wanted], max_file_bytes).limit(_TABLE_ROWS).to_pylist()
        yield from found


def _size(row: Row) -> int:
    return len((row["content"] or "").encode())
