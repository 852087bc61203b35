"""Trials of a run's stages in a process of its own, so that its peak memory is theirs, and a kill is told.

`python -m codechoir.planning.trial SCRATCH CACHE` reads `recipe.yaml` in the scratch folder and leaves there, for each
trial, `NAME.json`: what was measured, or the user's error that ended it. Trials go in the order of a run's stages, in
one process, as the stages do: what the peak is after one of them is a run's peak by then.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from codechoir.artifacts import write_atomically
from codechoir.errors import UserError
from codechoir.planning.curate_trial import CurateTrial, sample_texts, try_curate
from codechoir.planning.model_trial import ModelTrial, try_models
from codechoir.problems import load_problems
from codechoir.recipe import Recipe, load_recipe, resolved
from codechoir.records import Record
from codechoir.sandbox.toolchains.table import TOOLCHAINS

_RECIPE = "recipe.yaml"


class Result(Record):
    """What is left of one trial: exactly one of the fields is not None."""

    curate: CurateTrial | None = None
    models: ModelTrial | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Trials:
    """What the trials measured, or why they did not."""

    curate: CurateTrial | str
    models: ModelTrial | str


def run_trials(recipe: Recipe, cache: Path, scratch: Path) -> Trials:
    """Runs the trials in a new process, which writes below `scratch`. Raises RuntimeError for a bug of ours."""
    write_atomically(scratch / _RECIPE, resolved(recipe))
    command = [sys.executable, "-m", __name__, str(scratch), str(cache)]
    code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
    if code > 0:
        raise RuntimeError(f"the trial of the stages ended with code {code}; what it said stands above")
    killed = f"the trial was ended by signal {-code}; memory may have run out"
    curated, modelled = (_result(scratch, name, killed) for name in ("curate", "models"))
    return Trials(curated.curate or str(curated.error), modelled.models or str(modelled.error))


def _result(scratch: Path, name: str, otherwise: str) -> Result:
    path = scratch / f"{name}.json"
    return Result.model_validate_json(path.read_text(encoding="utf-8")) if path.exists() else Result(error=otherwise)


def _leave(scratch: Path, name: str, run: Callable[[], Result]) -> None:
    try:
        result = run()
    except UserError as error:
        result = Result(error="; ".join(" ".join(line.split()) for line in error.message().splitlines()))
    write_atomically(scratch / f"{name}.json", result.model_dump_json())


def main(scratch: Path, cache: Path) -> None:
    """Runs the trials one after the other in this process."""
    import codechoir.compose.stage
    import codechoir.generate.stage
    import codechoir.train.stage  # noqa: F401  (a run has all of these in memory from its beginning)

    recipe = load_recipe(scratch / _RECIPE)

    def models() -> Result:
        sampled = (scratch / "curate.json").read_text(encoding="utf-8")
        texts = sample_texts(scratch) if Result.model_validate_json(sampled).curate else {}
        found = load_problems(recipe.problems, recipe.languages, cache).problems if recipe.generate.complete else {}
        prompts = {name: [one.prompt for one in some] for name, some in found.items() if name in TOOLCHAINS}
        return Result(models=try_models(recipe, cache, scratch, texts, prompts))

    _leave(scratch, "curate", lambda: Result(curate=try_curate(recipe, cache, scratch)))
    _leave(scratch, "models", models)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
