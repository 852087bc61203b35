"""The plan of a run: languages by what is at hand, what each stage will need here, and which languages to train.

Goes in: a recipe, the run's folder and the cache. Comes out: a `Plan`, which the command line shows. Writes nothing but
what fetching leaves in the cache; trials work in a temporary folder.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codechoir.console import say
from codechoir.errors import UserError
from codechoir.languages import LANGUAGES, language
from codechoir.planning.corpus import Amount, Corpus, count_corpus
from codechoir.planning.memory import free_memory, total_memory
from codechoir.planning.needs import Measured, Need, finished_stage, needs
from codechoir.planning.proposal import AtHand, Choice, ToolchainState, propose, shortcomings
from codechoir.planning.trial import run_trials
from codechoir.problems import ProblemSet, load_problems
from codechoir.recipe import Recipe
from codechoir.sandbox.diagnosis import Finding, diagnose
from codechoir.sandbox.isolation import open_sandbox
from codechoir.sandbox.programs import Limits, Runner, check_toolchain
from codechoir.sandbox.toolchains.finding import missing_parts
from codechoir.sandbox.toolchains.table import TOOLCHAINS

_GIB = 2**30
_BUSY = 0.5  # running threads a core, before we begin


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is, in bytes."""

    cores: int
    memory: int
    free_memory: int
    free_disk: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What `codechoir plan` tells."""

    languages: tuple[AtHand, ...]  # all of the language table
    num_tokens: int  # that the recipe trains on, a language
    needs: tuple[Need, ...]
    machine: Machine
    choices: tuple[Choice, ...]  # best first; the languages that have data
    warnings: tuple[str, ...]


def make_plan(recipe: Recipe, out: Path, cache: Path) -> Plan:
    """Counts, tries and computes. Raises UserError where a source of the corpus cannot be read."""
    load = os.getloadavg()[0]
    corpus = count_corpus(recipe.curate, [language(name) for name in recipe.languages], cache)
    say("trying the sandbox and the toolchains")
    tried = [name for name in TOOLCHAINS if name in recipe.languages or name in corpus.there]
    findings = {finding.part: finding for finding in diagnose(tried)}
    problems = _problems(recipe, cache)
    languages = _at_hand(recipe, corpus, findings, problems, _kept(recipe, out))
    runnable = {
        one.language: one.num_problems
        for one in languages
        if one.in_recipe and one.num_problems and one.language in TOOLCHAINS
    }
    program_seconds, no_programs = _program_seconds(recipe, list(runnable), cache)
    with tempfile.TemporaryDirectory(prefix="codechoir-plan-") as scratch:
        say("trying the stages on a sample")
        trials = run_trials(recipe, cache, Path(scratch))
    taken = sum(amount.num_bytes for amount in corpus.taken.values())
    computed = needs(recipe, Measured(taken, trials, runnable, program_seconds, no_programs), out)
    machine = Machine(_cores(), total_memory(), free_memory(), shutil.disk_usage(_existing(out)).free)
    num_tokens = recipe.packed_sequences * recipe.train.sequence_length
    choices = propose(languages, num_tokens)
    warnings = [
        *shortcomings(languages, num_tokens),
        *(f"{name} is not to be had any more and is left out" for name in corpus.gone),
        *_misfits(computed, machine, load),
    ]
    return Plan(languages, num_tokens, computed, machine, choices, tuple(warnings))


def _problems(recipe: Recipe, cache: Path) -> ProblemSet:
    """The problems in every language there are some in; where they cannot be had, that is each language's reason."""
    try:
        return load_problems(recipe.problems, list(LANGUAGES), cache)
    except UserError as error:
        return ProblemSet({}, dict.fromkeys(LANGUAGES, error.brief()), "")


def _kept(recipe: Recipe, out: Path) -> Mapping[str, Amount]:
    """What curation has left, by language, where it is finished with the recipe's settings."""
    manifest = finished_stage(out / "curate", recipe.curate, recipe.languages)
    facts: Mapping[str, Any] = manifest.facts.get("languages", {}) if manifest else {}
    return {
        name: Amount(
            found["documents"],
            found["bytes"],
            len({*found["train"]["packages"], *found["held_out"]["packages"]}),
        )
        for name, found in facts.items()
    }


def _at_hand(
    recipe: Recipe,
    corpus: Corpus,
    findings: Mapping[str, Finding],
    problems: ProblemSet,
    kept: Mapping[str, Amount],
) -> tuple[AtHand, ...]:
    found = []
    for name in LANGUAGES:
        finding = findings.get(name)
        state, detail = (finding.state, finding.detail) if finding else _untried(name)
        found.append(
            AtHand(
                language=name,
                in_recipe=name in recipe.languages,
                there=corpus.there.get(name, Amount()),
                taken=corpus.taken.get(name, Amount()),
                kept=kept.get(name),
                toolchain=state,
                toolchain_detail=detail,
                num_problems=len(problems.problems.get(name, ())),
                problems_reason=problems.skipped.get(name, ""),
            )
        )
    return tuple(found)


def _untried(language: str) -> tuple[ToolchainState, str]:
    """The state of a toolchain that no file of the corpus asks for: trying them all would take half a minute."""
    if language not in TOOLCHAINS:
        return "none known", ""
    missing = missing_parts(TOOLCHAINS[language])
    return ("missing", f"missing: {', '.join(missing)}") if missing else ("installed", "")


def _program_seconds(recipe: Recipe, languages: Sequence[str], cache: Path) -> tuple[dict[str, float], str]:
    """What a small program takes to be compiled and run, by language; or why no program can be run."""
    found = {}
    try:
        sandbox = open_sandbox(recipe.evaluate.sandbox) if languages else None
        for name in languages:
            assert sandbox is not None
            toolchain = TOOLCHAINS[name]
            check_toolchain(sandbox, toolchain)
            with Runner(sandbox, cache) as runner:
                runner.run(name, toolchain.good[0], Limits())  # starts what stays up between programs
                began = time.monotonic()
                runner.run(name, toolchain.good[0], Limits())
                found[name] = time.monotonic() - began
    except UserError as error:
        return found, error.brief()
    return found, ""


def _misfits(computed: Sequence[Need], machine: Machine, load: float) -> list[str]:
    """Where the machine falls short of the needs, or the figures of the truth."""
    lines = [
        f"{need.stage} needs {need.memory / _GIB:.1f} GiB of memory, and {machine.free_memory / _GIB:.1f} are free"
        for need in computed
        if need.memory is not None and need.memory > machine.free_memory
    ]
    disk = sum(need.disk or 0 for need in computed)
    if disk > machine.free_disk:
        lines.append(f"the run needs {disk / _GIB:.1f} GiB of disk, and {machine.free_disk / _GIB:.1f} are free")
    if load > _BUSY * machine.cores:
        lines.append(
            f"the machine was busy (load {load:.1f} on {machine.cores} cores): on an idle one, stages are faster"
        )
    return lines


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _existing(folder: Path) -> Path:
    """The folder, or the innermost above it that exists."""
    folder = folder.absolute()
    return next(one for one in (folder, *folder.parents) if one.exists())
