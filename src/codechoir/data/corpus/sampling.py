"""How many files of a language a stated precision asks for, and which: the arithmetic, step by step.

Goes in: per language the files' count, sum and sum of squares of one quantity (such as the log size) by repository.
Comes out: a `StratumPlan` with every intermediate number, and for a file's key its rank, of which the smallest are
taken. Knows no files.

Sources: Cochran, Sampling Techniques (3rd ed. 1977), chapter 4 for n0 and the finite-population correction, chapter 5
for Neyman's allocation; Wright (The American Statistician 66, 2012) for it in whole numbers; Kish, Survey Sampling
(1965), chapter 5, for the design effect; Donner and Koval (Biometrics 36, 1980) for the correlation by analysis of
variance with clusters of different size.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from codechoir.data.config import SamplingConfig
from codechoir.errors import ConfigError

RANKS = 2**64  # ranks lie below
ROUNDING = 1e-9  # a sample size this little above a whole number is that number


@dataclass(frozen=True, slots=True)
class Cluster:
    """The files of one repository in one language, and the sums of a quantity y over them."""

    num_files: int
    total: float  # of y
    squares: float  # of y^2

    @classmethod
    def of(cls, values: Sequence[float]) -> Cluster:
        """The cluster whose files have these values."""
        return cls(len(values), math.fsum(values), math.fsum(value * value for value in values))


@dataclass(frozen=True, slots=True)
class Stratum:
    """The files of one language."""

    language: str
    clusters: tuple[Cluster, ...]  # none is empty

    @property
    def num_files(self) -> int:
        """The files at hand."""
        return sum(cluster.num_files for cluster in self.clusters)

    @property
    def deviation(self) -> float:
        """The standard deviation of the quantity over all files; 0 for fewer than two."""
        if self.num_files < 2:
            return 0.0
        total = math.fsum(cluster.total for cluster in self.clusters)
        squares = math.fsum(cluster.squares for cluster in self.clusters)
        return math.sqrt(max(0.0, (squares - total * total / self.num_files) / (self.num_files - 1)))


@dataclass(frozen=True, slots=True)
class StratumPlan:
    """How a language's sample size comes about, in the order of the steps."""

    language: str
    num_files: int  # N, at hand
    num_repositories: int
    z: float  # the normal quantile of the confidence
    n0: float  # z^2 p (1 - p) / e^2
    cluster_size: float  # m, files in the repository of a file: sum of squared sizes over sum of sizes
    rho: float  # correlation within a repository; NaN where one repository cannot tell it
    design_effect: float  # 1 + (m - 1) rho; 1 where rho is NaN, since the sample then speaks of that repository alone
    inflated: float  # n0 times the design effect
    finite: float  # the finite-population correction, 1 / (1 + (inflated - 1) / N)
    required: int  # inflated * finite, rounded up
    deviation: float  # S
    allocated: int  # Neyman's share of `total`, in proportion to N S; `required` where no total is set
    chosen: int  # files taken
    reached: float  # half the interval's width with the chosen files; NaN for none


def sample_plan(strata: Sequence[Stratum], config: SamplingConfig) -> tuple[StratumPlan, ...]:
    """The plan of each stratum, in their order. Raises ConfigError for a total that leaves a stratum without a file."""
    z = NormalDist().inv_cdf(0.5 + config.confidence / 2)
    variance = config.proportion * (1 - config.proportion)
    n0 = z * z * variance / config.precision**2
    allocation = None if config.total is None else neyman(strata, config.total)
    plans = []
    for number, stratum in enumerate(strata):
        available = stratum.num_files
        size = cluster_size(stratum.clusters)
        rho = correlation(stratum.clusters) if config.rho == "estimate" else config.rho
        effect = 1.0 if math.isnan(rho) else 1 + (size - 1) * rho
        inflated = n0 * effect
        finite = available / (available + inflated - 1) if available else 0.0
        required = min(available, math.ceil(inflated * finite - ROUNDING))
        allocated = required if allocation is None else allocation[number]
        plans.append(
            StratumPlan(
                language=stratum.language,
                num_files=available,
                num_repositories=len(stratum.clusters),
                z=z,
                n0=n0,
                cluster_size=size,
                rho=rho,
                design_effect=effect,
                inflated=inflated,
                finite=finite,
                required=required,
                deviation=stratum.deviation,
                allocated=allocated,
                chosen=allocated,
                reached=_reached(z, variance * effect, allocated, available),
            )
        )
    return tuple(plans)


def _reached(z: float, variance: float, chosen: int, available: int) -> float:
    if not chosen:
        return math.nan
    left = (available - chosen) / (available - 1) if available > 1 else 0.0
    return z * math.sqrt(variance / chosen * left)


def cluster_size(clusters: Sequence[Cluster]) -> float:
    """The mean size of the cluster that a file lies in; 1 for no files.

    It bounds the files that a sample holds of one repository, and so the design effect: a sample of few files of each
    repository is better than planned.
    """
    num_files = sum(cluster.num_files for cluster in clusters)
    return sum(cluster.num_files**2 for cluster in clusters) / num_files if num_files else 1.0


def correlation(clusters: Sequence[Cluster]) -> float:
    """rho = (MSB - MSW) / (MSB + (m0 - 1) MSW), no less than 0 (Donner and Koval 1980).

    MSB and MSW are the mean squares between and within clusters, m0 = (N - sum of m_i^2 / N) / (k - 1). NaN for a
    single cluster; 0 where every cluster has one file or no file differs.
    """
    num_files, num_clusters = sum(cluster.num_files for cluster in clusters), len(clusters)
    if num_clusters < 2:
        return math.nan
    if num_files == num_clusters:
        return 0.0
    mean = math.fsum(cluster.total for cluster in clusters) / num_files
    between = math.fsum(cluster.num_files * (cluster.total / cluster.num_files - mean) ** 2 for cluster in clusters)
    within = math.fsum(max(0.0, cluster.squares - cluster.total**2 / cluster.num_files) for cluster in clusters)
    msb, msw = between / (num_clusters - 1), within / (num_files - num_clusters)
    m0 = (num_files - sum(cluster.num_files**2 for cluster in clusters) / num_files) / (num_clusters - 1)
    whole = msb + (m0 - 1) * msw
    return min(1.0, max(0.0, (msb - msw) / whole)) if whole > 0 else 0.0


def neyman(strata: Sequence[Stratum], total: int) -> tuple[int, ...]:
    """`total` files divided in proportion to N S, each stratum with at least one and at most all of its files.

    In whole files the best division there is: one file after the other goes where N S / sqrt(n (n + 1)) is largest
    (Wright 2012), by N where S does not decide, then to the earlier stratum. So a larger total takes from no stratum.
    """
    num_strata = sum(stratum.num_files > 0 for stratum in strata)
    if total < num_strata:
        raise ConfigError(
            "the sample's total leaves a language without a file",
            seen=total,
            allowed=f"{num_strata} or more, one for each language",
            next_step="raise curate.sampling.total",
        )
    weights = [stratum.num_files * stratum.deviation for stratum in strata]
    counts = [min(1, stratum.num_files) for stratum in strata]

    def priority(number: int) -> tuple[float, float, int]:
        step = math.sqrt(counts[number] * (counts[number] + 1))
        return -weights[number] / step, -strata[number].num_files / step, number

    queue = [priority(number) for number, stratum in enumerate(strata) if stratum.num_files > 1]
    heapq.heapify(queue)
    for _ in range(total - num_strata):
        if not queue:
            break
        number = queue[0][-1]
        counts[number] += 1
        if counts[number] < strata[number].num_files:
            heapq.heapreplace(queue, priority(number))
        else:
            heapq.heappop(queue)
    return tuple(counts)


def sample_rank(seed: int, key: str) -> int:
    """Where a file stands in the seed's order: the first 64 bits, big end first, of the SHA-256 of `SEED:KEY` in UTF-8.

    It depends on nothing else, so that a file added to the corpus moves no other.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode("utf-8", "surrogatepass")).digest()[:8], "big")
