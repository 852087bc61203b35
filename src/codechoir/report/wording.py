"""Names and numbers as the report writes them, and the escaping of Markdown. Pure functions."""

from __future__ import annotations

import math
import re

from codechoir.languages import LANGUAGES
from codechoir.records import Comparison, Score
from codechoir.report.facts import MEAN, TUNED
from codechoir.report.view import Cell, Tone

BITS, EXACT_MATCH = "bits_per_byte", "infill_exact_match"
NOT_RUN = "not run"
OWN_EXPERT = "own expert"  # a row that takes, in each language's column, that language's expert
NONE = "–"  # a figure that does not exist here, though its model was run

MODEL_NAMES = {
    "base": "base",
    "trunk": "trunk",
    "universal": "universal (dense)",
    OWN_EXPERT: "own expert (dense)",
    "soup": "soup (experts averaged)",
    "moe-prompt": "MoE, prompt routing",
    "moe-token-top1": "MoE, token routing, top-1",
    "moe-token-top2": "MoE, token routing, top-2",
    "moe-oracle": "MoE, oracle routing",
    TUNED: "MoE, token routing, tuned",
    "moe-uniform": "MoE, uniform routing",
    "other-experts": "the other experts",
}
MODEL_ROWS = tuple(name for name in MODEL_NAMES if name != "other-experts")
ROUTED = ("moe-prompt", "moe-token-top1", "moe-token-top2", TUNED)  # routings that a user can have: no oracle


def model_name(model: str) -> str:
    """A model's name for readers."""
    if model.startswith("expert-"):
        return f"expert, {language_name(model.removeprefix('expert-'))}"
    return MODEL_NAMES.get(model, model)


def language_name(language: str) -> str:
    """A language's name for readers."""
    return LANGUAGES[language].stack_name if language in LANGUAGES else language


def decimals(metric: str) -> int:
    """How many decimals a metric's figures carry."""
    return 4 if metric == BITS else 3


def number(value: float | None, digits: int, *, signed: bool = False) -> str:
    """A figure with fixed decimals; NaN and None are "undefined"."""
    if value is None or math.isnan(value):
        return "undefined"
    if round(value, digits) == 0:
        return f"{0:.{digits}f}"
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def interval(low: float, high: float, digits: int, *, signed: bool = False) -> str:
    """ "[0.600, 0.624]", or nothing where an end is undefined."""
    if math.isnan(low) or math.isnan(high):
        return ""
    return f"[{number(low, digits, signed=signed)}, {number(high, digits, signed=signed)}]"


def p_text(p_value: float) -> str:
    """ "p 0.012", "p < 0.001", or nothing where it is undefined."""
    if math.isnan(p_value):
        return ""
    return f"p {p_value:.3f}" if p_value >= 0.001 else "p < 0.001"


def difference_text(comparison: Comparison) -> str:
    """ "−0.012 [−0.020, −0.004], p 0.003"."""
    return f"{number(comparison.difference, decimals(comparison.metric), signed=True)} {_certainty(comparison)}".strip()


def _certainty(comparison: Comparison) -> str:
    """The interval and the corrected p-value, as far as they are defined."""
    ends = interval(comparison.low, comparison.high, decimals(comparison.metric), signed=True)
    return ", ".join(part for part in (ends, p_text(comparison.p_adjusted)) if part)


def outcome(comparison: Comparison) -> str:
    """ "better", "worse" or "within noise" by the corrected p-value: lower bits per byte are better, else higher."""
    if comparison.within_noise:
        return "within noise"
    lower = comparison.difference < 0
    return "better" if lower == (comparison.metric == BITS) else "worse"


def tone(outcome: str) -> Tone:
    """The tone that an outcome is shown in."""
    tones: dict[str, Tone] = {"better": "good", "worse": "bad", "within noise": "even"}
    return tones.get(outcome, "missing")


def score_cell(score: Score | None, *, best: bool = False) -> Cell:
    """A score and its interval, or "not run"."""
    if score is None:
        return Cell(NOT_RUN, tone="missing")
    digits = decimals(score.metric)
    return Cell(number(score.value, digits), interval(score.low, score.high, digits), best=best)


def difference_cell(comparison: Comparison | None, missing: str = NOT_RUN) -> Cell:
    """A paired difference, its interval, its corrected p-value and what it means."""
    if comparison is None:
        return Cell(missing, tone="missing")
    digits = decimals(comparison.metric)
    word = outcome(comparison)
    return Cell(
        number(comparison.difference, digits, signed=True),
        _certainty(comparison),
        word,
        tone(word),
    )


def count(value: float | None) -> Cell:
    """A whole number with thousands apart."""
    return Cell(f"{value:,.0f}") if value is not None and math.isfinite(value) else Cell(NONE, tone="missing")


def real(value: float | None, form: str) -> Cell:
    """A number by a format specification."""
    return Cell(format(value, form)) if value is not None and math.isfinite(value) else Cell(NONE, tone="missing")


def decimal(value: float | None, digits: int) -> Cell:
    """A figure with fixed decimals; NaN and None are "undefined"."""
    undefined = value is None or math.isnan(value)
    return Cell(number(value, digits), tone="missing" if undefined else "")


def share(value: float | None) -> Cell:
    """A fraction as a percentage with one decimal."""
    return real(value, ".1%")


def column(language: str) -> str:
    """A column's heading."""
    return "Mean" if language == MEAN else language_name(language)


def listing(names: list[str]) -> str:
    """ "a, b and c"."""
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else "".join(names)


# An interval's brackets cannot start a link: digits only, and neither "(", "[" nor ":" behind them.
_MARKUP = re.compile(r"(?P<interval>\[[-+−\d., ]+\](?![(\[:]))|[\\`*_\[\]|~$!]")


def markdown(text: str) -> str:
    """Text that Markdown shows as it stands: no markup, HTML, table bars, links or line breaks come through."""
    one_line = " ".join(text.split())
    plain = one_line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    plain = _MARKUP.sub(lambda found: found["interval"] or f"\\{found[0]}", plain)
    plain = re.sub(r"^([-+=])(?=[-+=\s]|$)", r"\\\1", plain)
    plain = re.sub(r"^(\d*)([#.)])(?=[#\s]|$)", r"\1\\\2", plain)
    return plain.replace("://", r"\://")


def fence(text: str) -> str:
    """A code fence longer than any that `text` holds."""
    return "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
