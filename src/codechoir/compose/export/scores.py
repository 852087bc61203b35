"""The scores that a model card shows: bits per byte and pass@1 of the composed model and of the universal one.

In: the evaluate stage's scores.json. Out: Markdown tables, a row a language, each figure with its interval. Judges
nothing: a figure that is not there is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from codechoir.errors import InputError
from codechoir.records import Score, read_json

_UNIVERSAL, _MEAN = "universal", "mean"
_COMPOSED = {"moe-prompt": "prompt routing", "moe-token-top1": "token, top-1", "moe-token-top2": "token, top-2"}
_TUNED = {"moe-tuned": "tuned"}
_METRICS = {"bits_per_byte": ("Bits per byte on held-out files (less is better)", 4), "pass@1": ("pass@1", 3)}


def scores_beside(model: Path) -> Path | None:
    """The scores of the run that a composed folder is part of; None where it is part of none, or was not evaluated."""
    run = model.resolve().parent
    found = run / "evaluate" / "scores.json"
    return found if (run / "recipe.yaml").is_file() and found.is_file() else None


def read_card_scores(path: Path, expert: str | None, is_tuned: bool = False) -> list[Score]:
    """The figures for the card of a composed model, tuned or not, or of one `expert`.

    Raises InputError where there are none.
    """
    content = read_json(path)
    wanted = {f"expert-{expert}"} if expert else (_TUNED if is_tuned else _COMPOSED).keys()
    try:
        scores = [Score.model_validate(each) for each in content["scores"]]
    except (ValidationError, KeyError, TypeError) as error:
        raise InputError(
            "not a file of scores",
            seen=f"{path}: {str(error).splitlines()[0]}",
            allowed="scores.json, as the evaluate stage writes it",
        ) from None
    if not any(score.model in wanted for score in scores):
        raise InputError(
            "no scores of this model",
            seen=f"{path}: {', '.join(sorted({score.model for score in scores})) or 'no models'}",
            allowed=", ".join(sorted(wanted)),
        )
    return [score for score in scores if score.model in wanted | {_UNIVERSAL} and score.metric in _METRICS]


def scores_in_words(scores: Sequence[Score], expert: str | None) -> str:
    """One table a metric: languages down, models across, 95% intervals in brackets."""
    own = {f"expert-{expert}": f"the expert for {expert}"} if expert else _COMPOSED | _TUNED
    names = own | {_UNIVERSAL: "universal"}
    tables = []
    for metric, (title, digits) in _METRICS.items():
        figures = {(each.language, each.model): each for each in scores if each.metric == metric}
        models = [name for name in names if any(model == name for _, model in figures)]
        languages = sorted({language for language, _ in figures}, key=lambda name: (name == _MEAN, name))
        if not models:
            continue
        lines = [f"| {title} | {' | '.join(names[model] for model in models)} |", "|---|" + "---|" * len(models)]
        for language in languages:
            cells = [_figure(figures.get((language, model)), digits) for model in models]
            lines.append(f"| {language} | {' | '.join(cells)} |")
        tables.append("\n".join(lines))
    told = (
        "95% intervals in brackets. The universal model is dense, of the same base, trained on all languages together."
    )
    return "\n\n".join([*tables, told])


def _figure(score: Score | None, digits: int) -> str:
    if score is None or math.isnan(score.value):
        return "not measured"
    interval = f" [{score.low:.{digits}f}, {score.high:.{digits}f}]" if math.isfinite(score.high - score.low) else ""
    return f"{score.value:.{digits}f}{interval}"
