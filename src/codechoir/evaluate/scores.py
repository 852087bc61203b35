"""Verdicts and log-likelihoods in; scores with intervals and paired comparisons out.

Owns which models are compared with which, and what has to match for a comparison to be fair: all models of a language
are measured on the same documents (to the byte) and the same problems. Knows nothing of files or sandboxes.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from codechoir.errors import InputError
from codechoir.evaluate.config import EvaluateConfig
from codechoir.evaluate.statistics import Floats, Sums, estimate, pass_at_k, ratio, resample
from codechoir.records import Comparison, LogLikelihood, Score, Status, Verdict

BITS_PER_BYTE = "bits_per_byte"
MEAN = "mean"  # the language of a mean over all languages, each weighing the same
BASE, UNIVERSAL, OTHER_EXPERTS = "base", "universal", "other-experts"
_EXPERT, _MOE = "expert-", "moe-"

_ByLanguage = dict[str, Sums]


@dataclass(frozen=True, slots=True)
class Scored:
    """All figures of an evaluation."""

    scores: tuple[Score, ...]
    comparisons: tuple[Comparison, ...]


@dataclass(slots=True)
class _Metric:
    """One metric of all models, and the bootstrap weights that they share: sharing them is what pairs the models."""

    name: str
    models: dict[str, _ByLanguage]
    clustered: bool  # one unit may recur in several languages
    config: EvaluateConfig
    _weights: dict[str, Mapping[str, Floats]] = field(default_factory=dict)

    @property
    def languages(self) -> list[str]:
        return sorted({language for by_language in self.models.values() for language in by_language})

    def covers(self, model: str, language: str) -> bool:
        """Whether the model has been measured on the language; for the mean, on all."""
        have = self.models.get(model, {})
        return all(name in have for name in self.languages) if language == MEAN else language in have

    def count(self, model: str, language: str) -> int:
        """Units behind a figure."""
        have = self.models[model]
        return sum(len(sums.keys) for sums in have.values()) if language == MEAN else len(have[language].keys)

    def value(self, model: str, language: str) -> Floats:
        """The figure itself, shape (1,)."""
        have = self.models[model]
        names = self.languages if language == MEAN else [language]
        return _mean([ratio(have[name]) for name in names])

    def resampled(self, model: str, language: str) -> Floats:
        """The figure in each resample, shape (resamples,)."""
        have, weights = self.models[model], self._weights_of(language)
        names = self.languages if language == MEAN else [language]
        return _mean([ratio(have[name], weights[name]) for name in names])

    def _weights_of(self, language: str) -> Mapping[str, Floats]:
        if language not in self._weights:
            units = {
                name: by_language[name].keys for by_language in self.models.values() for name in sorted(by_language)
            }
            strata = {name: units[name] for name in (self.languages if language == MEAN else [language])}
            seed = (self.config.seed, zlib.crc32(f"{self.name}/{language}".encode()))
            self._weights[language] = resample(strata, self.config.resamples, seed, shared=self.clustered)
        return self._weights[language]


def score(
    likelihoods: Iterable[LogLikelihood],
    verdicts: Sequence[Verdict],
    config: EvaluateConfig,
) -> Scored:
    """Bits per byte and pass@k of every model and language, their means, and the comparisons.

    Comparisons are `model - against` on the same units: every model against the universal one, experts and MoE models
    against the base, and on each expert's own language its home advantage over the mean of the other experts (bits per
    byte, so less than 0 is better). Raises InputError where models were measured on different units or where there are
    fewer completions than k.
    """
    metrics = [_Metric(BITS_PER_BYTE, _bits(likelihoods), False, config)]
    metrics += [_Metric(f"pass@{k}", _passes(verdicts, k), True, config) for k in sorted(set(config.pass_k))]
    scores = [each for metric in metrics for each in _scores(metric)]
    comparisons = [
        each
        for metric in metrics
        if metric.name in (BITS_PER_BYTE, "pass@1")
        for model, against in _pairs(list(metric.models))
        for each in _compare(metric, model, against)
    ]
    return Scored(tuple(scores), (*comparisons, *_home_advantages(metrics[0])))


def _bits(likelihoods: Iterable[LogLikelihood]) -> dict[str, _ByLanguage]:
    """Bits and bytes of each document: numerators and denominators of bits per byte."""
    found: dict[str, dict[str, dict[str, LogLikelihood]]] = {}
    for each in likelihoods:
        documents = found.setdefault(each.model, {}).setdefault(each.language, {})
        if each.key in documents:
            raise InputError("a document was measured twice", seen=f"{each.model}, {each.language}, {each.key}")
        documents[each.key] = each
    _same_documents(found)
    return {
        model: {
            language: Sums(
                tuple(sorted(documents)),
                np.array([-documents[key].log_likelihood / math.log(2) for key in sorted(documents)]),
                np.array([float(documents[key].num_bytes) for key in sorted(documents)]),
            )
            for language, documents in by_language.items()
        }
        for model, by_language in found.items()
    }


def _same_documents(found: Mapping[str, Mapping[str, Mapping[str, LogLikelihood]]]) -> None:
    first: dict[str, tuple[str, dict[str, int]]] = {}
    for model, by_language in found.items():
        for language, documents in by_language.items():
            sizes = {key: document.num_bytes for key, document in documents.items()}
            other, expected = first.setdefault(language, (model, sizes))
            if sizes != expected:
                differing = sorted(key for key in sizes.keys() | expected.keys() if sizes.get(key) != expected.get(key))
                raise InputError(
                    "two models were measured on different held-out texts",
                    seen=f"{language}: {other} and {model} differ in {len(differing)} documents, first {differing[0]}",
                    next_step="generate the log-likelihoods of all models from the same documents and length",
                )


def _passes(verdicts: Sequence[Verdict], k: int) -> dict[str, _ByLanguage]:
    """pass@k of each problem over 1: numerators and denominators of the mean over problems."""
    found: dict[str, dict[str, dict[str, list[Status]]]] = {}
    for each in verdicts:
        problems = found.setdefault(each.model, {}).setdefault(each.language, {})
        problems.setdefault(each.problem, []).append(each.status)
    return {
        model: {
            language: Sums(
                tuple(sorted(problems)),
                np.array([_solved(problems[name], k, f"{model}, {language}, {name}") for name in sorted(problems)]),
                np.ones(len(problems)),
            )
            for language, problems in by_language.items()
        }
        for model, by_language in found.items()
    }


def _solved(statuses: Sequence[Status], k: int, where: str) -> float:
    if len(statuses) < k:
        raise InputError(
            f"pass@{k} needs at least {k} completions of every problem",
            seen=f"{where}: {len(statuses)}",
            next_step="generate more samples per problem, or take k out of evaluate.pass_k",
        )
    if Status.HARNESS_ERROR in statuses:
        return math.nan  # neither passed nor failed: no figure can stand on it
    return pass_at_k(len(statuses), statuses.count(Status.PASSED), k)


def _scores(metric: _Metric) -> Iterator[Score]:
    for model, by_language in metric.models.items():
        for language in (*sorted(by_language), MEAN):
            if metric.covers(model, language):
                result = estimate(
                    metric.value(model, language), metric.resampled(model, language), metric.count(model, language)
                )
            else:
                result = estimate(np.array([math.nan]), np.array([]), metric.count(model, language))
            yield Score(
                model=model,
                language=language,
                metric=metric.name,
                value=result.value,
                low=result.low,
                high=result.high,
                count=result.count,
            )


def _pairs(models: Sequence[str]) -> Iterator[tuple[str, str]]:
    if UNIVERSAL in models:
        yield from ((model, UNIVERSAL) for model in models if model != UNIVERSAL)
    if BASE in models:
        yield from ((model, BASE) for model in models if model.startswith((_EXPERT, _MOE)))


def _compare(metric: _Metric, model: str, against: str) -> Iterator[Comparison]:
    for language in (*metric.languages, MEAN):
        if metric.covers(model, language) and metric.covers(against, language):
            yield _comparison(metric, model, [against], against, language)


def _home_advantages(metric: _Metric) -> Iterator[Comparison]:
    """Each expert against the mean of the other experts, on its own language."""
    experts = [model for model in metric.models if model.startswith(_EXPERT)]
    for expert in experts:
        home = expert.removeprefix(_EXPERT)
        others = [other for other in experts if other != expert and metric.covers(other, home)]
        if others and metric.covers(expert, home):
            yield _comparison(metric, expert, others, OTHER_EXPERTS, home)


def _comparison(metric: _Metric, model: str, others: Sequence[str], against: str, language: str) -> Comparison:
    value = metric.value(model, language) - _mean([metric.value(other, language) for other in others])
    resampled = metric.resampled(model, language) - _mean([metric.resampled(other, language) for other in others])
    result = estimate(value, resampled, metric.count(model, language))
    return Comparison(
        model=model,
        against=against,
        language=language,
        metric=metric.name,
        difference=result.value,
        low=result.low,
        high=result.high,
        count=result.count,
    )


def _mean(values: Sequence[Floats]) -> Floats:
    mean: Floats = np.mean(values, axis=0)
    return mean
