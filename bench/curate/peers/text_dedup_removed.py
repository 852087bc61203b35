"""Tells what text-dedup removed as near-duplicates. Usage: text_dedup_removed.py CORPUS REMOVED OUTPUT

Not measured. Files too short for it (it leaves them out altogether) do not count as removed.
"""

import re
import sys
from pathlib import Path

import pyarrow as pa
from common import batches, write_removed

MIN_LENGTH = 5  # text-dedup's default
NON_ALPHA = re.compile(r"\W")

corpus, removed, output = map(Path, sys.argv[1:])
considered = {
    number
    for ids, contents in batches(corpus)
    for number, content in zip(ids, contents, strict=True)
    if len(NON_ALPHA.split(content.lower())) >= MIN_LENGTH
}
for path in output.glob("*.arrow"):
    with pa.ipc.open_stream(str(path)) as stream:
        for batch in stream:
            considered.difference_update(batch["id"].to_pylist())
write_removed(removed, considered)
