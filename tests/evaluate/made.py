"""Problems and completions in small, and what stands in for the sandbox where only the order of work matters."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from codechoir.problems import ProblemSet
from codechoir.records import Completion, Problem, Status
from codechoir.sandbox.programs import Outcome


def problem_set(languages: tuple[str, ...] = ("python",), count: int = 4) -> ProblemSet:
    """Problems P_0, P_1, ...: a function that is to return its own number. Only Python's can be run."""
    return ProblemSet(
        {
            language: tuple(
                Problem(
                    name=f"P_{number}",
                    language=language,
                    prompt=f"def f{number}():\n",
                    tests=f"assert f{number}() == {number}\n",
                    stop_tokens=("\ndef",),
                )
                for number in range(count)
            )
            for language in languages
        },
        {"java": "none here"},
        "digest of the problems",
    )


def completion(problem: str, text: str, **changes: object) -> Completion:
    """A greedy completion of the model `base` in Python, but for the changes."""
    values: dict[str, object] = {
        "model": "base", "language": "python", "problem": problem, "sample": 0, "seed": 0, "temperature": 0.0,
        "text": text, "finish": "stop", "num_tokens": 3,
    }  # fmt: skip
    return Completion.model_validate(values | changes)


def right(count: int = 4, **changes: object) -> list[Completion]:
    """A right completion of each problem."""
    return [completion(f"P_{number}", f"    return {number}", **changes) for number in range(count)]


@dataclass
class Runs:
    """What stands in for the sandbox: it notes programs, ends them as told, and is interrupted where a test says so.

    A text that is in a program decides its status; several say how its first, second, ... run ends.
    """

    programs: list[str] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    endings: dict[str, tuple[Status, ...]] = field(default_factory=dict)
    die_after: int = 10**9
    open_runners: int = 0
    version: str = "1.0"
    seconds: Mapping[str, float] = field(default_factory=dict)
    watch: Callable[[str], None] = lambda _: None

    def run(self, program: str) -> Outcome:
        if len(self.programs) >= self.die_after:
            raise KeyboardInterrupt
        self.programs.append(program)
        self.threads.append(threading.get_ident())
        self.watch(program)
        status = Status.PASSED
        for text, statuses in self.endings.items():
            if text in program:
                status = statuses[min(self.programs.count(program), len(statuses)) - 1]
        return Outcome(status, 0 if status is Status.PASSED else 1, None, 0.1, 0.2, 12.5, program)
