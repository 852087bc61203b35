"""What the evaluate stage can be told."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from codechoir.config import Config
from codechoir.sandbox.isolation import SandboxKind


class EvaluateConfig(Config):
    """How programs are run and scores are estimated."""

    pass_k: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1,), description="the k of each pass@k; at least as many completions of every problem are needed"
    )
    sandbox: SandboxKind = Field(
        "bubblewrap",
        description="bubblewrap; unsafe-no-sandbox runs the models' programs with all the rights that you have",
    )
    workers: int | None = Field(None, ge=1, description="programs run at once; null takes the number of CPUs")
    cpu_seconds: int = Field(10, ge=1, description="CPU time of one program's process; the limit meant to bind")
    wall_seconds: float = Field(30.0, gt=0, description="wall-clock time of one program, without its compilation")
    memory_mib: int = Field(1024, ge=64, description="memory of one program's process, MiB")
    resamples: int = Field(2000, ge=100, description="bootstrap resamples of each 95% interval")
    permutations: int = Field(
        10_000, ge=100, description="random exchanges behind a p-value where there are too many to count them all"
    )
    seed: int = Field(0, ge=0, description="seed of the bootstrap and the exchanges")
    multipl_e: bool = Field(
        True, description="also write completions and results as MultiPL-E's own files, in the folder multipl-e"
    )

    def settings(self) -> dict[str, object]:
        """The values that a result depends on: all but the number of workers."""
        return self.model_dump(mode="json", exclude={"workers"})
