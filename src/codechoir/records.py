"""The records that pass between stages: frozen, validated, one JSON object a line on disk.

Undefined figures are NaN, written as `NaN` (JSON as Python, numpy and pandas read it) and read from `null`, too.
Documents are columnar and live in `documents.py`. Nothing here knows where a record came from or where it goes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from codechoir.artifacts import disk_full_told, write_atomically
from codechoir.errors import InputError


class Record(BaseModel):
    """Base of every record. Unknown keys are refused, so that a foreign file is noticed."""

    # Without "constants" pydantic writes NaN as null and cannot read it back.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


def _nan_for_none(value: object) -> object:
    return float("nan") if value is None else value


Figure = Annotated[float, BeforeValidator(_nan_for_none)]  # NaN where undefined
SIGNIFICANCE = 0.05


class Problem(Record):
    """One programming problem in MultiPL-E's form: a program is prompt + completion + "\\n" + tests."""

    name: str
    language: str  # Language.id
    prompt: str
    tests: str
    stop_tokens: tuple[str, ...]


class Completion(Record):
    """What a model wrote after a problem's prompt, the stop token not included."""

    model: str
    language: str
    problem: str
    sample: int  # 0 .. n-1
    seed: int
    temperature: float  # 0 is greedy
    text: str
    finish: Literal["stop", "end", "length"]  # a stop token, the end-of-text token, the token limit
    num_tokens: int
    route: dict[str, float] = {}  # expert -> share of the routing decisions; empty for a dense model


class LogLikelihood(Record):
    """A model's total log-likelihood of one held-out document (its first `num_bytes` bytes)."""

    model: str
    language: str
    key: str
    package: str
    num_bytes: int
    num_tokens: int
    log_likelihood: float  # nats, summed over the tokens
    route: dict[str, float] = {}


class Infilling(Record):
    """What a model wrote into a gap of one line, beside the line that had been cut out of it."""

    model: str
    language: str
    key: str  # of the gap, one of its own in each language
    package: str  # what the line was cut out of (a package, a problem): gaps in one are alike
    mode: Literal["psm", "spm"]  # the order of prefix, suffix and middle in the prompt
    expected: str
    text: str
    num_tokens: int
    route: dict[str, float] = {}

    @property
    def exact(self) -> bool:
        """Whether it is the line itself; white space at either end does not count, as in SantaCoder's benchmark."""
        return self.text.strip() == self.expected.strip()


class Status(StrEnum):
    """How a program ended; told apart because each asks for another remedy."""

    PASSED = "passed"
    FAILED_ASSERTION = "failed-assertion"
    RUNTIME_ERROR = "runtime-error"
    DOES_NOT_COMPILE = "does-not-compile"
    TYPE_ERROR = "type-error"  # a compiler that refused the types, not the syntax
    TIME_OUT = "time-out"
    OUT_OF_MEMORY = "out-of-memory"
    OUTPUT_LIMIT = "output-limit"
    HARNESS_ERROR = "harness-error"


class Verdict(Record):
    """The outcome of one completion run against its problem's tests."""

    model: str
    language: str
    problem: str
    sample: int
    temperature: float
    status: Status
    exit_code: int | None
    signal: int | None
    cpu_seconds: float
    wall_seconds: float
    memory_mib: float  # the peak
    output: str  # stdout and stderr, first and last 4 KiB
    attempts: int  # 2 where the first ended in a time-out: this is how the second, alone on the machine, ended
    toolchain: str  # name and version
    sandbox: str  # "bubblewrap 0.8.0", or "none"
    problems: str  # digest of the problems that it was judged by


class Score(Record):
    """One figure with its 95% interval. Undefined is NaN."""

    model: str
    language: str
    metric: str  # "bits_per_byte", "infill_exact_match", "pass@1", ...
    value: Figure
    low: Figure
    high: Figure
    count: int  # documents, gaps or problems
    clusters: int  # packages or problems: what is drawn as a whole for the interval


class Comparison(Record):
    """A paired difference `model - against` of one metric: its 95% interval and how likely chance makes as much."""

    model: str
    against: str
    language: str
    metric: str
    difference: Figure
    low: Figure
    high: Figure
    p_value: Figure  # two-sided, of the paired permutation test
    p_adjusted: Figure  # by Holm over the languages of model, opponent and metric; a mean stands by itself
    detectable: Figure  # the least true difference that four of five such evaluations find after Holm, about
    count: int
    clusters: int

    @property
    def within_noise(self) -> bool:
        """Whether chance may have made the difference, at 5% and after Holm's correction; so where undefined."""
        return not self.p_adjusted <= SIGNIFICANCE


RecordT = TypeVar("RecordT", bound=Record)
_BLOCK = 2**16


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Writes JSON lines, whole or not at all."""
    write_atomically(path, "".join(record.model_dump_json() + "\n" for record in records))


def append_record(path: Path, record: Record) -> None:
    """Appends one line. A kill can leave a last line without its end: `complete_records` drops it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with disk_full_told(path), path.open("a", encoding="utf-8") as lines:
        lines.write(record.model_dump_json() + "\n")


def read_records(kind: type[RecordT], path: Path) -> Iterator[RecordT]:
    """Reads JSON lines. Raises InputError naming the line that is not a `kind`."""
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                yield parse_record(kind, line.rstrip(b"\n"), f"{path}:{number}")
    except FileNotFoundError:
        raise InputError("no such file", seen=path) from None
    except OSError as error:
        raise InputError("the file cannot be read", seen=f"{path}: {error.strerror}") from None


def complete_records(kind: type[RecordT], path: Path) -> list[RecordT]:
    """The records a killed run left whole; the file is cut after the last of them."""
    if not path.exists():
        return []
    drop_torn_line(path)
    return list(read_records(kind, path))


def drop_torn_line(path: Path) -> None:
    """Cuts a file after its last whole line, in memory that does not depend on its size."""
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - _BLOCK)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        file.truncate(end)


def parse_record(kind: type[RecordT], line: bytes, where: str) -> RecordT:
    """One line as a record. Raises InputError that says `where` it stands."""
    try:
        return kind.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"not a {kind.__name__} record",
            seen=f"{where}: {key}: {first['msg']}" if key else f"{where}: {first['msg']}",
            allowed="one JSON object a line with keys " + ", ".join(kind.model_fields),
        ) from None


def read_json(path: Path) -> Any:
    """Reads one JSON file. Raises InputError where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no such file", seen=path) from None
    except OSError as error:
        raise InputError("the file cannot be read", seen=f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError("the file is not JSON", seen=f"{path}: {error}") from None
