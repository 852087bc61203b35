"""What a run's folder says: each finished stage's manifest, the scores and the routes, as typed values.

Reads files only; computes nothing but the mean routes. A stage without a manifest is None. Keys that a later version
of a stage adds are ignored, and a fact that a stage left out is None or empty, so that an incomplete run can still be
reported. Raises InputError where a file is damaged or a fact has another type.
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from codechoir.artifacts import MANIFEST, Manifest, read_manifest
from codechoir.errors import InputError
from codechoir.languages import GENERALIST
from codechoir.records import Comparison, LogLikelihood, Score, read_json, read_records

TUNED = "moe-tuned"  # the model that a run has only where its recipe tunes one
MEAN = "mean"  # the language of a figure that is the mean over languages
MIXED = ("trunk", "universal")  # branches that read all languages
LIKELIHOODS = ".likelihood.jsonl"  # a model's folder in generate holds one such file a language


class Facts(BaseModel):
    """Base of the facts: lenient, since the stages may say more than the report shows."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class SplitFacts(Facts):
    """One side of the split."""

    documents: int = 0
    bytes: int = 0
    packages: tuple[str, ...] = ()


class LanguageFacts(Facts):
    """What curation kept of one language."""

    documents: int = 0
    bytes: int = 0
    train: SplitFacts = SplitFacts()
    held_out: SplitFacts = SplitFacts()


class SourceFacts(Facts):
    """One source of documents."""

    name: str
    licence: str | None = None
    documents: int | None = None


class NearDuplicateFacts(Facts):
    """The search for near-duplicates: pairs compared and verified, files removed, buckets too full for every pair."""

    compared: int | None = None
    verified: int | None = None
    removed: int | None = None
    crowded_buckets: int | None = None


class RecallFacts(Facts):
    """The sampled pairs with an exact Jaccard similarity in an interval, and those of them that the LSH proposed."""

    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)
    pairs: int = Field(0, ge=0)
    proposed: int = Field(0, ge=0)


class PlanFacts(Facts):
    """How one language's sample size came about; an undefined step is NaN or null."""

    language: str
    num_files: int | None = None
    num_repositories: int | None = None
    z: float | None = None
    n0: float | None = None
    cluster_size: float | None = None
    rho: float | None = None
    design_effect: float | None = None
    inflated: float | None = None
    finite: float | None = None
    required: int | None = None
    deviation: float | None = None
    allocated: int | None = None
    chosen: int | None = None
    reached: float | None = None


class CurateFacts(Facts):
    """Curation's counts; `rejected` is language -> reason -> files."""

    languages: dict[str, LanguageFacts] = {}
    rejected: dict[str, dict[str, int]] = {}
    sources: tuple[SourceFacts, ...] = ()
    replaced: int | None = None
    doubtful: dict[str, int] = {}
    differing_columns: dict[str, int] = {}  # names apart by blanks -> files
    gone: tuple[str, ...] = ()
    near_duplicates: NearDuplicateFacts | None = None
    recall: tuple[RecallFacts, ...] = ()
    sampling: tuple[PlanFacts, ...] = ()


class TryFacts(Facts):
    """One learning rate of a search: the mean bits per byte at the end of its short training."""

    learning_rate: float
    tokens: int | None = None
    bits_per_byte: float | None = None


class TrainFacts(Facts):
    """One branch of the training; `losses` are (tokens seen by this branch, nats a token), `bits_per_byte` by language.

    The universal model is data-matched where it read what all experts read together and, where experts are tuned,
    what tuning reads (`tuned_tokens`); compute-matched where its training cost as much as the experts' together.
    """

    tokens: int | None = None
    total_tokens: int | None = None  # its trunk's tokens included
    steps: int | None = None
    skipped_steps: tuple[int, ...] = ()
    first_loss: float | None = None
    last_loss: float | None = None
    tokens_per_second: float | None = None
    trainable: str | None = None
    trainable_parameters: int | None = None
    learning_rate: float | None = None
    precision: str | None = None
    device: str | None = None
    losses: tuple[tuple[float, float | None], ...] = ()
    bits_per_byte: tuple[tuple[float, dict[str, float | None]], ...] = ()
    search: tuple[TryFacts, ...] = ()
    data_matched: bool | None = None
    compute_matched: bool | None = None
    tuned_tokens: int = 0


class ProofFacts(Facts):
    """Largest absolute difference of two models' logits."""

    max_abs_difference: float | None = None
    max_abs_logit: float | None = None
    relative: float | None = None
    backend: str | None = None


class ProofsFacts(Facts):
    """The proofs made when the model was composed; `fixed_route` is by language."""

    identical_experts: ProofFacts | None = None
    fixed_route: dict[str, ProofFacts] = {}


class PromptRouterFacts(Facts):
    """Prompt routing on held-out prefixes; lengths are tokens, written as strings."""

    accuracy: dict[str, float | None] = {}
    accuracy_by_language: dict[str, dict[str, float | None]] = {}
    confusion: dict[str, dict[str, dict[str, float]]] = {}


class TokenRouterFacts(Facts):
    """Token routing on held-out tokens, by layer."""

    accuracy_by_layer: tuple[float | None, ...] = ()
    temperature_by_layer: tuple[float | None, ...] = ()


class ComposeFacts(Facts):
    """The composed model."""

    experts: tuple[str, ...] = ()
    total_parameters: int | None = None
    active_parameters: dict[str, int | None] = {}
    proofs: ProofsFacts = ProofsFacts()
    prompt_router: PromptRouterFacts | None = None
    token_router: TokenRouterFacts | None = None


class TuneFacts(Facts):
    """Gradient tuning; `losses` are side ("before", "after") -> routing -> language -> nats a token."""

    what: str | None = None
    top_k: int | None = None
    tokens: int | None = None  # that the kept weights have learned from
    tokens_read: int | None = None
    best_step: int | None = None
    steps: int | None = None
    losses: dict[str, dict[str, dict[str, float | None]]] = {}
    recovered: dict[str, dict[str, float | None]] = {}
    dead_experts: dict[str, dict[str, tuple[str, ...]]] = {}


class ModelFacts(Facts):
    """What one model cost to run."""

    scored_tokens_per_second: float | None = None
    generated_tokens_per_second: float | None = None
    active_parameters: int | None = None


class GenerateFacts(Facts):
    """Every model that was run; `skipped` is name -> reason, `not_infilled` is model -> reason.

    Of each held-out file at most `held_out_tokens` of `held_out_part` are scored.
    """

    models: dict[str, ModelFacts] = {}
    held_out_part: str | None = None
    held_out_tokens: int | None = None
    skipped: dict[str, Any] = {}
    not_infilled: dict[str, str] = {}


class TimeOutFacts(Facts):
    """Programs run, those whose first run ended in a time-out, and those of them that ended otherwise when alone."""

    programs: int | None = None
    first: int | None = None
    recovered: int | None = None
    flake_rate: float | None = None


class EvaluateFacts(Facts):
    """`statuses` is model -> language -> status -> completions."""

    toolchains: dict[str, str | None] = {}
    sandbox: str | None = None
    statuses: dict[str, dict[str, dict[str, int]]] = {}
    time_outs: TimeOutFacts | None = None
    same_seeds: bool | None = None
    skipped: dict[str, Any] = {}
    untranslatable: dict[str, dict[str, str]] = {}  # language -> problem that cannot be expressed in it -> why
    problems: dict[str, int] = {}


FactsT = TypeVar("FactsT", bound=Facts)
Confusion = Mapping[str, Mapping[str, float]]  # language -> expert -> share


@dataclass(frozen=True, slots=True)
class Finished(Generic[FactsT]):
    """A finished stage."""

    manifest: Manifest
    facts: FactsT


@dataclass(frozen=True, slots=True)
class Scores:
    """Evaluation's figures, to be looked up by what they are of."""

    scores: tuple[Score, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)

    def score(self, model: str, language: str, metric: str) -> Score | None:
        """The one score of this model, language and metric."""
        key = (model, language, metric)
        return next((each for each in self.scores if (each.model, each.language, each.metric) == key), None)

    def comparison(self, model: str, against: str, language: str, metric: str) -> Comparison | None:
        """The paired difference `model - against`."""
        key = (model, against, language, metric)
        return next(
            (each for each in self.comparisons if (each.model, each.against, each.language, each.metric) == key), None
        )

    def models(self) -> list[str]:
        """The models that have a score, as they come."""
        return list(dict.fromkeys(each.model for each in self.scores))


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that the report is made of."""

    name: str
    languages: tuple[str, ...]
    curate: Finished[CurateFacts] | None
    branches: Mapping[str, Finished[TrainFacts]]  # trunk, universal, then one a language
    compose: Finished[ComposeFacts] | None
    tune: Finished[TuneFacts] | None
    generate: Finished[GenerateFacts] | None
    evaluate: Finished[EvaluateFacts] | None
    scores: Scores
    routes: Mapping[str, Confusion]  # model -> language -> expert -> mean share over the documents
    finished: datetime.datetime | None  # when the last of the stages ended

    @property
    def experts(self) -> dict[str, Finished[TrainFacts]]:
        """The branches that are a language's expert."""
        return {name: branch for name, branch in self.branches.items() if name not in MIXED}

    def named(self, models: Iterable[str]) -> list[str]:
        """Those of `models` that the run's tables name: the tuned one only where there is one."""
        tuned = self.tune is not None or TUNED in self.scores.models()
        return [model for model in models if model != TUNED or tuned]

    def stages(self) -> dict[str, Manifest]:
        """The finished stages' manifests by folder, in the order of the run."""
        found: dict[str, Manifest] = {}
        if self.curate:
            found["curate"] = self.curate.manifest
        found |= {f"train/{name}": branch.manifest for name, branch in self.branches.items()}
        if self.compose:
            found["compose"] = self.compose.manifest
        if self.tune:
            found["tune"] = self.tune.manifest
        if self.generate:
            found["generate"] = self.generate.manifest
        if self.evaluate:
            found["evaluate"] = self.evaluate.manifest
        return found


def read_run(folder: Path) -> Run:
    """Reads a run's folder. Raises InputError where it is missing or a file in it is damaged."""
    if not folder.is_dir():
        raise InputError("no such run", seen=folder, next_step="give a folder that codechoir run has written")
    curate = _finished(CurateFacts, folder / "curate")
    compose = _finished(ComposeFacts, folder / "compose")
    evaluate = _finished(EvaluateFacts, folder / "evaluate")
    generate = _finished(GenerateFacts, folder / "generate")
    scores = read_scores(folder / "evaluate" / "scores.json") if evaluate else Scores()
    languages = dict.fromkeys(
        (
            *(each for each in (compose.facts.experts if compose else ()) if each != GENERALIST),
            *(curate.facts.languages if curate else ()),
            *(each.language for each in scores.scores if each.language != MEAN),
        )
    )
    return Run(
        name=folder.resolve().name,
        languages=tuple(languages),
        curate=curate,
        branches=_branches(folder / "train", languages),
        compose=compose,
        tune=_finished(TuneFacts, folder / "tune"),
        generate=generate,
        evaluate=evaluate,
        scores=scores,
        routes=_routes(folder / "generate") if generate else {},
        finished=_last_written(folder.glob(f"*/{MANIFEST}"), folder.glob(f"train/*/{MANIFEST}")),
    )


def read_scores(path: Path) -> Scores:
    """Evaluation's scores.json. An undefined figure may stand there as NaN or as null."""
    content = read_json(path)
    try:
        return Scores(
            tuple(Score.model_validate(each) for each in content["scores"]),
            tuple(Comparison.model_validate(each) for each in content["comparisons"]),
            {str(name): str(reason) for name, reason in content.get("skipped", {}).items()},
        )
    except (ValidationError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            "not a file of scores",
            seen=f"{path}: {str(error).splitlines()[0]}",
            allowed='{"scores": [...], "comparisons": [...], "skipped": {...}}',
            next_step="run the evaluate stage again",
        ) from None


def _finished(kind: type[FactsT], folder: Path) -> Finished[FactsT] | None:
    if not (folder / MANIFEST).exists():
        return None
    manifest = read_manifest(folder)
    try:
        return Finished(manifest, kind.model_validate(manifest.facts))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(
            "a manifest's fact is not of its kind",
            seen=f"{folder / MANIFEST}: facts.{'.'.join(str(part) for part in first['loc'])}: {first['msg']}",
            next_step=f"remove {folder} and run the stage again",
        ) from None


def _branches(train: Path, languages: Iterable[str]) -> dict[str, Finished[TrainFacts]]:
    """The trunk, the universal model, and the experts of the languages that these were trained for.

    The folder may hold experts of an earlier recipe with more languages.
    """
    present = sorted(path.name for path in train.iterdir() if path.is_dir()) if train.is_dir() else []
    order = dict.fromkeys((*MIXED, *languages, *present))
    read = {name: _finished(TrainFacts, train / name) for name in order if name in present}
    found = {name: branch for name, branch in read.items() if branch}
    newest = found.get("universal", found.get("trunk"))
    meant = newest.manifest.config.get("languages", order) if newest else order
    return {name: branch for name, branch in found.items() if name in (*MIXED, *meant)}


def _routes(generate: Path) -> dict[str, Confusion]:
    found: dict[str, dict[str, Mapping[str, float]]] = {}
    for path in sorted(generate.glob(f"*/*{LIKELIHOODS}")):
        shares = mean_route(read_records(LogLikelihood, path))
        if shares:
            found.setdefault(path.parent.name, {})[path.name.removesuffix(LIKELIHOODS)] = shares
    return dict(found)


def mean_route(records: Iterable[LogLikelihood]) -> dict[str, float]:
    """The mean over documents of each expert's share; empty for a dense model. Each document counts once."""
    totals: dict[str, float] = defaultdict(float)
    count = 0
    for record in records:
        if record.route:
            count += 1
            for expert, share in record.route.items():
                totals[expert] += share
    return {expert: total / count for expert, total in totals.items()}


def _last_written(*groups: Iterable[Path]) -> datetime.datetime | None:
    times = [path.stat().st_mtime for group in groups for path in group if path.parent.name != "report"]
    return datetime.datetime.fromtimestamp(int(max(times)), datetime.UTC) if times else None
