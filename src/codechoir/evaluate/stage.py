"""The evaluate stage: judges what the models wrote, and scores that beside their log-likelihoods.

In go generate's folder (`MODEL/LANG.jsonl` of completions, `MODEL/LANG.likelihood.jsonl`, either may be absent) or
one file of anybody's completions, and the problems; out come `MODEL/LANG.jsonl` of verdicts and `scores.json`
(`scores`, `comparisons`, `skipped`). Knows nothing of models or of how the completions were made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from codechoir.artifacts import Manifest, StageFolder, file_sha256, write_json
from codechoir.errors import InputError
from codechoir.evaluate.config import EvaluateConfig
from codechoir.evaluate.scores import score
from codechoir.evaluate.verdicts import judge
from codechoir.problems import ProblemSet
from codechoir.records import Completion, LogLikelihood, Verdict, read_records

STAGE = "evaluate"
VERSION = 1
SCORES = "scores.json"
_LIKELIHOOD = ".likelihood.jsonl"


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
    files = sorted(generated.glob("*/*.jsonl"))
    likelihoods = [file for file in files if file.name.endswith(_LIKELIHOOD)]
    completions = [file for file in files if file not in likelihoods]
    if not files:
        raise InputError("the folder holds no completions", seen=generated, allowed="MODEL/LANGUAGE.jsonl")
    return _evaluate(
        folder,
        config,
        problems,
        [record for file in completions for record in read_records(Completion, file)],
        (record for file in likelihoods for record in read_records(LogLikelihood, file)),
    )


def evaluate_completions(config: EvaluateConfig, completions: Path, problems: ProblemSet, out: Path) -> Manifest:
    """Judges and scores one file of completions, one a line, of any models and languages."""
    records = list(read_records(Completion, completions))
    if not records:
        raise InputError("the file holds no completions", seen=completions)
    inputs = {"completions": file_sha256(completions), "problems": problems.digest}
    folder = _folder(config, inputs, out)
    return folder.finished() or _evaluate(folder, config, problems, records, ())


def _folder(config: EvaluateConfig, inputs: Mapping[str, str], out: Path) -> StageFolder:
    return StageFolder(out, STAGE, VERSION, config.settings(), inputs)


def _evaluate(
    folder: StageFolder,
    config: EvaluateConfig,
    problems: ProblemSet,
    completions: Sequence[Completion],
    likelihoods: Iterable[LogLikelihood],
) -> Manifest:
    folder.begin()
    judged = judge(completions, problems, config, folder.path)
    scored = score(likelihoods, judged.verdicts, config)
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
            "statuses": _statuses(judged.verdicts),
            "skipped": problems.skipped,
            "problems": {language: len(each) for language, each in problems.problems.items()},
        }
    )


def _statuses(verdicts: Sequence[Verdict]) -> dict[str, dict[str, dict[str, int]]]:
    """How many completions ended how, by model and language."""
    counts: dict[str, dict[str, Counter[str]]] = {}
    for verdict in verdicts:
        by_language = counts.setdefault(verdict.model, {})
        by_language.setdefault(verdict.language, Counter())[verdict.status.value] += 1
    return {
        model: {language: dict(sorted(count.items())) for language, count in by_language.items()}
        for model, by_language in counts.items()
    }
