"""One file's way through curation: what each step decides and why, whether or not an earlier step has rejected it.

Goes in: the config, a file's key, and the stage's folder. Comes out: the decisions of the steps that look at the file
alone, made anew, and what the finished stage says of it (duplicates, sample, split). Writes nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from daft import col

from codechoir.artifacts import MANIFEST
from codechoir.data.config import CurateConfig, TableSource
from codechoir.data.engine import read
from codechoir.data.examine import Gathered, Steps, decisions, judge
from codechoir.data.files.columns import git_blob_id, measure
from codechoir.data.files.contamination import load_benchmarks
from codechoir.data.files.rejection import Decision, Rejection
from codechoir.data.files.secrets import redact
from codechoir.data.gather import MIB
from codechoir.data.sources.reading import read_unit, units, wanted_languages
from codechoir.data.sources.tables import read_table, told
from codechoir.errors import InputError
from codechoir.languages import Language, language

NUM_SUGGESTIONS = 3
_NO_CONTENT = ""  # what a file that could not be read is measured as


@dataclass(frozen=True, slots=True)
class Explanation:
    """What happened to one file. A key may name several contents; each has an explanation of its own."""

    key: str
    source: str
    decisions: tuple[Decision, ...]  # by the steps in order; the first rejection is the one that counts


def explain(config: CurateConfig, languages: Sequence[str], cache: Path, folder: Path, key: str) -> list[Explanation]:
    """The ways of the files called `key`. `folder` is the curate stage's. Raises InputError where there is none."""
    wanted = [language(name) for name in sorted(set(languages))]
    plain = key.partition("#")[0]  # a key that several contents share was made unique with a content's id
    steps = Steps(config, load_benchmarks(config.decontaminate, cache))
    seen: list[str] = []
    found = []
    for row in _rows(config, wanted, cache, plain):
        seen.append(row["key"])
        if row["key"] == plain:
            found.append(_explained(row, steps, folder))
    if not found:
        near = difflib.get_close_matches(plain, seen, NUM_SUGGESTIONS, 0.5)
        raise InputError(
            "no source gives a file of this key",
            seen=key,
            allowed=", ".join(near) or "a key as rejected/ and documents/ have it",
            next_step="take a key from the stage's folder; what include, exclude or languages leave out has none",
        )
    return found


def _rows(config: CurateConfig, languages: Sequence[Language], cache: Path, key: str) -> Iterator[dict[str, Any]]:
    """Gathered rows among which those of the key are: of the sources that it begins with, or else of all."""
    pieces = units(config, languages)
    named = [unit for unit in pieces if key.startswith(unit.prefix)]
    for unit in named or pieces:
        for row in read_unit(unit, cache, config.max_file_mib * MIB):
            yield {**row, "source": str(unit.source)}
    for source in () if named else config.sources:
        if isinstance(source, TableSource) and (taken := wanted_languages(source, languages)):
            with told(source):
                rows = (
                    read_table(source, taken, config.max_file_mib * MIB)
                    .where(col("key") == key)
                    .sort("key")
                    .to_pylist()
                )
            yield from ({**row, "source": str(source)} for row in rows)


def _explained(row: Mapping[str, Any], steps: Steps, folder: Path) -> Explanation:
    file = Gathered(**{field.name: row[field.name] for field in fields(Gathered)})
    measures = measure(file.content if file.content is not None else _NO_CONTENT)
    made = list(decisions(file, measures, steps))
    if file.content is not None:
        redaction = redact(file.content, language(file.language), steps.config.secrets)
        made.append(Decision("secrets", None, redaction.summary()))
    if not any(decision.rejection for decision in made):
        made += _of_the_stage(file, steps, folder)
    return Explanation(file.key, file.source, tuple(made))


def _of_the_stage(file: Gathered, steps: Steps, folder: Path) -> Iterator[Decision]:
    """What the finished stage says of a file that no step rejects by itself."""
    if not (folder / MANIFEST).exists():
        yield Decision("corpus", None, f"not known: the curate stage is not finished in {folder}")
        return
    content = judge(file, measure(file.content or _NO_CONTENT), steps).content
    hexsha = git_blob_id((content or _NO_CONTENT).encode())
    keys = [file.key, f"{file.key}#{hexsha}"]
    documents = read(*sorted((folder / "documents").glob("*")))
    kept = documents.where(col("key").is_in(keys) & (col("hexsha") == hexsha)).select("key", "split").to_pylist()
    for row in kept:
        yield Decision(
            "corpus", None, "no copy and no near-duplicate is preferred to it; in the sample, if one is drawn"
        )
        side = row["split"].replace("_", "-")
        yield Decision("split", None, f"{side}, with its package {file.package}; kept as {row['key']}")
    for row in () if kept else read(folder / "rejected").where(col("key").is_in(keys)).to_pylist():
        yield Decision("corpus", Rejection(row["reason"], row["detail"]), row["detail"])
        return
    if not kept:
        yield Decision("corpus", None, "the finished stage has no such file: the sources have changed since it ran")
