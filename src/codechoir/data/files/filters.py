"""The filters that look at one file: each rejection carries a reason code and a detail that shows why.

Reasons, in the order of the steps: `empty`, `too-short`, `mean-line-length`, `max-line-length`, `alphanum-fraction`,
`markup`, `auto-generated`, `encoded-data`, `text-ratio`, `does-not-parse`, `comment-ratio`. (`not-utf8` is found where
bytes are read, `duplicate` where all files are known.) Thresholds are told in `FilterConfig`.

Goes in: a file, its measures, the thresholds. Comes out: a decision by each step, in the order of their cost; `reject`
takes the first that rejects, so that it and `decisions` cannot disagree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from codechoir.data.config import FilterConfig
from codechoir.data.files import syntax
from codechoir.data.files.columns import Measures
from codechoir.data.files.encoded import encoded_data
from codechoir.data.files.generated import generated_kind
from codechoir.data.files.rejection import Decision, FileText, Rejection

XML_HEAD = 100  # characters in which XML's declaration is looked for (BigCode)

_XML = re.compile(r"^\ufeff?[ \t]*<\?xml\s+version\s*=", re.MULTILINE)
_INVISIBLE = re.compile(
    r"<!--.*?(?:-->|\Z)|<(script|style)\b.*?(?:</\1\s*>|\Z)|<[^>]*(?:>|\Z)", re.DOTALL | re.IGNORECASE
)
_BLANKS = re.compile(r"\s+")


@dataclass(frozen=True)
class _Subject:
    """One file with what its steps share."""

    file: FileText
    measures: Measures
    config: FilterConfig

    @cached_property
    def syntax(self) -> syntax.Syntax | None:
        """The file parsed, or None where there is no verdict."""
        if self.measures.size > self.config.max_parse_bytes:
            return None
        return syntax.parse(self.file.content, self.file.language)


@dataclass(frozen=True, slots=True)
class _Finding:
    rejected: bool
    detail: str


def reject(file: FileText, measures: Measures, config: FilterConfig) -> Rejection | None:
    """The first reason to reject a file, or None where it is to be kept; steps after that one are not run."""
    return next((found.rejection for found in decisions(file, measures, config) if found.rejection is not None), None)


def decisions(file: FileText, measures: Measures, config: FilterConfig) -> Iterator[Decision]:
    """What each step says of a file, in order and lazily; it may be asked on after a rejection."""
    subject = _Subject(file, measures, config)
    for name, step in _STEPS:
        finding = step(subject)
        yield Decision(name, Rejection(name, finding.detail) if finding.rejected else None, finding.detail)


def _empty(subject: _Subject) -> _Finding:
    size = subject.measures.size
    if not subject.file.content or subject.file.content.isspace():
        return _Finding(True, f"{size} bytes, nothing but blanks")
    return _Finding(False, f"{size} bytes")


def _too_short(subject: _Subject) -> _Finding:
    config, content = subject.config, subject.file.content
    num_characters = len(content.strip())
    if num_characters < config.min_characters:
        return _Finding(True, f"{num_characters} characters < {config.min_characters}")
    if config.min_lines > 1:
        num_lines = sum(1 for line in content.splitlines() if not line.isspace() and line)
        if num_lines < config.min_lines:
            return _Finding(True, f"{num_lines} lines < {config.min_lines}")
    return _Finding(False, f"{num_characters} characters >= {config.min_characters}, lines >= {config.min_lines}")


def _mean_line_length(subject: _Subject) -> _Finding:
    value, limit = subject.measures.avg_line_length, subject.config.max_mean_line_length
    return _compared(value > limit, f"{value:.1f}", f"{limit:g}")


def _max_line_length(subject: _Subject) -> _Finding:
    value, limit = subject.measures.max_line_length, subject.config.max_line_length
    return _compared(value > limit, f"{value}", f"{limit}")


def _alphanum_fraction(subject: _Subject) -> _Finding:
    value, limit = subject.measures.alphanum_fraction, subject.config.min_alphanum_fraction
    return _Finding(value < limit, f"{value:.3f} {'<' if value < limit else '>='} {limit:g}")


def _markup(subject: _Subject) -> _Finding:
    if not subject.config.markup or subject.file.language.id == "html":
        return _Finding(False, "not looked for")
    found = _XML.search(subject.file.content[:XML_HEAD])
    return _Finding(found is not None, "begins as XML" if found else "does not begin as XML")


def _auto_generated(subject: _Subject) -> _Finding:
    if not subject.config.auto_generated:
        return _Finding(False, "not looked for")
    found = generated_kind(subject.file)
    return _Finding(True, f"{found.kind}: {found.evidence}") if found else _Finding(False, "no sign of a generator")


def _encoded_data(subject: _Subject) -> _Finding:
    config = subject.config
    found = encoded_data(subject.file.content)
    share = found.total / max(1, len(subject.file.content))
    if found.longest > config.max_encoded_run:
        return _Finding(True, f"{found.kind} of {found.longest} characters > {config.max_encoded_run}")
    return _compared(share > config.max_encoded_fraction, f"{share:.3f}", f"{config.max_encoded_fraction:g}")


def _text_ratio(subject: _Subject) -> _Finding:
    if subject.file.language.id != "html":
        return _Finding(False, "not HTML")
    limit = subject.config.min_visible_text
    text = _BLANKS.sub(" ", _INVISIBLE.sub(" ", subject.file.content)).strip()
    value = len(text) / max(1, len(subject.file.content))
    rejected = value <= limit and limit > 0
    return _Finding(rejected, f"{value:.3f} {'<=' if value <= limit else '>'} {limit:g}")


def _does_not_parse(subject: _Subject) -> _Finding:
    config, language = subject.config, subject.file.language.id
    limit = config.max_error_fractions.get(language, config.max_error_fraction)
    if limit >= 1:
        return _Finding(False, "not looked at")
    parsed = subject.syntax
    if parsed is None:
        return _Finding(False, f"no verdict: no grammar, larger than {config.max_parse_bytes} bytes, or too much work")
    if parsed.error_fraction > limit:
        return _Finding(True, f"{parsed.error_fraction:.3f} > {limit:g} of it is no {subject.file.language.stack_name}")
    if parsed.cut_off and config.cut_off:
        return _Finding(True, "it ends within a block or an error")
    conflict = syntax.conflict_line(subject.file.content) if parsed.num_errors else None
    if conflict is not None:
        return _Finding(True, f"an unresolved merge on line {conflict}")
    return _Finding(False, f"{parsed.error_fraction:.3f} <= {limit:g}")


def _comment_ratio(subject: _Subject) -> _Finding:
    """The estimate decides where it is far from both bounds, or where nothing better is at hand."""
    low, high = subject.config.min_comment_fraction, subject.config.max_comment_fraction
    if low <= 0 and high >= 1:
        return _Finding(False, "not looked at")
    value = syntax.estimated_comment_fraction(subject.file.content, subject.file.language)
    certain = value < high / 2 and (low <= 0 or value > 2 * low + 0.05)
    if not certain and (parsed := subject.syntax) is not None:
        value, certain = parsed.comment_fraction(), True
        about = ""
    else:
        about = "about "
    if value < low:
        return _Finding(True, f"{about}{value:.3f} < {low:g}")
    return _compared(value > high, f"{about}{value:.3f}", f"{high:g}")


def _compared(above: bool, value: str, limit: str) -> _Finding:
    return _Finding(above, f"{value} {'>' if above else '<='} {limit}")


_STEPS: tuple[tuple[str, Callable[[_Subject], _Finding]], ...] = (
    ("empty", _empty),
    ("too-short", _too_short),
    ("mean-line-length", _mean_line_length),
    ("max-line-length", _max_line_length),
    ("alphanum-fraction", _alphanum_fraction),
    ("markup", _markup),
    ("auto-generated", _auto_generated),
    ("encoded-data", _encoded_data),
    ("text-ratio", _text_ratio),
    ("does-not-parse", _does_not_parse),
    ("comment-ratio", _comment_ratio),
)
