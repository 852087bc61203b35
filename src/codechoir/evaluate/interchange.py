"""MultiPL-E's own files: a problem with its completions, and the same with their results, one JSON file a problem.

Reads either (`NAME.json`, `NAME.results.json`, each also with `.gz`) as completions; a result's completion is what its
program holds between prompt and tests. What others' results say of passing is not read: programs are run anew.
Writes both, so that MultiPL-E's scripts work on what was judged here. Knows nothing of scores or of running programs.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from codechoir.artifacts import disk_full_told
from codechoir.errors import ConfigError, InputError
from codechoir.languages import LANGUAGES, language
from codechoir.records import Completion, Problem, Status, Verdict

SUFFIXES = (".json.gz", ".json")
_RESULTS = ".results"
# As MultiPL-E's generation names its folders: BENCHMARK-LANGUAGE-MODEL-TEMPERATURE-VARIANT, no hyphen within a part.
_FOLDER = re.compile(r"[^-]+-[^-]+-(?P<model>[^-]+)-\d+(\.\d+)?-[^-]+")
_NOT_KEPT = -1  # the exit code that MultiPL-E gives a program that was stopped

STATUSES = {
    Status.PASSED: "OK",
    Status.DOES_NOT_COMPILE: "SyntaxError",
    Status.TYPE_ERROR: "SyntaxError",
    Status.TIME_OUT: "Timeout",
    Status.FAILED_ASSERTION: "Exception",
    Status.RUNTIME_ERROR: "Exception",
    Status.OUT_OF_MEMORY: "Exception",
    Status.OUTPUT_LIMIT: "Exception",
}  # a harness error has no word: MultiPL-E would count it as a failure


def _empty_for_none(value: object) -> object:
    return "" if value is None else value


class _Result(BaseModel):
    model_config = ConfigDict(extra="ignore")
    program: str


class _File(BaseModel):
    """What is read of either file; the rest is MultiPL-E's own business."""

    model_config = ConfigDict(extra="ignore")
    name: str
    language: str
    prompt: str
    tests: Annotated[str, BeforeValidator(_empty_for_none)]
    temperature: float = 0.2  # as MultiPL-E takes it where a file has none
    completions: tuple[str, ...] | None = None
    results: tuple[_Result, ...] | None = None


def problem_files(folder: Path) -> list[Path]:
    """The files to read below a folder; results only where the completions that they are of do not lie beside them."""
    found = {path for path in folder.rglob("*") if path.name.endswith(SUFFIXES) and path.is_file()}
    return sorted(path for path in found if not any(other in found for other in _completions_of(path)))


def _completions_of(path: Path) -> list[Path]:
    stem = _stem(path)
    if not stem.endswith(_RESULTS):
        return []
    return [path.with_name(stem.removesuffix(_RESULTS) + suffix) for suffix in SUFFIXES]


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".json")


def model_of(path: Path) -> str:
    """The model that a file's folder names: by MultiPL-E's pattern, else as MODEL/LANGUAGE/, else as MODEL/."""
    folder = path.resolve().parent
    if named := _FOLDER.fullmatch(folder.name):
        return named["model"]
    try:
        language(folder.name)
    except ConfigError:
        return folder.name
    return folder.parent.name


def language_of(path: Path) -> str:
    """The id of the language that a file's problem is in."""
    return _language(_load(path), path)


def read_completions(path: Path, problem: Problem | None = None) -> list[Completion]:
    """One file's completions. Seeds, tokens and why each ended are not in it, and are given as 0, 0 and "stop".

    Raises InputError where the file is damaged or is not of MultiPL-E's form, and where its prompt or tests are not
    those of `problem`, since then it was made for another version of the problem.
    """
    file = _load(path)
    name = _language(file, path)
    if problem is not None and (file.prompt, file.tests.strip()) != (problem.prompt, problem.tests.strip()):
        part = "prompt" if file.prompt != problem.prompt else "tests"
        raise InputError(
            "the file is stale: it was made for another version of its problem",
            seen=f"{path}: another text of {problem.name}'s {part}",
            next_step="evaluate with the problems that the completions were made for",
        )
    return [
        Completion(
            model=model_of(path),
            language=name,
            problem=file.name,
            sample=sample,
            seed=0,
            temperature=file.temperature,
            text=text,
            finish="stop",
            num_tokens=0,
        )
        for sample, text in enumerate(_texts(file, path))
    ]


def _texts(file: _File, path: Path) -> Sequence[str]:
    if file.completions is not None:
        return file.completions
    texts = []
    tail = "\n" + file.tests
    for number, result in enumerate(file.results or ()):
        program = result.program
        if not (program.startswith(file.prompt) and program[len(file.prompt) :].endswith(tail)):
            raise InputError(
                "a result's program is not its problem's prompt, a completion and the tests",
                seen=f"{path}: result {number}",
                next_step="remove the file, or give the file of completions that it was made from",
            )
        texts.append(program[len(file.prompt) : len(program) - len(tail)])
    return texts


def _language(file: _File, path: Path) -> str:
    try:
        return language(file.language).id
    except ConfigError as error:
        raise InputError(
            "the file's language is unknown", seen=f"{path}: {error.seen}", allowed=error.allowed
        ) from None


def _load(path: Path) -> _File:
    try:
        content = path.read_bytes()
        raw: Any = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
        file = _File.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise _not_theirs(path, f"{key}: {first['msg']}" if key else first["msg"]) from None
    except FileNotFoundError:
        raise InputError("no such file", seen=path) from None
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise InputError("the file is damaged", seen=f"{path}: {error}", next_step="make or copy it again") from None
    if file.completions is None and file.results is None:
        raise _not_theirs(path, "neither completions nor results")
    return file


def _not_theirs(path: Path, seen: str) -> InputError:
    return InputError(
        "not a file of MultiPL-E's completions or results",
        seen=f"{path}: {seen}",
        allowed="an object with name, language, prompt, tests, temperature, and completions or results",
    )


def write_problem(
    folder: Path, problem: Problem, completions: Sequence[Completion], verdicts: Sequence[Verdict], timestamp: int
) -> None:
    """Writes a problem's two files; `completions` and `verdicts` are in the order of their samples.

    The output stands in `stdout`, since both streams were taken down as one. Not written in one piece: only the
    manifest of the folder around vouches for them.
    """
    head = {
        "name": problem.name,
        "language": LANGUAGES[problem.language].multipl_e or problem.language,
        "temperature": completions[0].temperature,
        "top_p": None,
        "max_tokens": None,
        "prompt": problem.prompt,
        "tests": problem.tests,
        "stop_tokens": list(problem.stop_tokens),
    }
    results = [
        {
            "program": program_of(problem, completion.text),
            "timestamp": timestamp,
            "stdout": verdict.output,
            "stderr": "",
            "exit_code": _NOT_KEPT if verdict.exit_code is None else verdict.exit_code,
            "status": STATUSES[verdict.status],
        }
        for completion, verdict in zip(completions, verdicts, strict=True)
    ]
    name = quote(problem.name, safe="")  # as it is, but for what no file's name may hold
    folder.mkdir(parents=True, exist_ok=True)
    _dump(folder / f"{name}.json.gz", {**head, "completions": [each.text for each in completions]})
    _dump(folder / f"{name}.results.json.gz", {**head, "results": results})


def program_of(problem: Problem, text: str) -> str:
    """The program that a completion makes, as MultiPL-E puts it together."""
    return f"{problem.prompt}{text}\n{problem.tests}"


def _dump(path: Path, value: object) -> None:
    with disk_full_told(path):
        path.write_bytes(gzip.compress(json.dumps(value).encode(), compresslevel=6, mtime=0))
