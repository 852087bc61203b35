"""Which completions there are and how each ended, in a few bytes a completion.

Checks, before anything is run, all that would make a score wrong: problems that are unknown or missing, completions
that occur twice, several temperatures, numbers of completions that differ. Finds identical programs. In go completions
as a stream; what stays in memory is each one's model, problem, sample, program and status as numbers. Runs nothing.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from codechoir.artifacts import MANIFEST, UNFINISHED
from codechoir.errors import InputError
from codechoir.evaluate.interchange import program_of
from codechoir.problems import ProblemSet
from codechoir.records import Completion, Problem, Status, Verdict

Ints = NDArray[np.int64]
Small = NDArray[np.int32]

MULTIPL_E = "multipl-e"  # the folder beside the models' own
FIRST_TIME_OUTS = "first-time-outs.jsonl"
SCORES = "scores.json"
_NO_MODELS = ("", ".", "..", MULTIPL_E, FIRST_TIME_OUTS, SCORES, MANIFEST, UNFINISHED)  # folders of no model's own
_CODES = tuple(Status)
_CODE_OF = {status: code for code, status in enumerate(_CODES)}
_NOT_JUDGED = 255
_MOST_SAMPLES = 2**31 - 1
_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class Tally:
    """One model's verdicts on one language, by problem; each array has shape (problems,)."""

    problems: tuple[str, ...]
    num_samples: Ints
    num_passed: Ints
    num_broken: Ints  # harness errors: neither passed nor failed


@dataclass(frozen=True, slots=True)
class Group:
    """The completions of one model in one language."""

    model: str
    language: str


def folder_of(model: str) -> str:
    """The name of a model's folder; a hub id's slash becomes `--`."""
    return model.replace("/", "--")


def verdict_path(out: Path, model: str, language: str) -> Path:
    """Where a model's verdicts on a language lie."""
    return out / folder_of(model) / f"{language}.jsonl"


def problems_by_name(problems: ProblemSet) -> dict[tuple[str, str], Problem]:
    """The problems by (language, name)."""
    return {(problem.language, problem.name): problem for each in problems.problems.values() for problem in each}


class Ledger:
    """All completions by their position in the stream. Raises InputError where they would make a wrong score."""

    def __init__(self, completions: Iterable[Completion], problems: ProblemSet) -> None:
        self._problems = problems
        self._known = problems_by_name(problems)
        self._place = {
            (language, problem.name): place
            for language, each in problems.problems.items()
            for place, problem in enumerate(each)
        }
        self.groups: list[Group] = []
        self._group_of: dict[Group, int] = {}
        self._folders: dict[str, str] = {}
        self._seeds: list[int] = []  # a checksum a group, whatever the order
        self.temperature = 0.0
        columns = array("i"), array("i"), array("i"), bytearray()
        for completion in completions:
            self._enter(completion, columns)
        self._groups, self._places, self._samples = (np.frombuffer(each, dtype=np.int32) for each in columns[:3])
        self._find_doubles()
        self._check_numbers()
        self._find_identical(columns[3])
        self._codes = np.full(len(self), _NOT_JUDGED, dtype=np.uint8)
        self._retried = np.zeros(len(self), dtype=np.bool_)
        self.num_judged = self.num_passed = 0

    def __len__(self) -> int:
        return len(self._groups)

    def _enter(self, completion: Completion, columns: tuple[array[int], array[int], array[int], bytearray]) -> None:
        problem = self._known.get((completion.language, completion.problem))
        if problem is None:
            raise InputError(
                "a completion's problem is not among the problems",
                seen=_where(completion),
                allowed=f"problems in {', '.join(self._problems.problems) or 'no language'}",
                next_step="evaluate with the problems that the completions were made for",
            )
        if not 0 <= completion.sample <= _MOST_SAMPLES:
            raise InputError("a sample's number is out of range", seen=_where(completion), allowed="0 .. n-1")
        if not columns[0]:
            self.temperature = completion.temperature
        if completion.temperature != self.temperature:
            raise InputError(
                "the completions have several temperatures",
                seen=f"{self.temperature} and {completion.temperature} ({_where(completion)})",
                next_step="evaluate each temperature by itself",
            )
        group = Group(completion.model, completion.language)
        if group not in self._group_of:
            self._open_group(group)
        number = self._group_of[group]
        drawn = f"{completion.problem}\n{completion.sample}\n{completion.seed}"
        self._seeds[number] ^= int.from_bytes(_digest(drawn))
        columns[0].append(number)
        columns[1].append(self._place[completion.language, completion.problem])
        columns[2].append(completion.sample)
        program = f"{completion.language}\n{program_of(problem, completion.text)}"
        columns[3].extend(_digest(program))

    def _open_group(self, group: Group) -> None:
        folder = folder_of(group.model)
        taken = self._folders.setdefault(folder, group.model) != group.model
        if taken or folder in _NO_MODELS or PurePath(folder).name != folder or "\0" in folder:
            raise InputError("the model's name cannot name a folder of its own", seen=repr(group.model))
        self._group_of[group] = len(self.groups)
        self.groups.append(group)
        self._seeds.append(0)

    def _keys(self, groups: Small, places: Small, samples: Small) -> Ints:
        """One number for each (group, problem, sample)."""
        width = max((len(each) for each in self._problems.problems.values()), default=0)
        keys: Ints = (groups.astype(np.int64) * width + places) * (_MOST_SAMPLES + 1) + samples
        return keys

    def _find_doubles(self) -> None:
        keys = self._keys(self._groups, self._places, self._samples)
        self._by_key = np.argsort(keys, kind="stable")
        self._sorted_keys = keys[self._by_key]
        doubled = np.flatnonzero(self._sorted_keys[1:] == self._sorted_keys[:-1])
        if len(doubled):
            seen = self.describe(int(self._by_key[doubled[0]]))
            raise InputError("a completion occurs twice", seen=seen, next_step="remove one of the two")

    def _check_numbers(self) -> None:
        """Every problem has completions, and all have as many: else figures are not comparable."""
        first: tuple[int, str] | None = None
        for number, group in enumerate(self.groups):
            problems = self._problems.problems[group.language]
            counts = self._counts(number)
            missing = [problem.name for problem, count in zip(problems, counts, strict=True) if count == 0]
            if missing:
                raise InputError(
                    "problems without a completion: a pass rate over the rest would not be comparable",
                    seen=f"{group.model}, {group.language}: {len(missing)} of {len(problems)}: "
                    + ", ".join(missing[:5])
                    + (", ..." if len(missing) > 5 else ""),
                    next_step="generate them, or give a folder of only the problems attempted",
                )
            for problem, count in zip(problems, counts, strict=True):
                where = f"{group.model}, {group.language}, {problem.name}: {count}"
                first = first or (int(count), where)
                if count != first[0]:
                    raise InputError(
                        "problems differ in their number of completions: those that stopped early would be favoured",
                        seen=f"{first[1]}; {where}",
                        next_step="generate as many of every problem, for all models alike",
                    )

    def _counts(self, group: int, chosen: NDArray[np.bool_] | None = None) -> Ints:
        mine = self._groups == group
        places = self._places[mine if chosen is None else mine & chosen]
        return np.bincount(places, minlength=len(self._problems.problems[self.groups[group].language]))

    def _find_identical(self, digests: bytearray) -> None:
        """Numbers the programs; the completions of one lie side by side in `_by_program`, in the order they came."""
        halves = np.frombuffer(digests, dtype=np.uint64).reshape(-1, 2)
        self._by_program = np.lexsort((halves[:, 1], halves[:, 0]))
        ordered = halves[self._by_program]
        fresh = np.ones(len(ordered), dtype=np.bool_)
        fresh[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        self._starts = np.append(np.flatnonzero(fresh), len(ordered))
        self._programs = np.empty(len(ordered), dtype=np.int64)
        self._programs[self._by_program] = np.cumsum(fresh) - 1

    @property
    def num_programs(self) -> int:
        """How many different programs the completions make."""
        return len(self._starts) - 1

    @property
    def same_seeds(self) -> bool:
        """Whether all models drew their samples from the same seeds, in each language."""
        by_language: dict[str, set[int]] = {}
        for group, checksum in zip(self.groups, self._seeds, strict=True):
            by_language.setdefault(group.language, set()).add(checksum)
        return all(len(checksums) == 1 for checksums in by_language.values())

    def describe(self, position: int) -> str:
        """The completion's model, language, problem and sample, for a reader."""
        group, problem = self.group(position), self.problem(position)
        return f"{group.model}, {group.language}, {problem.name}, sample {self.sample(position)}"

    def group(self, position: int) -> Group:
        """Whose completion it is."""
        return self.groups[int(self._groups[position])]

    def problem(self, position: int) -> Problem:
        """The problem that it is of."""
        return self._problems.problems[self.group(position).language][int(self._places[position])]

    def sample(self, position: int) -> int:
        """Its number among the completions of its problem."""
        return int(self._samples[position])

    def program(self, position: int) -> int:
        """The number of its program."""
        return int(self._programs[position])

    def sharers(self, program: int) -> list[int]:
        """The positions of all completions that make this program."""
        return [int(each) for each in self._by_program[self._starts[program] : self._starts[program + 1]]]

    def position(self, verdict: Verdict) -> int | None:
        """The completion that a verdict is on; None where it is on none of these."""
        group = self._group_of.get(Group(verdict.model, verdict.language))
        place = self._place.get((verdict.language, verdict.problem))
        if group is None or place is None or not 0 <= verdict.sample <= _MOST_SAMPLES:
            return None
        (key,) = self._keys(*(np.array([each], dtype=np.int32) for each in (group, place, verdict.sample)))
        found = int(np.searchsorted(self._sorted_keys, key))
        return int(self._by_key[found]) if found < len(self) and self._sorted_keys[found] == key else None

    def enter_verdict(self, position: int, status: Status, attempts: int) -> None:
        """Notes how a completion ended, once."""
        assert not self.is_judged(position), "a completion has one verdict"
        self.num_judged += 1
        self.num_passed += status is Status.PASSED
        self._codes[position] = _CODE_OF[status]
        self._retried[position] = attempts > 1

    def is_judged(self, position: int) -> bool:
        """Whether a completion has its verdict."""
        return bool(self._codes[position] != _NOT_JUDGED)

    def count(self, status: Status) -> int:
        """How many completions ended so."""
        return int((self._codes == _CODE_OF[status]).sum())

    def pending(self, order: Mapping[str, float]) -> Iterator[int]:
        """The first completion of each program that lacks a verdict, languages of greatest `order` first."""
        firsts = self._by_program[self._starts[:-1]]
        weights = np.array([-order[group.language] for group in self.groups])
        if len(firsts):
            firsts = firsts[np.lexsort((firsts, weights[self._groups[firsts]]))]
        for position in firsts:
            if any(not self.is_judged(each) for each in self.sharers(self.program(int(position)))):
                yield int(position)

    def num_flaky(self) -> tuple[int, int]:
        """How many programs ended in a time-out at first, and how many of these ended otherwise when alone."""
        firsts = self._by_program[self._starts[:-1]]
        retried = firsts[self._retried[firsts]]
        undecided = [_CODE_OF[Status.TIME_OUT], _CODE_OF[Status.HARNESS_ERROR], _NOT_JUDGED]
        return len(retried), int(np.isin(self._codes[retried], undecided, invert=True).sum())

    def statuses(self) -> dict[str, dict[str, dict[str, int]]]:
        """How many completions ended how: model -> language -> status -> completions."""
        found: dict[str, dict[str, dict[str, int]]] = {}
        for number, group in enumerate(self.groups):
            counts = np.bincount(self._codes[self._groups == number], minlength=len(_CODES))
            by_status = {_CODES[code].value: int(count) for code, count in enumerate(counts[: len(_CODES)]) if count}
            found.setdefault(group.model, {})[group.language] = dict(sorted(by_status.items()))
        return found

    def tallies(self) -> dict[str, dict[str, Tally]]:
        """Passes by problem: model -> language -> Tally."""
        found: dict[str, dict[str, Tally]] = {}
        passed, broken = (self._codes == _CODE_OF[each] for each in (Status.PASSED, Status.HARNESS_ERROR))
        for number, group in enumerate(self.groups):
            names = tuple(problem.name for problem in self._problems.problems[group.language])
            tally = Tally(names, self._counts(number), self._counts(number, passed), self._counts(number, broken))
            found.setdefault(group.model, {})[group.language] = tally
        return found

    def by_problem(self, group: int) -> Iterator[list[int]]:
        """The positions of each problem's completions of a group, in the order of their samples."""
        mine = self._by_key[self._groups[self._by_key] == group]
        for positions in np.split(mine, np.flatnonzero(np.diff(self._places[mine])) + 1):
            yield [int(each) for each in positions]


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=_DIGEST_BYTES).digest()


def _where(completion: Completion) -> str:
    return f"{completion.model}, {completion.language}, {completion.problem}, sample {completion.sample}"
