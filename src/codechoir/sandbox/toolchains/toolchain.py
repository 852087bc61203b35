"""What must be known of a language to run its programs: the record that the table of toolchains is made of.

Owns the record and its words. Knows no language, no sandbox and nothing of this machine (`finding` does).

A program passes when its last step exits with 0 *and* the trailer, appended after the tests, has printed the run's
marker. Exit code 0 alone, which MultiPL-E goes by, does not say that the tests ran: a completion that calls `exit()`
would pass. The trailer holds the marker in two halves that it joins as it prints, so that a program which only shows
its own source (an unclosed here-document, a compiler's excerpt) does not print it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from codechoir.records import Status


@dataclass(frozen=True, slots=True)
class Failure:
    """What a failed step's output looks like, and what that means."""

    pattern: str  # a regular expression, `^` and `$` at lines
    status: Status
    exit_code: int | None = None  # and the step must have ended so


@dataclass(frozen=True, slots=True)
class Known:
    """A program whose ending is known: whoever gets it wrong is not fit to judge others."""

    program: str
    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """One language's commands and the signs of its failures.

    In `run` and `compile`, `{memory}` stands for the MiB that the program may use, and a word that is one of
    `programs` for that program's path.
    """

    language: str  # Language.id
    programs: tuple[str, ...]  # needed on the search path
    packages: tuple[str, ...]  # Debian's
    npm_packages: tuple[str, ...] = ()
    files: tuple[str, ...] = ()  # needed besides
    visible: tuple[str, ...] = ()  # parts of /etc, as glob patterns, that the sandbox must show
    version: tuple[str, ...]  # the command that tells the version
    source: str  # the program's file name
    rewrite: tuple[str, str] | None = None  # a regular expression on the program's text, and what replaces its match
    trailer: str  # after the tests; prints `{head}` and `{tail}` joined when they have ended regularly
    others: tuple[tuple[str, str], ...] = ()  # more files of the program's folder: name, text
    environment: tuple[tuple[str, str], ...] = ()
    compile: tuple[str, ...] = ()  # empty: not compiled
    run: tuple[str, ...]
    warm: bool = False  # Python's: may be run by a fork of an interpreter that is already up
    memory_limit: Literal["address-space", "data"]  # virtual machines reserve far more address space than they use
    memory_overhead: int  # MiB that the runtime itself needs
    processes: int  # threads included
    failures: tuple[Failure, ...]  # of the program; the first that fits wins
    compile_failures: tuple[Failure, ...] = ()  # where none fits, it does not compile
    good: tuple[str, ...]  # programs that pass, without the trailer
    bad: tuple[Known, ...]

    @property
    def install(self) -> str:
        """The commands that bring it to this machine."""
        parts = [f"apt-get install {' '.join(self.packages)}"] if self.packages else []
        return " and ".join([*parts, *(f"npm's {name}" for name in self.npm_packages)]) + " (make toolchains does it)"
