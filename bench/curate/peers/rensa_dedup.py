"""rensa's R-MinHash and LSH, then scipy's connected components, unverified.

Usage: rensa_dedup.py CORPUS REMOVED PROCESSES

With 1, one process reads and shingles, and rensa's batch calls use its own threads: how a plain script uses it. With 2,
two processes read, shingle and sketch. Of a component the first file stays.
"""

import sys
from collections.abc import Iterable
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from common import BANDS, NUM_PERM, THRESHOLD, batches, shingles, write_removed
from rensa import RMinHash, RMinHashLSH
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SEED = 42


def sketch(batch: tuple[list[int], list[str]]) -> tuple[list[int], list[RMinHash]]:
    """Ids and sketches of a batch's files; those without tokens are left out."""
    named = [(number, found) for number, found in zip(batch[0], map(shingles, batch[1]), strict=True) if found]
    sketches = RMinHash.from_token_sets([found for _, found in named], num_perm=NUM_PERM, seed=SEED)
    return [number for number, _ in named], sketches


def deduplicate(sketched: Iterable[tuple[list[int], list[RMinHash]]]) -> list[int]:
    """The ids of all files but the first of each component."""
    index = RMinHashLSH(threshold=THRESHOLD, num_perm=NUM_PERM, num_bands=BANDS)
    ids: list[int] = []
    sketches: list[RMinHash] = []
    for batch_ids, batch in sketched:
        index.insert_many(batch, start_key=len(ids))
        ids += batch_ids
        sketches += batch
    candidates = index.query_all(sketches)
    rows = np.repeat(np.arange(len(ids)), [len(found) for found in candidates])
    columns = np.fromiter((other for found in candidates for other in found), dtype=np.int64, count=len(rows))
    edges = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(len(ids), len(ids)))
    _, component = connected_components(edges, directed=False)
    first = np.unique(component, return_index=True)[1]
    return np.delete(np.array(ids), first).tolist()


def main(corpus: str, removed: str, processes: str) -> None:
    if processes == "1":
        gone = deduplicate(map(sketch, batches(Path(corpus))))
    else:
        with Pool(int(processes)) as pool:
            gone = deduplicate(pool.imap(sketch, batches(Path(corpus))))
    write_removed(Path(removed), gone)


if __name__ == "__main__":
    main(*sys.argv[1:])
