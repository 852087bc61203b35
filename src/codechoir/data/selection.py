"""Which of the files that are left are kept, and on which side of the split each lies.

Goes in: the examined rows and the verdicts so far. Comes out: the verdict `not-sampled` for files that the stated
precision does not need, the packages held out, and the arithmetic behind the sample. Holds figures by package, no rows.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import daft
import pyarrow as pa
from daft import DataFrame, DataType, Series, col

from codechoir.data.config import CurateConfig
from codechoir.data.corpus.sampling import Cluster, Stratum, StratumPlan, sample_plan, sample_rank
from codechoir.data.corpus.split import held_out_packages
from codechoir.data.duplicates import kept_rows
from codechoir.data.engine import batch_function, read, store

_STEPS = 2**16  # of a logarithm, to one


@dataclass(frozen=True, slots=True)
class Selection:
    """What becomes of the files that no verdict has hit before."""

    held_out: frozenset[str]  # packages
    plans: tuple[StratumPlan, ...]  # a language each; none where everything is kept
    verdicts: Path | None  # of the files left out by the sample


def left_over(examined: Sequence[Path], verdicts: Sequence[Path], *columns: str) -> DataFrame:
    """Those columns of the files that nothing has rejected."""
    kept = kept_rows(examined, *dict.fromkeys(("rank", *columns)))
    return kept.join(read(*verdicts).select("rank"), on="rank", how="anti").select(*columns)


def choose(examined: Sequence[Path], verdicts: Sequence[Path], work: Path, config: CurateConfig) -> Selection:
    """Splits by package and draws the sample. Raises ConfigError where a side of the split or a sample is empty."""
    clusters = _clusters(left_over(examined, verdicts, "language", "package", "size"))
    packages = {language: set(found) for language, found in clusters.items()}
    held_out = held_out_packages(packages, config)
    if config.sampling is None:
        return Selection(held_out, (), None)
    strata = [Stratum(name, tuple(found[key] for key in sorted(found))) for name, found in sorted(clusters.items())]
    plans = sample_plan(strata, config.sampling)
    folder = work / "not-sampled"
    if not folder.exists():
        files = left_over(examined, verdicts, "language", "key", "rank")
        store(_not_drawn(files, plans, config.seed), folder)
    return Selection(held_out, plans, folder)


def _clusters(files: DataFrame) -> dict[str, dict[str, Cluster]]:
    """By language and package: the files, and the sums of their log sizes and of those squared."""
    # in whole steps, so that the sums do not depend on the order in which an engine adds them up
    steps = (col("size").cast(DataType.float64()).ln() * _STEPS).round().cast(DataType.int64())
    sums = files.with_column("steps", steps).groupby("language", "package")
    rows = sums.agg(
        col("size").count().alias("files"), col("steps").sum(), (col("steps") * col("steps")).sum().alias("squares")
    )
    found: dict[str, dict[str, Cluster]] = defaultdict(dict)
    for row in rows.to_pylist():
        cluster = Cluster(row["files"], row["steps"] / _STEPS, row["squares"] / _STEPS**2)
        found[row["language"]][row["package"]] = cluster
    return found


def _not_drawn(files: DataFrame, plans: Sequence[StratumPlan], seed: int) -> DataFrame:
    """The verdicts on the files that the seed's order puts behind the sample of their language."""
    drawn = with_draws(files, seed)
    left_out = []
    for plan in plans:
        mine = drawn.where(col("language") == plan.language)
        chosen = mine.sort(["draw", "rank"]).limit(plan.chosen).select("rank")
        detail = f"behind the {plan.chosen} of {plan.num_files} files that the precision asks for"
        verdict = mine.join(chosen, on="rank", how="anti").select("rank", daft.lit("not-sampled").alias("reason"))
        left_out.append(verdict.with_column("detail", daft.lit(detail)))
    return functools.reduce(DataFrame.concat, left_out)


def with_draws(files: DataFrame, seed: int) -> DataFrame:
    """The files with a column `draw`: where their `key` puts them in the seed's order."""

    def draw(keys: Series) -> pa.Array:
        return pa.array([sample_rank(seed, key) for key in keys.to_pylist()], pa.uint64())

    return files.with_column("draw", batch_function(draw, DataType.uint64(), rows=4096)(col("key")))
