"""datatrove's four MinHash stages, two workers, a task per Parquet file or band.

Usage: datatrove_dedup.py CORPUS REMOVED WORK

Its own normalisation beyond lower case is off and its tokenizer a regular expression, so that shingles are everyone's.
"""

import sys
from pathlib import Path

from common import BAND_ROWS, BANDS, NGRAM, TOKEN, WORKERS, write_removed
from datatrove.data import Document
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers.jsonl import JsonlWriter
from datatrove.utils.text import TextNormConfig
from datatrove.utils.word_tokenizers import WordTokenizer


class RegexTokenizer(WordTokenizer):
    """Words are runs of letters, digits and underscores."""

    def word_tokenize(self, text: str) -> list[str]:
        return TOKEN.findall(text)

    def sent_tokenize(self, text: str) -> list[str]:
        raise NotImplementedError

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        raise NotImplementedError


CONFIG = MinhashConfig(
    n_grams=NGRAM,
    num_buckets=BANDS,
    hashes_per_bucket=BAND_ROWS,
    norm_config=TextNormConfig(
        lowercase=True,
        norm_whitespace=False,
        remove_punctuation=False,
        norm_unicode_diacritics=False,
        norm_numbers=False,
    ),
)


def only_id(_: JsonlWriter, document: Document) -> dict:
    """Removals are told by their ids; the texts are not written."""
    return {"id": document.id}


def main(corpus: str, removed: str, work: str) -> None:
    signatures, buckets, clusters, excluded = (
        str(Path(work, name)) for name in ("sig", "buckets", "remove", "excluded")
    )
    num_parts = len(list(Path(corpus).glob("*.parquet")))
    reader = ParquetReader(corpus, text_key="content", id_key="id", read_metadata=False, glob_pattern="*.parquet")
    stages: list[tuple[str, int, list[PipelineStep]]] = [
        ("sign", num_parts, [reader, MinhashDedupSignature(signatures, CONFIG, language=RegexTokenizer())]),
        ("bucket", BANDS, [MinhashDedupBuckets(signatures, buckets, config=CONFIG)]),
        ("cluster", 1, [MinhashDedupCluster(buckets, clusters, config=CONFIG)]),
        (
            "filter",
            num_parts,
            [reader, MinhashDedupFilter(clusters, JsonlWriter(excluded, adapter=only_id, compression=None))],
        ),
    ]
    for name, tasks, pipeline in stages:
        LocalPipelineExecutor(
            pipeline=pipeline, tasks=tasks, workers=WORKERS, logging_dir=str(Path(work, "logs", name))
        ).run()
    lines = [line for path in Path(excluded).glob("*.jsonl") for line in path.read_text().splitlines()]
    write_removed(Path(removed), (int(line.split(":")[1].rstrip("}")) for line in lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
