"""What is to be evaluated, as files: found once, read as a stream, and any completion of them again by its position.

A file is JSON lines (`X.jsonl` of Completion, `X.likelihood.jsonl` of LogLikelihood, `X.infill.jsonl` of Infilling) or
one of MultiPL-E's; a folder is generate's (`MODEL/LANGUAGE.jsonl` and so on) or holds MultiPL-E's files at any depth.
Holds no completion in memory but those of the one MultiPL-E file it reads. Judges nothing.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from codechoir.artifacts import files_digest
from codechoir.errors import InputError
from codechoir.evaluate import interchange
from codechoir.records import Completion, Problem, parse_record, read_records

LIKELIHOOD, INFILLING = ".likelihood.jsonl", ".infill.jsonl"


@dataclass(frozen=True, slots=True)
class Given:
    """The files by what they hold. `lines` and `sheets` are completions: JSON lines and MultiPL-E's."""

    root: Path
    is_generated: bool  # generate's folder, where each file's path says whose it is
    lines: tuple[Path, ...] = ()
    sheets: tuple[Path, ...] = ()
    likelihoods: tuple[Path, ...] = ()
    infillings: tuple[Path, ...] = ()

    @property
    def digest(self) -> str:
        """Of the names and contents of all files."""
        return files_digest(self.root, (*self.lines, *self.sheets, *self.likelihoods, *self.infillings))

    def languages(self) -> list[str]:
        """The languages of the completions, as they come."""
        found = [interchange.language_of(path) for path in self.sheets]
        if self.is_generated:
            found += [path.name.removesuffix(".jsonl") for path in self.lines]
        else:
            found += [record.language for path in self.lines for record in read_records(Completion, path)]
        return list(dict.fromkeys(found))


def find(path: Path) -> Given:
    """The files at `path`. Raises InputError where it is missing, or a folder that holds none."""
    if path.is_file():
        return _found(path.parent, (path,), is_generated=False)
    if not path.exists():
        raise InputError("no such file", seen=path, allowed="a file or folder of completions")
    if lines := tuple(sorted(path.glob("*/*.jsonl"))):
        return _found(path, lines, is_generated=True)
    if sheets := tuple(interchange.problem_files(path)):
        return _found(path, sheets, is_generated=False)
    raise InputError(
        "the folder holds no completions", seen=path, allowed="MODEL/LANGUAGE.jsonl, or MultiPL-E's NAME.json.gz"
    )


def _found(root: Path, files: tuple[Path, ...], *, is_generated: bool) -> Given:
    sheets = tuple(file for file in files if file.name.endswith(interchange.SUFFIXES))
    likelihoods = tuple(file for file in files if file.name.endswith(LIKELIHOOD))
    infillings = tuple(file for file in files if file.name.endswith(INFILLING))
    lines = tuple(file for file in files if file not in {*sheets, *likelihoods, *infillings})
    return Given(root, is_generated, lines, sheets, likelihoods, infillings)


class Completions:
    """All completions, numbered in the order of their files. Iterate over them once before asking for one by number."""

    def __init__(self, given: Given, problems: Mapping[tuple[str, str], Problem]) -> None:
        self._parts: list[_Lines | _Sheet] = [_Lines(path, is_generated=given.is_generated) for path in given.lines]
        self._parts += [_Sheet(path, problems) for path in given.sheets]
        self._starts: list[int] = []
        self._open: _Lines | _Sheet | None = None

    def __iter__(self) -> Iterator[Completion]:
        self._starts = []
        position = 0
        for part in self._parts:
            self._starts.append(position)
            for completion in part.scan():
                position += 1
                yield completion

    def __getitem__(self, position: int) -> Completion:
        number = bisect_right(self._starts, position) - 1
        part = self._parts[number]
        if self._open is not part:
            self.close()
            self._open = part
        return part.pick(position - self._starts[number])

    def close(self) -> None:
        """Lets go of the file that was read last."""
        if self._open is not None:
            self._open.close()
            self._open = None


class _Lines:
    """A file of JSON lines; remembers where each begins, 8 bytes a line."""

    def __init__(self, path: Path, *, is_generated: bool) -> None:
        self.path = path
        self._whose = (path.parent.name, path.name.removesuffix(".jsonl")) if is_generated else None
        self._starts = array("q")
        self._file: BinaryIO | None = None

    def scan(self) -> Iterator[Completion]:
        self._starts = array("q")
        start = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                completion = parse_record(Completion, line.rstrip(b"\n"), f"{self.path}:{number}")
                self._check_whose(completion, number)
                self._starts.append(start)
                start += len(line)
                yield completion

    def _check_whose(self, completion: Completion, number: int) -> None:
        if self._whose not in (None, (completion.model.replace("/", "--"), completion.language)):
            raise InputError(
                "the file is stale: it holds another model's or language's completions than its path says",
                seen=f"{self.path}:{number}: {completion.model}, {completion.language}",
                next_step="remove it, or put it where it belongs",
            )

    def pick(self, place: int) -> Completion:
        if self._file is None:
            self._file = self.path.open("rb")
        self._file.seek(self._starts[place])
        return parse_record(Completion, self._file.readline().rstrip(b"\n"), f"{self.path}:{place + 1}")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class _Sheet:
    """One of MultiPL-E's files."""

    def __init__(self, path: Path, problems: Mapping[tuple[str, str], Problem]) -> None:
        self.path, self._problems = path, problems
        self._completions: list[Completion] = []

    def scan(self) -> Iterator[Completion]:
        completions = interchange.read_completions(self.path)
        if not completions:
            raise InputError("the file holds no completions", seen=self.path, next_step="generate them or remove it")
        first = completions[0]
        if problem := self._problems.get((first.language, first.problem)):
            interchange.read_completions(self.path, problem)
        yield from completions

    def pick(self, place: int) -> Completion:
        if not self._completions:
            self._completions = interchange.read_completions(self.path)
        return self._completions[place]

    def close(self) -> None:
        self._completions = []
