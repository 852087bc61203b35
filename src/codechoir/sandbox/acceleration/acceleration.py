"""The interface of an acceleration: a plain job in, an equivalent cheaper one out. Knows no language."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from codechoir.sandbox.jobs import Job, Step, StepResult


class Acceleration(Protocol):
    """One language's way to the same verdict in less time. Not thread-safe: one instance a worker."""

    @property
    def visible(self) -> tuple[str, ...]:
        """Folders that the sandbox must show, read-only, for the jobs to work."""
        ...

    def job(self, source: str, plain: Job) -> Job | StepResult | None:
        """The job to run in place of `plain`, whose program is `source`.

        A StepResult is the end of a compilation that has failed, with no job left to run. None: run `plain`.
        """
        ...

    def close(self) -> None:
        """Ends what the acceleration keeps running."""
        ...


def compile_steps(job: Job) -> tuple[Step, ...]:
    """The steps before the run."""
    return tuple(step for step in job.steps if step.name == "compile")


def with_compile_steps(job: Job, steps: tuple[Step, ...]) -> Job:
    """`job` with other compile steps."""
    return replace(job, steps=(*steps, *(step for step in job.steps if step.name != "compile")))
