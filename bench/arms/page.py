"""Tells the arms' results as a Markdown page: every arm's models against its own dense model and the best one.

Goes by the log-likelihoods that the runs have left, as the evaluate stage does: paired, intervals by bootstrap over
packages.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.arms.arms import DRAWN_FOR_TUNING, DRAWN_TOGETHER, OWN_RATE, num_sequences
from bench.pages import table
from codechoir.artifacts import read_manifest
from codechoir.evaluate.scores import EXACT_MATCH, MEAN, UNIVERSAL, Scored, score
from codechoir.generate.config import TUNED
from codechoir.languages import LANGUAGES
from codechoir.recipe import Recipe
from codechoir.records import SIGNIFICANCE, Comparison, Infilling, LogLikelihood, RecordT, read_records
from codechoir.report.wording import ROUTED

Runs = Sequence[tuple[str, Path]]  # what each is called, and its folder
_SEPARATOR = " / "
_DENSE = tuple(f"{_SEPARATOR}{model}" for model in (UNIVERSAL, "trunk", "soup"))


@dataclass(frozen=True, slots=True)
class _Found:
    """What a finished run has left; its name is its arm's, or its folder's."""

    name: str
    folder: Path
    likelihoods: tuple[LogLikelihood, ...]
    infillings: tuple[Infilling, ...]


def page(command: str, machine: str, recipe: Recipe, arms: Runs, beside: Runs = ()) -> str:
    """The whole page of the runs that are finished: the recipe's arms, and those beside them."""
    found = [_read(*run) for run in (*arms, *beside) if is_finished(run[1])]
    every = _scored(recipe, found, UNIVERSAL)
    means = {each.model: each.value for each in every.scores if each.language == MEAN and each.metric != EXACT_MATCH}
    best = min((name for name in means if name.endswith(_DENSE)), key=means.__getitem__)
    against_best = _differences(_scored(recipe, found, best))
    total = num_sequences(recipe) * recipe.train.sequence_length
    part, most = recipe.generate.held_out_part.replace("-", " "), f"{recipe.generate.held_out_tokens:,}"
    named, rows, filled = ", ".join(f"`{name}`" for name, folder in beside if is_finished(folder)), [], []
    for one in found:
        scored = _scored(recipe, [one], f"{one.name}{_SEPARATOR}{UNIVERSAL}")
        own = _differences(scored)
        filled += _filled_in(one, scored)
        for model in _models(one):
            name = f"{one.name}{_SEPARATOR}{model}"
            rows.append((one.name, model, f"{means[name]:.4f}", own.get(name, ""), against_best.get(name, "")))
    parts = [
        "# Arms: which MoE, if any, is better than the dense model",
        f"Made by `{command}`. {machine}",
        f"Every arm reads {total:,} tokens of each of {len(recipe.languages)} languages: its dense model `{UNIVERSAL}` "
        "has read them all, and so have its trunk, its experts and tuning together. Bits per byte of held-out files "
        f"(of the {part} of each at most {most} tokens), the mean over languages; differences in percent, with 95% "
        "intervals by bootstrap over packages and the paired test's p; less than 0 is better than dense, bold where "
        f"the interval does not hold 0 and p is at most {SIGNIFICANCE}. The best dense model of all, trunks and "
        f"averaged experts among them, is `{best}`. A token passes one expert, as many parameters as in the dense "
        "model, under moe-oracle, moe-token-top1 and, where its router is sure, moe-prompt; two under moe-token-top2, "
        f"all under moe-uniform, and as many as the arm says under {TUNED}. Arms `drawn together` are composed with "
        f"`compose.own_share` of {DRAWN_TOGETHER['compose.own_share']}, those `tuned whole` with "
        f"{DRAWN_FOR_TUNING['compose.own_share']}; the experts of those `upcycled` are copies of the trunk until "
        f"tuning; those `in common` are tuned with a part in common and a `tune.own_rate` of {OWN_RATE}, "
        "and their routers stay." + (f" Beside the arms, with values of their own: {named}." * bool(named)),
        table(("arm", "model", "bits per byte", "to its own dense model", "to the best dense model"), rows),
        "## By language, each arm's dense model and its best MoE that needs no oracle",
        _by_language(recipe, every, found),
        "## Tokens read in all, and peak learning rates with what they were chosen from",
        table(("arm", "trunk", "experts", TUNED, "universal"), (_trained(one, recipe) for one in found)),
    ]
    if filled:
        parts += [
            "## Lines filled in exactly, and the difference to the arm's own dense model in points",
            table(("model", "exact", "to its own dense model"), filled),
        ]
    return "\n\n".join(parts) + "\n"


def is_finished(run: Path) -> bool:
    """Whether a run has generated all that the page goes by."""
    return (run / "generate/manifest.json").exists()


def _read(run: str, folder: Path) -> _Found:
    generated = folder / "generate"
    return _Found(
        run,
        folder,
        tuple(_records(generated.glob("*/*.likelihood.jsonl"), LogLikelihood, run)),
        tuple(_records(generated.glob("*/*.infill.jsonl"), Infilling, run)),
    )


def _records(paths: Iterable[Path], kind: type[RecordT], run: str) -> Iterable[RecordT]:
    """The records of all files, the run's name before the model's."""
    for path in sorted(paths):
        for record in read_records(kind, path):
            yield record.model_copy(update={"model": f"{run}{_SEPARATOR}{path.parent.name}"})


def _models(one: _Found) -> list[str]:
    """The models that an arm is judged by, the dense ones first."""
    names = {each.model.partition(_SEPARATOR)[2] for each in one.likelihoods}
    return sorted(names, key=lambda name: (name.startswith(("moe", "soup")), name))


def _scored(recipe: Recipe, found: Sequence[_Found], dense: str) -> Scored:
    """The scores of all arms, with one of their models as the dense one."""

    def renamed(records: Iterable[RecordT]) -> Iterable[RecordT]:
        for each in records:
            is_dense = getattr(each, "model") == dense  # noqa: B009
            yield each.model_copy(update={"model": UNIVERSAL}) if is_dense else each

    likelihoods = [each for one in found for each in renamed(one.likelihoods)]
    infillings = [each for one in found for each in renamed(one.infillings)]
    return score(likelihoods, infillings, {}, recipe.evaluate)


def _differences(scored: Scored) -> dict[str, str]:
    """By model: the difference of the means to the dense model's, in percent of it, its interval, and p."""
    values = {each.model: each.value for each in scored.scores if each.language == MEAN and each.metric != EXACT_MATCH}
    compared = [each for each in _to_dense(scored) if each.metric != EXACT_MATCH]
    return {each.model: _told(each, 100 / values[UNIVERSAL], "%") for each in compared}


def _to_dense(scored: Scored) -> list[Comparison]:
    return [each for each in scored.comparisons if each.language == MEAN and each.against == UNIVERSAL]


def _told(one: Comparison, scale: float, unit: str) -> str:
    """A difference, its interval and p, as far as these are defined."""
    bold = "**" * ((one.low > 0 or one.high < 0) and one.p_value <= SIGNIFICANCE)
    p_value = "" if math.isnan(one.p_value) else f"{one.p_value:.2g}"
    certainty = "; ".join(filter(None, (_interval(one.low * scale, one.high * scale, "+.2f"), p_value)))
    return f"{bold}{one.difference * scale:+.2f}{unit}{bold}" + f" ({certainty})" * bool(certainty)


def _interval(low: float, high: float, form: str) -> str:
    """Its ends, or nothing where one is undefined."""
    return "" if math.isnan(low) or math.isnan(high) else f"{low:{form}} to {high:{form}}"


def _filled_in(one: _Found, scored: Scored) -> Iterable[tuple[str, str, str]]:
    """By model of a run: the share of lines that it fills in exactly, with its interval, and the difference."""
    differences = {each.model: _told(each, 100, "") for each in _to_dense(scored) if each.metric == EXACT_MATCH}
    for each in scored.scores:
        if each.metric == EXACT_MATCH and each.language == MEAN:
            name = f"{one.name}{_SEPARATOR}{UNIVERSAL}" if each.model == UNIVERSAL else each.model
            ends = _interval(each.low, each.high, ".1%")
            yield name, f"{each.value:.1%}" + f" ({ends})" * bool(ends), differences.get(each.model, "")


def _by_language(recipe: Recipe, scored: Scored, found: Sequence[_Found]) -> str:
    values = {(each.model, each.language): each.value for each in scored.scores if each.metric != EXACT_MATCH}
    names = []
    for one in found:
        routed = [f"{one.name}{_SEPARATOR}{model}" for model in _models(one) if model in ROUTED]
        dense = f"{one.name}{_SEPARATOR}{UNIVERSAL}"
        names += [dense] if (dense, MEAN) in values else []
        names += [min(routed, key=lambda name: values[name, MEAN])] if routed else []
    rows = ((name, *(f"{values[name, language]:.4f}" for language in recipe.languages)) for name in names)
    return table(("model", *(LANGUAGES[name].stack_name for name in recipe.languages)), rows)


def _trained(one: _Found, recipe: Recipe) -> tuple[str, ...]:
    def told(name: str) -> str:
        facts: Mapping[str, object] = read_manifest(one.folder / "train" / name).facts
        tries, tokens = facts["search"], facts["total_tokens"]
        assert isinstance(tries, list)
        tried = ", ".join(f"{each['learning_rate']:g}: {each['bits_per_byte']:.4f}" for each in tries)
        rate = f", {facts['learning_rate']:g}" if facts["tokens"] else ""
        return f"{tokens:,}{rate}" + (f" ({tried})" if tried else "")

    dense, tuned = told(UNIVERSAL) if UNIVERSAL in _models(one) else "", ""
    if TUNED in _models(one):
        facts = read_manifest(one.folder / "tune").facts
        tuned = f"{facts['tokens']:,} more, {facts['learning_rate']:g}"
    return one.name, told("trunk"), told(recipe.languages[0]), tuned, dense
