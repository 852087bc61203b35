"""Verdicts, infillings and log-likelihoods in; scores with intervals and paired comparisons out.

Owns which models are compared with which, and what has to match for a comparison to be fair: all models of a language
are measured on the same documents (to the byte), the same gaps and the same problems. Knows nothing of files or
sandboxes.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from codechoir.errors import InputError
from codechoir.evaluate.config import EvaluateConfig
from codechoir.evaluate.ledger import Tally
from codechoir.evaluate.statistics import (
    Estimate,
    Floats,
    Sums,
    degrees_of_freedom,
    detectable,
    estimate,
    holm,
    paired,
    pass_at_k,
    permutation_p,
    rate_bounds,
    ratio,
    resample,
    standard_error,
)
from codechoir.records import Comparison, Infilling, LogLikelihood, Score

BITS_PER_BYTE, EXACT_MATCH = "bits_per_byte", "infill_exact_match"
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
    config: EvaluateConfig
    _weights: dict[str, Mapping[str, Floats]] = field(default_factory=dict)

    @property
    def languages(self) -> list[str]:
        return sorted({language for by_language in self.models.values() for language in by_language})

    def over(self, language: str) -> list[str]:
        """The languages behind a figure."""
        return self.languages if language == MEAN else [language]

    def covers(self, model: str, language: str) -> bool:
        """Whether the model has been measured on the language; for the mean, on all."""
        return all(name in self.models.get(model, {}) for name in self.over(language))

    def have(self, model: str, language: str) -> list[Sums]:
        """The sums that a model has towards a figure."""
        return [sums for name, sums in self.models[model].items() if name in self.over(language)]

    def value(self, model: str, language: str) -> Floats:
        """The figure itself, shape (1,)."""
        return _mean([ratio(self.models[model][name]) for name in self.over(language)])

    def resampled(self, model: str, language: str) -> Floats:
        """The figure in each resample, shape (resamples,)."""
        weights = self._weights_of(language)
        return _mean([ratio(self.models[model][name], weights[name]) for name in self.over(language)])

    def freedom(self, model: str, language: str) -> int:
        """The degrees of freedom behind a figure's interval."""
        return degrees_of_freedom({name: self.models[model][name].clusters for name in self.over(language)})

    def seed(self, *what: str) -> tuple[int, int]:
        """A seed of its own for everything that is drawn."""
        return (self.config.seed, zlib.crc32("/".join((self.name, *what)).encode()))

    def _weights_of(self, language: str) -> Mapping[str, Floats]:
        if language not in self._weights:
            units = {name: by[name].clusters for by in self.models.values() for name in sorted(by)}
            strata = {name: units[name] for name in self.over(language)}
            self._weights[language] = resample(strata, self.config.resamples, self.seed(language))
        return self._weights[language]


def score(
    likelihoods: Iterable[LogLikelihood],
    infillings: Iterable[Infilling],
    tallies: Mapping[str, Mapping[str, Tally]],
    config: EvaluateConfig,
) -> Scored:
    """Bits per byte, exact match and pass@k of every model and language, their means, and the comparisons.

    Comparisons are `model - against` on the same units, in bits per byte, exact match and pass@k of the least k: every
    model against the universal one, experts and MoE models against the base, and on each expert's own language its home
    advantage over the mean of the other experts (bits per byte, so less than 0 is better). Where there is neither a
    universal model nor a base, every model is compared with the first. Raises InputError where models were measured on
    different units or where there are fewer completions than k.
    """
    ks = sorted(set(config.pass_k))
    bits = _Metric(BITS_PER_BYTE, _bits(likelihoods), config)
    exact = _Metric(EXACT_MATCH, _matches(infillings), config)
    passes = [_Metric(f"pass@{k}", _passes(tallies, k), config) for k in ks]
    metrics = [bits, exact, *passes]
    for metric in metrics:
        _check_units(metric)
    comparisons = [
        each
        for metric in (bits, exact, *passes[:1])
        for model, against in _pairs(list(metric.models))
        for each in _adjusted(list(_compare(metric, model, against)))
    ]
    return Scored(
        tuple(each for metric in metrics for each in _scores(metric)),
        (*comparisons, *_adjusted(list(_home_advantages(bits)))),
    )


def _bits(likelihoods: Iterable[LogLikelihood]) -> dict[str, _ByLanguage]:
    """Bits and bytes of each document: numerators and denominators of bits per byte."""
    return _sums(
        (each.model, each.language, _Unit(each.key, each.package, -each.log_likelihood / math.log(2), each.num_bytes))
        for each in likelihoods
    )


def _matches(infillings: Iterable[Infilling]) -> dict[str, _ByLanguage]:
    """Whether each gap was filled exactly, over 1."""
    return _sums(
        (each.model, each.language, _Unit(each.key, each.package, float(each.exact), 1.0)) for each in infillings
    )


@dataclass(frozen=True, slots=True)
class _Unit:
    key: str
    cluster: str
    numerator: float
    denominator: float


def _sums(units: Iterable[tuple[str, str, _Unit]]) -> dict[str, _ByLanguage]:
    found: dict[str, dict[str, dict[str, _Unit]]] = {}
    for model, language, unit in units:
        held = found.setdefault(model, {}).setdefault(language, {})
        if unit.key in held:
            raise InputError("a document was measured twice", seen=f"{model}, {language}, {unit.key}")
        held[unit.key] = unit
    return {
        model: {
            language: Sums(
                tuple(sorted(held)),
                tuple(held[key].cluster for key in sorted(held)),
                np.array([held[key].numerator for key in sorted(held)]),
                np.array([held[key].denominator for key in sorted(held)], dtype=np.float64),
            )
            for language, held in by_language.items()
        }
        for model, by_language in found.items()
    }


def _check_units(metric: _Metric) -> None:
    """Refuses models that were measured on different units, or on other amounts of them."""
    first: dict[str, tuple[str, dict[str, float]]] = {}
    for model, by_language in metric.models.items():
        for language, sums in by_language.items():
            sizes = dict(zip(sums.keys, map(float, sums.denominators), strict=True))
            other, expected = first.setdefault(language, (model, sizes))
            if sizes != expected:
                differing = sorted(key for key in sizes.keys() | expected.keys() if sizes.get(key) != expected.get(key))
                raise InputError(
                    f"two models' {metric.name} was measured on different texts",
                    seen=f"{language}: {other} and {model} differ in {len(differing)}, first {differing[0]}",
                    next_step="measure all models on the same documents, lengths, gaps and problems",
                )


def _passes(tallies: Mapping[str, Mapping[str, Tally]], k: int) -> dict[str, _ByLanguage]:
    """pass@k of each problem over 1: numerators and denominators of the mean over problems."""
    return {
        model: {
            language: Sums(
                tally.problems,
                tally.problems,
                np.array([_solved(tally, place, k, f"{model}, {language}") for place in range(len(tally.problems))]),
                np.ones(len(tally.problems)),
            )
            for language, tally in by_language.items()
        }
        for model, by_language in tallies.items()
    }


def _solved(tally: Tally, place: int, k: int, where: str) -> float:
    num_samples = int(tally.num_samples[place])
    if num_samples < k:
        raise InputError(
            f"pass@{k} needs at least {k} completions of every problem",
            seen=f"{where}, {tally.problems[place]}: {num_samples}",
            next_step="generate more samples per problem, or take k out of evaluate.pass_k",
        )
    if tally.num_broken[place]:
        return math.nan  # neither passed nor failed: no figure can stand on it
    return pass_at_k(num_samples, int(tally.num_passed[place]), k)


def _scores(metric: _Metric) -> Iterator[Score]:
    for model, by_language in metric.models.items():
        for language in (*sorted(by_language), MEAN):
            have = metric.have(model, language)
            clusters = len({cluster for sums in have for cluster in sums.clusters})
            if metric.covers(model, language):
                freedom = metric.freedom(model, language)
                result = estimate(metric.value(model, language), metric.resampled(model, language), freedom)
                if metric.name != BITS_PER_BYTE and freedom and result.value in (0, 1):
                    result = Estimate(result.value, *rate_bounds(result.value, clusters))
            else:
                result = estimate(np.array([math.nan]), np.array([]), 0)
            yield Score(
                model=model,
                language=language,
                metric=metric.name,
                value=result.value,
                low=result.low,
                high=result.high,
                count=sum(len(sums.keys) for sums in have),
                clusters=clusters,
            )


def _pairs(models: Sequence[str]) -> Iterator[tuple[str, str]]:
    if UNIVERSAL in models:
        yield from ((model, UNIVERSAL) for model in models if model != UNIVERSAL)
    if BASE in models:
        yield from ((model, BASE) for model in models if model.startswith((_EXPERT, _MOE)))
    if not {UNIVERSAL, BASE}.intersection(models):
        yield from ((model, models[0]) for model in models[1:])


def _compare(metric: _Metric, model: str, against: str) -> Iterator[Comparison]:
    covered = [name for name in metric.languages if metric.covers(model, name) and metric.covers(against, name)]
    for language in covered:
        yield _comparison(metric, model, [against], against, (language, len(covered)))
    if len(covered) == len(metric.languages):
        yield _comparison(metric, model, [against], against, (MEAN, 1))


def _home_advantages(metric: _Metric) -> Iterator[Comparison]:
    """Each expert against the mean of the other experts, on its own language."""
    experts = [model for model in metric.models if model.startswith(_EXPERT)]
    found = {}
    for expert in experts:
        home = expert.removeprefix(_EXPERT)
        others = [other for other in experts if other != expert and metric.covers(other, home)]
        if others and metric.covers(expert, home):
            found[expert] = others
    for expert, others in found.items():
        yield _comparison(metric, expert, others, OTHER_EXPERTS, (expert.removeprefix(_EXPERT), len(found)))


def _comparison(metric: _Metric, model: str, others: Sequence[str], against: str, claim: tuple[str, int]) -> Comparison:
    """`claim`: the language, and how many such comparisons are corrected for together."""
    language, num_tests = claim
    value = metric.value(model, language) - _mean([metric.value(other, language) for other in others])
    resampled = metric.resampled(model, language) - _mean([metric.resampled(other, language) for other in others])
    clustered = paired(
        [
            (metric.models[model][name], _mean([metric.models[other][name].numerators for other in others]))
            for name in metric.over(language)
        ]
    )
    clusters = len(clustered.contributions)
    # where no unit differs nothing was seen to vary, which is not to say that nothing does
    freedom = metric.freedom(model, language) if clustered.contributions.any() else 0
    result = estimate(value, resampled, freedom)
    error = standard_error(clustered.residuals) if freedom else math.nan
    p_value = permutation_p(clustered.contributions, metric.config.permutations, metric.seed(language, model, against))
    return Comparison(
        model=model,
        against=against,
        language=language,
        metric=metric.name,
        difference=result.value,
        low=result.low,
        high=result.high,
        p_value=p_value,
        p_adjusted=p_value,
        detectable=detectable(error, clusters, num_tests),
        count=sum(len(sums.keys) for sums in metric.have(model, language)),
        clusters=clusters,
    )


def _adjusted(family: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons, Holm's correction made over the languages in them; a mean is one claim and stands by itself."""
    corrected = iter(holm([each.p_value for each in family if each.language != MEAN]))
    return [
        each if each.language == MEAN else each.model_copy(update={"p_adjusted": next(corrected)}) for each in family
    ]


def _mean(values: Sequence[Floats]) -> Floats:
    mean: Floats = np.mean(values, axis=0)
    return mean
