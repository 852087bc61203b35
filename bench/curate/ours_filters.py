"""The brief's four filters with the curate stage's own parts. Usage: ours_filters.py CORPUS REMOVED"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from daft import DataType, Series, col

from bench.curate.ours import batches, main
from codechoir.data import kernels
from codechoir.data.config import FilterConfig
from codechoir.data.engine import batch_function, over_contents
from codechoir.data.files.columns import shapes
from codechoir.data.files.generated import HEAD, auto_generated_marker


def filters(corpus: Path, _: Path) -> list[str]:
    """The brief's four filters, from content."""
    config = FilterConfig.model_validate({})
    word = np.frombuffer(b"generat", np.uint8)  # no marker is without it

    def judge(contents: Series) -> pa.Array:
        array = contents.to_arrow()
        text = kernels.utf8_buffers(array)
        means, longest, alnum = shapes(array)
        bad = (means > config.max_mean_line_length) | (longest > config.max_line_length)
        bad |= alnum < config.min_alphanum_fraction
        suspects = kernels.mention_rows(text.data_B, text.offsets_R, HEAD, word) & ~bad
        for row in np.flatnonzero(suspects):
            bad[row] = auto_generated_marker(array[row].as_py()) is not None
        return pa.array(bad)

    function = batch_function(judge, DataType.bool(), rows=1024)
    found = []
    with over_contents():
        for part in batches(corpus):
            frame = part().select("rank", "content").where(function(col("content"))).select("rank")
            found += frame.to_pydict()["rank"]
    return found


if __name__ == "__main__":
    main(filters)
