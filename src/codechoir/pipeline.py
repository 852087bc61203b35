"""The whole run, one readable call a stage. The only place where the stages' order lives.

Each stage works in a folder of its own and returns its manifest; a stage whose manifest is there with the same digest
is not run again, and one that was interrupted takes up what it had done.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from pathlib import Path

from codechoir.artifacts import Manifest, read_manifest, write_atomically
from codechoir.compose.stage import ComposeInputs, compose
from codechoir.config import digest_of
from codechoir.console import say
from codechoir.data.stage import curate
from codechoir.evaluate.stage import evaluate
from codechoir.generate.models import Folders
from codechoir.generate.stage import GenerateInputs, generate
from codechoir.model.sources import prepare
from codechoir.problems import ProblemSet, load_problems
from codechoir.recipe import Recipe, resolved
from codechoir.report.stage import report
from codechoir.sandbox.isolation import open_sandbox
from codechoir.sandbox.programs import check_toolchain
from codechoir.sandbox.toolchains import TOOLCHAINS
from codechoir.train.stage import TRUNK, UNIVERSAL, TrainInputs, train


class Stage(StrEnum):
    """The stages, in order."""

    CURATE = "curate"
    TRAIN = "train"
    COMPOSE = "compose"
    GENERATE = "generate"
    EVALUATE = "evaluate"
    REPORT = "report"


def run(recipe: Recipe, out: Path, cache: Path, only: Collection[Stage] = tuple(Stage)) -> None:
    """Runs the stages of `only` into the folder `out`; the others must be finished there. Raises UserError."""
    write_atomically(out / "recipe.yaml", resolved(recipe))
    languages = recipe.languages
    problems = (
        load_problems(recipe.problems, languages, cache) if {Stage.GENERATE, Stage.EVALUATE} & set(only) else None
    )
    if problems and Stage.EVALUATE in only:
        _check_toolchains(recipe, problems)  # before hours of training, not after

    if Stage.CURATE in only:
        _announce(Stage.CURATE)
        curate(recipe.curate, languages, cache, out / "curate")
    curated = read_manifest(out / "curate")
    documents = out / "curate" / "documents"

    base = prepare(recipe.base, cache) if {Stage.TRAIN, Stage.GENERATE} & set(only) else None
    if base and Stage.TRAIN in only:
        _announce(Stage.TRAIN)
        train(recipe.train, languages, TrainInputs(base.folder, base.digest, documents, curated.digest), out / "train")
    trained = {name: read_manifest(out / "train" / name) for name in (TRUNK, *languages, UNIVERSAL)}
    experts = {language: out / "train" / language for language in languages}

    if Stage.COMPOSE in only:
        _announce(Stage.COMPOSE)
        digests = {"train": _joint_digest(trained), "documents": curated.digest}
        compose(recipe.compose, ComposeInputs(out / "train" / TRUNK, experts, documents, digests), out / "compose")
    composed = read_manifest(out / "compose")

    if base and problems and Stage.GENERATE in only:
        _announce(Stage.GENERATE)
        folders = Folders(base.folder, out / "train" / TRUNK, out / "train" / UNIVERSAL, experts, out / "compose")
        digests = {
            "base": base.digest,
            "train": _joint_digest(trained),
            "compose": composed.digest,
            "documents": curated.digest,
            "problems": problems.digest,
        }
        generate(recipe.generate, languages, GenerateInputs(folders, documents, problems, digests), out / "generate")
    generated = read_manifest(out / "generate")

    if problems and Stage.EVALUATE in only:
        _announce(Stage.EVALUATE)
        evaluate(recipe.evaluate, out / "generate", problems, {"generate": generated.digest}, out / "evaluate")

    if Stage.REPORT in only:
        _announce(Stage.REPORT)
        report(recipe.report, out, recipe.model_dump(mode="json"), {}, out / "report")


def _check_toolchains(recipe: Recipe, problems: ProblemSet) -> None:
    sandbox = open_sandbox(recipe.evaluate.sandbox)
    for language in problems.problems:
        check_toolchain(sandbox, TOOLCHAINS[language])


def _joint_digest(manifests: Mapping[str, Manifest]) -> str:
    return digest_of({name: manifest.digest for name, manifest in manifests.items()})


def _announce(stage: Stage) -> None:
    say(f"== {stage} ==")
