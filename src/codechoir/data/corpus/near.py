"""Near-duplicates: MinHash LSH proposes pairs within a language, exact Jaccard similarity decides on each.

Goes in: for each file its rank (a text, unique; the smaller is kept) and its LSH bands, then, for the files that were
proposed, their contents. Comes out: the verified pairs, and the files to remove. A file is removed only where a kept
file is its direct near-duplicate. Knows nothing of where files come from.

A file's shingles are the runs of `ngram` tokens of its text in lower case; tokens are runs of word characters
(`\\w+`), so punctuation divides them (`foo.bar(baz)` is three). Shingles are compared by 64-bit hashes. References:
Broder 1997 (resemblance, MinHash); Leskovec, Rajaraman, Ullman 2020, section 3.4 (bands: a pair of similarity J is
proposed with probability 1 - (1 - J**rows)**bands).
"""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial, reduce
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from daft import DataFrame, DataType, Series, col

from codechoir.data import kernels
from codechoir.data.config import DedupConfig
from codechoir.data.engine import batch_function, frame_of, over_contents, read, store

FULL_BUCKET = 64  # files in a bucket up to which each is paired with each
NUM_LEADERS = 8  # in a larger bucket, each file is paired with so many of those ranked first
PAIR_ROWS = 8192  # pairs that a thread gets at a time; more share more of the sets that are read
HELD_HASHES = 2**21  # shingles in the sets that it reads at a time
NUM_ROUNDS = 3  # rounds in which the files left in larger buckets get new leaders
_SEED = 20240229  # of the hash functions; signatures are comparable while it stays

_PLACE = DataType.struct({"place": DataType.string(), "count": DataType.int64()})

Edge = tuple[str, str, float]  # the file ranked first, the other one, their similarity


@dataclass(frozen=True, slots=True)
class Shingles:
    """The shingles of some rows: row r has hashes_T[bounds_R[r] : bounds_R[r + 1]]."""

    hashes_T: kernels.Hashes
    bounds_R: kernels.Offsets


def shingle(contents: pa.Array, ngram: int) -> Shingles:
    """The shingles of each content, in order and with repeats."""
    text = kernels.utf8_buffers(_lowered(contents))
    return Shingles(*kernels.shingle_rows((text.data_B, text.offsets_R), _tables(), ngram))


def _tables() -> kernels.Tables:
    return kernels.folded(), kernels.classes()


def _lowered(contents: pa.Array) -> pa.Array:
    """The same contents, those with other than ASCII characters in lower case as Python has it."""
    text = kernels.utf8_buffers(contents)
    foreign = pa.array(kernels.foreign_rows(text.data_B, text.offsets_R))
    odd = contents.filter(foreign).to_pylist()
    if not odd:
        return contents
    lowered = pa.array([content and content.lower() for content in odd], contents.type)
    return pc.replace_with_mask(contents, foreign, lowered)


@cache
def _hash_functions(num_hashes: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Odd factors and terms of the MinHash functions."""
    generator = np.random.Generator(np.random.PCG64(_SEED))
    factors_H = generator.integers(0, 2**31, num_hashes, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    return factors_H, generator.integers(0, 2**32, num_hashes, dtype=np.uint32)


@cache
def _salt(language: str) -> int:
    """What a language's bands are mixed with, so that none is shared with another language's."""
    return int.from_bytes(hashlib.sha256(language.encode()).digest()[:8], "little")


def bands(contents: pa.Array, languages: pa.Array, config: DedupConfig) -> tuple[pa.ListArray, kernels.Offsets]:
    """Each content's LSH bands, hashed with its language, and its number of tokens.

    A file that is too short to compare has no bands.
    """
    text = kernels.utf8_buffers(_lowered(contents))
    functions = _hash_functions(config.bands * config.rows)
    found_RL, num_tokens_R = kernels.band_rows(
        (text.data_B, text.offsets_R), _tables(), config.ngram, functions, config.bands
    )
    encoded = languages.dictionary_encode()
    salts = np.array([_salt(name) for name in encoded.dictionary.to_pylist()], np.uint64)
    if len(salts):
        found_RL ^= salts[np.asarray(encoded.indices)][:, None]
    compared = num_tokens_R >= max(config.min_tokens, config.ngram)
    bounds = np.concatenate([[0], np.cumsum(compared * config.bands)]).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(bounds), pa.array(found_RL[compared].reshape(-1)))
    return lists, num_tokens_R


@dataclass(frozen=True, slots=True)
class Corpus:
    """The files to compare, as the steps below read them."""

    signatures: DataFrame  # rank, bands (as `bands` gives them), num_tokens; read several times, so from disk or memory
    texts: Sequence[Callable[[], DataFrame]]  # a function a batch, each giving rank and content
    work: Path  # where pairs and shingles are laid, gone afterwards; all workers see it under this path


@dataclass(frozen=True, slots=True)
class Resolution:
    """The near-duplicates of a corpus."""

    edges: tuple[Edge, ...]  # every verified pair, sorted
    removed: Mapping[str, Edge]  # rank of a removed file -> the pair with the kept file for which it goes
    num_pairs: int  # proposed, each compared exactly
    num_crowded: int  # buckets that were too large for each pair in them to be compared


def resolve(corpus: Corpus, config: DedupConfig) -> Resolution:
    """Which files have to go so that no two of the rest are verified near-duplicates of each other.

    The same for any order of rows, number of threads, and engine.
    """
    shutil.rmtree(corpus.work, ignore_errors=True)  # of a run that was interrupted
    edges: list[Edge] = []
    removed: dict[str, Edge] = {}
    stored: list[Path] = []
    num_pairs = 0
    places: DataFrame | None = None
    banded = corpus.signatures.select("rank", "bands").explode("bands")
    buckets = _buckets(banded).collect()
    crowded = buckets.where(col("count") > FULL_BUCKET).select("bands").collect()
    for number in range(NUM_ROUNDS if len(crowded) else 1):
        if number:  # those left in crowded buckets, under new leaders
            left = banded.join(crowded, on="bands", how="semi").join(frame_of("rank", removed), on="rank", how="anti")
            buckets = _buckets(left)
        pairs = _pairs(buckets)
        for earlier in stored:
            pairs = pairs.join(read(earlier), on=["left", "right"], how="anti")
        stored.append(store(pairs, corpus.work / f"pairs-{number}"))
        fresh = read(stored[-1])
        count = fresh.count_rows()
        if not count:
            break
        if places is None:  # later rounds compare the same files anew
            needed = fresh.select(col("left").alias("rank")).union(fresh.select(col("right").alias("rank")))
            places = _locate(needed.collect(), corpus, config).collect()
        num_pairs += count
        edges += _verified(fresh, places, config.threshold)
        removed = select(edges)
    shutil.rmtree(corpus.work)
    return Resolution(tuple(sorted(edges)), removed, num_pairs, len(crowded))


def _buckets(banded: DataFrame) -> DataFrame:
    """The ranks that share a band, two at least: bands, count, ranks."""
    shared = banded.groupby("bands").agg(col("rank").count().alias("count")).where(col("count") > 1)
    return banded.join(shared, on="bands").groupby("bands", "count").agg(col("rank").list_agg().alias("ranks"))


def _pairs(buckets: DataFrame) -> DataFrame:
    """The pairs to compare, each once: left (ranked first), right."""
    pair = DataType.struct({"left": DataType.string(), "right": DataType.string()})
    paired = batch_function(_pair_up, DataType.list(pair), rows=1024)
    found = buckets.select(paired(col("ranks")).alias("pair")).explode("pair")
    return found.select(col("pair").get("left").alias("left"), col("pair").get("right").alias("right")).distinct()


def _pair_up(ranks: Series) -> pa.Array:
    """For each bucket a list of its pairs."""
    buckets = ranks.to_arrow()
    order = pc.sort_indices(
        pa.table({"bucket": pc.list_parent_indices(buckets), "rank": buckets.flatten()}),
        [("bucket", "ascending"), ("rank", "ascending")],
    )
    left, right, bounds = _pair_indices(np.diff(np.asarray(buckets.offsets)))
    sides = [buckets.flatten().take(order.take(pa.array(side))) for side in (left, right)]
    return pa.LargeListArray.from_arrays(pa.array(bounds), pa.StructArray.from_arrays(sides, ["left", "right"]))


def _pair_indices(sizes_R: npt.NDArray[np.int64]) -> tuple[kernels.Offsets, kernels.Offsets, kernels.Offsets]:
    """The pairs of each bucket as indices of its sorted members, all buckets one after the other, and their bounds."""
    lefts, rights, bounds, first = [], [], [0], 0
    for size in map(int, sizes_R):
        left, right = _pairs_of(size)
        lefts.append(left + first)
        rights.append(right + first)
        bounds.append(bounds[-1] + len(left))
        first += size
    none = np.zeros(0, np.int64)
    return np.concatenate([none, *lefts]), np.concatenate([none, *rights]), np.array(bounds, np.int64)


@lru_cache(FULL_BUCKET + 1)
def _pairs_of(size: int) -> tuple[kernels.Offsets, kernels.Offsets]:
    """Each with each; in a large bucket, the leaders with each. In a pair the one ranked first comes first."""
    num_leaders = size if size <= FULL_BUCKET else NUM_LEADERS
    left = np.repeat(np.arange(num_leaders), size - 1 - np.arange(num_leaders))
    right = np.concatenate([np.arange(leader + 1, size) for leader in range(num_leaders)])
    return left, right


def _locate(needed: DataFrame, corpus: Corpus, config: DedupConfig) -> DataFrame:
    """Where the shingles of the `needed` ranks lie: rank, place, count."""
    folder = corpus.work.resolve() / "shingles"
    folder.mkdir(parents=True)
    write = batch_function(partial(_write_sets, folder, config.ngram), _PLACE, unnest=True, rows=256)
    with over_contents():
        frames = [
            text().join(needed, on="rank", how="semi").select("rank", write(col("content"))).collect()
            for text in corpus.texts
        ]
    return reduce(DataFrame.concat, frames)


def _write_sets(folder: Path, ngram: int, contents: Series) -> pa.Array:
    """Writes the distinct shingles of each content, sorted, one after the other into a new file; says where."""
    shingles = shingle(contents.to_arrow(), ngram)
    hashes_T, bounds_R = kernels.distinct_rows(shingles.hashes_T, shingles.bounds_R)
    path = folder / uuid.uuid4().hex
    hashes_T.tofile(path)
    places = [f"{begin} {end} {path}" for begin, end in pairwise(bounds_R.tolist())]
    return pa.StructArray.from_arrays([pa.array(places), pa.array(np.diff(bounds_R))], ["place", "count"])


def _verified(pairs: DataFrame, places: DataFrame, threshold: float) -> list[Edge]:
    """Those of the pairs whose exact similarity reaches the threshold."""
    for side in ("left", "right"):
        named = [col("rank").alias(side), col("place").alias(f"{side}_place"), col("count").alias(f"{side}_count")]
        pairs = pairs.join(places.select(*named), on=side)
    # a set has no more in common with another than the smaller of both holds
    sizes = [col(f"{side}_count").cast(DataType.float64()) for side in ("left", "right")]
    pairs = pairs.where((sizes[0] >= sizes[1] * threshold) & (sizes[1] >= sizes[0] * threshold))
    pairs = pairs.sort("left")  # pairs that share a set come together
    compare = batch_function(partial(_compare, threshold), DataType.float64(), rows=PAIR_ROWS)
    similarity = compare(col("left_place"), col("right_place"))
    scored = pairs.select("left", "right", similarity.alias("similarity"))
    found = scored.where(col("similarity") >= threshold).to_pydict()
    return list(zip(found["left"], found["right"], found["similarity"], strict=True))


def _compare(threshold: float, left: Series, right: Series) -> pa.Array:
    places = pa.concat_arrays([left.to_arrow(), right.to_arrow()]).dictionary_encode()
    extents = [place.split(" ", 2) for place in places.dictionary.to_pylist()]
    begins, ends = (np.array([extent[side] for extent in extents], np.int64) for side in (0, 1))
    pairs_2P = np.asarray(places.indices).reshape(2, -1)
    # as many pairs at a time as have HELD_HASHES in both their sets, if each set were held for each pair
    chunks_P = np.cumsum((ends - begins)[pairs_2P].sum(axis=0)) // HELD_HASHES
    found = []
    for pairs in np.split(pairs_2P, np.flatnonzero(np.diff(chunks_P)) + 1, axis=1):
        sets, members = np.unique(pairs, return_inverse=True)
        files = [extents[number][2] for number in sets]
        hashes_T, bounds = _read_sets(files, begins[sets], ends[sets])
        left_P, right_P = members.reshape(2, -1)
        found.append(kernels.jaccard_pairs(hashes_T, bounds, left_P, right_P, threshold))
    return pa.array(np.concatenate(found))


def _read_sets(
    files: Sequence[str], begins: kernels.Offsets, ends: kernels.Offsets
) -> tuple[kernels.Hashes, kernels.Offsets]:
    """The sets that lie in the files, one after the other, and their bounds."""
    bounds = np.concatenate([[0], np.cumsum(ends - begins)])
    hashes_T = np.empty(bounds[-1], np.uint64)
    for file, numbers in groupby(sorted(range(len(files)), key=files.__getitem__), key=files.__getitem__):
        with Path(file).open("rb", buffering=0) as handle:
            for number in numbers:
                handle.seek(begins[number] * hashes_T.itemsize)
                handle.readinto(hashes_T[bounds[number] : bounds[number + 1]].data)
    return hashes_T, bounds


def select(edges: Iterable[Edge]) -> dict[str, Edge]:
    """The files to remove, each with the pair for which it goes.

    In the order of ranks, a file goes if one that is kept is its direct near-duplicate; of several, the most similar
    one is named. So nothing goes for a file that has itself gone.
    """
    before: dict[str, list[Edge]] = defaultdict(list)
    for edge in edges:
        before[edge[1]].append(edge)
    removed: dict[str, Edge] = {}
    for rank in sorted(before):
        kept = [edge for edge in before[rank] if edge[0] not in removed]
        if kept:
            removed[rank] = min(kept, key=lambda edge: (-edge[2], edge[0]))
    return removed
