"""Copies and verified near-duplicates with the curate stage's own parts. Usage: ours_dedup.py CORPUS REMOVED"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pyarrow as pa
from daft import DataType, Series, col

from bench.curate.ours import batches, main
from codechoir.data.config import DedupConfig
from codechoir.data.corpus import near
from codechoir.data.duplicates import copies_of
from codechoir.data.engine import batch_function, over_contents, read, store
from codechoir.data.files.columns import git_blob_ids


def dedup(corpus: Path, work: Path) -> list[str]:
    """Copies, then near-duplicates of what is left."""
    config = DedupConfig.model_validate({})

    def sign(contents: Series, languages: Series) -> pa.Array:
        array = contents.to_arrow()
        bands, _ = near.bands(array, languages.to_arrow(), config)
        return pa.StructArray.from_arrays([pa.array(git_blob_ids(array)), bands], ["hexsha", "bands"])

    signed = DataType.struct({"hexsha": DataType.string(), "bands": DataType.list(DataType.uint64())})
    function = batch_function(sign, signed, unnest=True)
    parts = list(batches(corpus))
    with over_contents():
        folders = [
            store(part().select("rank", function(col("content"), col("lang"))), work / f"signed-{number:05}")
            for number, part in enumerate(parts)
        ]
    copies = store(copies_of(read(*folders).select("rank", "hexsha")), work / "copies")
    files = read(*folders).join(read(copies).select("rank"), on="rank", how="anti").select("rank", "bands")
    signatures = read(store(files, work / "signatures"))
    texts = [partial(lambda part: part().select("rank", "content"), part) for part in parts]
    found = near.resolve(near.Corpus(signatures, texts, work / "comparing"), config)
    return [*read(copies).to_pydict()["rank"], *found.removed]


if __name__ == "__main__":
    main(dedup)
