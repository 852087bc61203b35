"""The four filters as datatrove's LambdaFilter, two workers, a task per Parquet file.

Usage: datatrove_filters.py CORPUS REMOVED WORK
"""

import sys
from pathlib import Path

from common import WORKERS, passes, write_removed
from datatrove.data import Document
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.filters import LambdaFilter
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers.jsonl import JsonlWriter


def only_id(_: JsonlWriter, document: Document) -> dict:
    """Removals are told by their ids; the texts are not written."""
    return {"id": document.id}


def main(corpus: str, removed: str, work: str) -> None:
    excluded = Path(work, "excluded")
    LocalPipelineExecutor(
        pipeline=[
            ParquetReader(corpus, text_key="content", id_key="id", read_metadata=False, glob_pattern="*.parquet"),
            LambdaFilter(
                lambda document: passes(document.text), JsonlWriter(str(excluded), adapter=only_id, compression=None)
            ),
        ],
        tasks=len(list(Path(corpus).glob("*.parquet"))),
        workers=WORKERS,
        logging_dir=str(Path(work, "logs")),
    ).run()
    lines = [line for path in excluded.glob("*.jsonl") for line in path.read_text().splitlines()]
    write_removed(Path(removed), (int(line.split(":")[1].rstrip("}")) for line in lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
