"""The whole run, one readable call a stage. The only place where the stages' order lives.

Each stage works in a folder of its own and returns its manifest; a stage whose manifest is there with the same digest
is not run again, and one that was interrupted takes up what it had done.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path

from codechoir.artifacts import locked, read_manifest, write_atomically
from codechoir.compose.stage import ComposeInputs, compose
from codechoir.compose.tuning.stage import TuneInputs, tune
from codechoir.config import digest_of
from codechoir.console import say
from codechoir.data.stage import curate
from codechoir.errors import ConfigError
from codechoir.evaluate.stage import evaluate
from codechoir.generate.models import Folders
from codechoir.generate.prompts import check_prompts
from codechoir.generate.stage import GenerateInputs, generate
from codechoir.model.sources import Base, prepare
from codechoir.problems import ProblemSet, load_problems
from codechoir.recipe import Recipe, check_base, resolved
from codechoir.report.stage import report
from codechoir.sandbox.isolation import open_sandbox
from codechoir.sandbox.programs import check_toolchain
from codechoir.sandbox.toolchains.table import TOOLCHAINS
from codechoir.train.stage import TRUNK, UNIVERSAL, TrainInputs, left_for_tuning, train


class Stage(StrEnum):
    """The stages, in order."""

    CURATE = "curate"
    TRAIN = "train"
    COMPOSE = "compose"
    GENERATE = "generate"
    EVALUATE = "evaluate"
    REPORT = "report"


def run(recipe: Recipe, out: Path, cache: Path, only: Collection[Stage] = tuple(Stage)) -> None:
    """Runs the stages of `only` into the folder `out`; the others must be finished there. Raises UserError.

    One run at a time works in a folder; the processes of a launcher are one run.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and set(only) != {Stage.TRAIN}:
        raise ConfigError(
            "a launcher started several processes, and only training is shared by them",
            seen=", ".join(only),
            allowed=str(Stage.TRAIN),
            next_step="launch `codechoir run RECIPE --only train`, and run the other stages without the launcher",
        )
    is_first = int(os.environ.get("RANK", "0")) == 0
    with locked(out, wait=False) if is_first else nullcontext():
        write_atomically(out / "recipe.yaml", resolved(recipe))
        _run_stages(recipe, out, cache, only)


def _run_stages(recipe: Recipe, out: Path, cache: Path, only: Collection[Stage]) -> None:
    languages = recipe.languages
    problems = _problems(recipe, cache) if {Stage.GENERATE, Stage.EVALUATE} & set(only) else None
    if problems and Stage.EVALUATE in only and recipe.generate.complete:
        _check_toolchains(recipe, problems)  # before hours of training, not after

    need_base = {Stage.TRAIN, Stage.GENERATE} | ({Stage.COMPOSE} if recipe.left_for_tuning.sequences else set())
    base = prepare(recipe.base, cache) if need_base & set(only) else None
    if base:
        check_base(recipe, base.folder)
        if problems and Stage.GENERATE in only and recipe.generation.complete:
            check_prompts(problems.problems, base.folder)

    if Stage.CURATE in only:
        _announce(Stage.CURATE)
        curate(recipe.curate, languages, cache, out / "curate")
    documents = out / "curate" / "documents"

    if base and Stage.TRAIN in only:
        _announce(Stage.TRAIN)
        train(recipe.train, languages, _train_inputs(recipe, base, out), out / "train")
    trunk, universal = out / "train" / TRUNK, out / "train" / UNIVERSAL
    experts = {language: out / "train" / language for language in languages}
    tuned = out / "tune" if recipe.tune else None

    if Stage.COMPOSE in only:
        _announce(Stage.COMPOSE)
        digests = {"train": _train_digest(out / "train", (TRUNK, *languages)), "documents": _digest(out / "curate")}
        compose(recipe.compose, ComposeInputs(trunk, experts, documents, digests), out / "compose")
        if recipe.tune and tuned:
            digests = {"compose": _digest(out / "compose"), "documents": _digest(out / "curate")}
            inputs = _train_inputs(recipe, base, out) if base else None
            left = left_for_tuning(recipe.train, languages, inputs, out / "train") if inputs else None
            tune(recipe.tune, TuneInputs(out / "compose", documents, digests, left), tuned)

    if base and problems and Stage.GENERATE in only:
        _announce(Stage.GENERATE)
        if recipe.generate.score and recipe.generate.held_out_tokens > recipe.train.sequence_length:
            say(
                f"generate: {recipe.generate.held_out_tokens} tokens of a file are scored, and training's sequences "
                f"have {recipe.train.sequence_length}: how a model reads on beyond these, only its base may have learnt"
            )
        folders = Folders(base.folder, trunk, universal, experts, out / "compose", tuned)
        digests = {
            "base": base.digest,
            "train": _train_digest(out / "train", (TRUNK, *languages, UNIVERSAL)),
            "compose": _digest(out / "compose"),
            "documents": _digest(out / "curate"),
            "problems": problems.digest,
        } | ({"tune": _digest(tuned)} if tuned else {})
        generate(recipe.generation, languages, GenerateInputs(folders, documents, problems, digests), out / "generate")

    if problems and Stage.EVALUATE in only:
        _announce(Stage.EVALUATE)
        digests = {"generate": _digest(out / "generate")}
        evaluate(recipe.evaluate, out / "generate", problems, digests, out / "evaluate")

    if Stage.REPORT in only:
        _announce(Stage.REPORT)
        report(recipe.report, out, recipe.model_dump(mode="json"), {}, out / "report")


def _problems(recipe: Recipe, cache: Path) -> ProblemSet:
    """The recipe's problems, but for languages whose programs are not run: nothing could judge the completions."""
    problems = load_problems(recipe.problems, recipe.languages, cache)
    runnable = ", ".join(TOOLCHAINS)
    return problems.without(
        {name: f"only programs in {runnable} are run" for name in problems.problems if name not in TOOLCHAINS}
    )


def _check_toolchains(recipe: Recipe, problems: ProblemSet) -> None:
    sandbox = open_sandbox(recipe.evaluate.sandbox)
    for language in problems.problems:
        check_toolchain(sandbox, TOOLCHAINS[language])


def _digest(folder: Path) -> str:
    """The digest of a stage that must be finished by now. Raises InputError where it is not."""
    return read_manifest(folder).digest


def _train_inputs(recipe: Recipe, base: Base, out: Path) -> TrainInputs:
    curated = out / "curate"
    return TrainInputs(base.folder, base.digest, curated / "documents", _digest(curated), recipe.left_for_tuning)


def _train_digest(folder: Path, branches: Sequence[str]) -> str:
    return digest_of({name: _digest(folder / name) for name in branches})


def _announce(stage: Stage) -> None:
    say(f"== {stage} ==")
