"""The evaluate stage: judges what the models wrote, and scores that beside their infillings and log-likelihoods.

In go generate's folder (`MODEL/LANG.jsonl` of completions, `MODEL/LANG.infill.jsonl`, `MODEL/LANG.likelihood.jsonl`,
any may be absent), one such file of anybody's, or MultiPL-E's files, and the problems; out come `MODEL/LANG.jsonl` of
verdicts, `scores.json` (`scores`, `comparisons`, `skipped`) and MultiPL-E's files. Knows nothing of models or of how
the completions were made.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from codechoir.artifacts import Manifest, StageFolder, write_json
from codechoir.errors import InputError
from codechoir.evaluate.config import EvaluateConfig
from codechoir.evaluate.export import write_multipl_e
from codechoir.evaluate.given import Completions, Given, find
from codechoir.evaluate.ledger import SCORES, problems_by_name
from codechoir.evaluate.scores import score
from codechoir.evaluate.verdicts import judge
from codechoir.problems import ProblemSet
from codechoir.records import Infilling, LogLikelihood, read_records

STAGE = "evaluate"
VERSION = 3


def evaluate(
    config: EvaluateConfig, generated: Path, problems: ProblemSet, inputs: Mapping[str, str], out: Path
) -> Manifest:
    """Judges and scores everything in generate's folder; `inputs` are the digests of what it was made from.

    Resumes what an interrupted run has left, and does nothing where the same has been done. Raises InputError where
    the folder is empty or does not fit the problems, ToolMissingError where programs cannot be run on this machine.
    """
    folder = _folder(config, {**inputs, "problems": problems.digest}, out)
    if done := folder.finished():
        return done
    if not generated.is_dir():
        raise InputError("no such folder of completions", seen=generated, next_step="run the generate stage first")
    return _evaluate(folder, config, problems, find(generated))


def evaluate_given(config: EvaluateConfig, given: Given, problems: ProblemSet, out: Path) -> Manifest:
    """The same for anybody's files, of any models and languages."""
    folder = _folder(config, {"completions": given.digest, "problems": problems.digest}, out)
    return folder.finished() or _evaluate(folder, config, problems, given)


def _folder(config: EvaluateConfig, inputs: Mapping[str, str], out: Path) -> StageFolder:
    return StageFolder(out, STAGE, VERSION, config.settings(), inputs)


def _evaluate(folder: StageFolder, config: EvaluateConfig, problems: ProblemSet, given: Given) -> Manifest:
    folder.begin()
    completions = Completions(given, problems_by_name(problems))
    judged = judge(completions, problems, config, folder.path)
    ledger = judged.ledger
    if not len(ledger) and not given.likelihoods and not given.infillings:
        raise InputError("there is nothing to evaluate: the file holds no completions", seen=given.root)
    scored = score(
        (record for file in given.likelihoods for record in read_records(LogLikelihood, file)),
        (record for file in given.infillings for record in read_records(Infilling, file)),
        ledger.tallies(),
        config,
    )
    if config.multipl_e:
        write_multipl_e(folder.path, ledger, completions)
    write_json(
        folder.path / SCORES,
        {
            "scores": [each.model_dump() for each in scored.scores],
            "comparisons": [each.model_dump() for each in scored.comparisons],
            "skipped": problems.skipped,
        },
    )
    return folder.finish(
        {
            "toolchains": judged.toolchains,
            "sandbox": judged.sandbox,
            "statuses": ledger.statuses(),
            "time_outs": {
                "programs": judged.flakes.programs,
                "first": judged.flakes.time_outs,
                "recovered": judged.flakes.recovered,
                "flake_rate": judged.flakes.rate,
            },
            "same_seeds": ledger.same_seeds,
            "skipped": problems.skipped,
            "untranslatable": problems.untranslatable,
            "problems": {language: len(each) for language, each in problems.problems.items()},
        }
    )
