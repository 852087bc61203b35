"""Numbers, outcomes and the escaping of Markdown."""

from __future__ import annotations

import html
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.records import Comparison
from codechoir.report import wording
from codechoir.report.process import clock


@pytest.mark.parametrize(
    ("value", "digits", "signed", "text"),
    [
        (0.61234, 4, False, "0.6123"),
        (-0.5, 3, False, "−0.500"),
        (0.5, 3, True, "+0.500"),
        (-0.00001, 4, True, "0.0000"),
        (math.nan, 4, False, "undefined"),
        (None, 4, False, "undefined"),
    ],
)
def test_numbers(value: float | None, digits: int, signed: bool, text: str) -> None:
    assert wording.number(value, digits, signed=signed) == text


def comparison(difference: float, metric: str, **values: float) -> Comparison:
    figures = {"low": difference - 0.01, "high": difference + 0.01, "p_value": 0.001, "p_adjusted": 0.01} | values
    return Comparison(
        model="a", against="b", language="c", metric=metric, difference=difference, detectable=0.1, count=9, clusters=9,
        **figures,
    )  # fmt: skip


@given(
    difference=st.floats(-10, 10).filter(bool),
    p_adjusted=st.floats(0, 1) | st.just(math.nan),
    metric=st.sampled_from(["bits_per_byte", "pass@1", "infill_exact_match"]),
)
def test_an_outcome_is_claimed_only_where_chance_is_unlikely(difference: float, p_adjusted: float, metric: str) -> None:
    found = wording.outcome(comparison(difference, metric, p_adjusted=p_adjusted))
    if math.isnan(p_adjusted) or p_adjusted > 0.05:
        assert found == "within noise"
    else:
        assert found == ("better" if (difference > 0) == (metric != "bits_per_byte") else "worse")


@pytest.mark.parametrize(
    ("p_adjusted", "text"),
    [
        (0.0123, "+0.500 [+0.490, +0.510], p 0.012"),
        (0.001, "+0.500 [+0.490, +0.510], p 0.001"),
        (0.0009, "+0.500 [+0.490, +0.510], p < 0.001"),
        (1.0, "+0.500 [+0.490, +0.510], p 1.000"),
        (math.nan, "+0.500 [+0.490, +0.510]"),
    ],
)
def test_a_difference_carries_its_interval_and_its_corrected_p_value(p_adjusted: float, text: str) -> None:
    assert wording.difference_text(comparison(0.5, "pass@1", p_adjusted=p_adjusted)) == text
    nan = {"low": math.nan, "high": math.nan}
    assert wording.difference_text(comparison(0.5, "pass@1", p_adjusted=0.5, **nan)) == "+0.500 p 0.500"


@pytest.mark.parametrize(
    ("names", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_listing(names: list[str], text: str) -> None:
    assert wording.listing(names) == text


def shown(text: str) -> str:
    """What a reader sees of escaped Markdown (CommonMark: backslash escapes, then entities)."""
    return html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text))


@given(text=st.text(alphabet=st.sampled_from("ab 12.)(#*_`[]|<>&~!$\\:/-+=\n"), max_size=40))
def test_markdown_is_one_line_that_reads_as_the_text(text: str) -> None:
    escaped = wording.markdown(text)
    assert shown(escaped) == " ".join(text.split())
    assert "\n" not in escaped
    bare = re.sub(r"\\.", "", escaped)
    assert not set(bare) & set("`*_|<>~$")
    assert "](" not in bare
    assert "]:" not in bare
    assert "://" not in escaped.replace(r"\://", "")
    assert not re.match(r"(#{1,6}|[-+]|\d+[.)])(\s|$)", escaped)


def test_intervals_stay_readable_in_markdown() -> None:
    assert wording.markdown("0.612 [0.600, 0.624]") == "0.612 [0.600, 0.624]"
    assert wording.markdown("[0.1](x)") == r"\[0.1\](x)"


def test_fence_is_longer_than_any_inside() -> None:
    assert wording.fence("a") == "```"
    assert wording.fence("a ```` b") == "`````"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (75, "1 min 15 s"), (3599.7, "1 h 00 min"), (7320, "2 h 02 min")],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
