"""Replaces secrets and personal data: the same secret by the same stand-in, in every file and every run.

Owns merging and replacing, and what a stand-in looks like: it keeps the secret's shape, so that the file still parses,
and is never found again, so that redacting twice changes nothing. What is found, and why, is told by `secret_kinds.py`
(tokens, private keys), `secret_names.py` (passwords, whatever a name calls secret) and `personal_data.py`.

The table of kinds is our own, as the scanners at hand give overlapping spans in the order of a set and leave parts of
tokens in. Nothing here shows a secret: findings say kind and place.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from codechoir.data.config import SecretConfig
from codechoir.data.files.personal_data import find_emails, find_ip_addresses
from codechoir.data.files.secret_kinds import KINDS, Span, find_private_keys, find_tokens
from codechoir.data.files.secret_names import find_authorization, find_named, find_url_passwords
from codechoir.data.files.secret_values import MARK, stand_in
from codechoir.languages import Language

_RESERVED_DOMAINS = ("example.com", "example.org", "example.net")  # RFC 2606
_RESERVED_NETWORKS = ("192.0.2", "198.51.100", "203.0.113")  # RFC 5737
_ROUNDS = 5  # one is nearly always enough
_PRECEDENCE = {kind: place for place, kind in enumerate(KINDS)}


@dataclass(frozen=True, slots=True)
class Finding:
    """What was replaced: the original's characters `start` to `end`."""

    kind: str
    start: int
    end: int
    replacement: str
    line: int  # of its start, from 1


@dataclass(frozen=True, slots=True)
class Redaction:
    """A file without its secrets, and what was replaced, from front to back."""

    content: str
    findings: tuple[Finding, ...]

    def summary(self) -> str:
        """One line for people: kinds and lines, never the secret ("2 replaced: email (lines 3, 9)")."""
        if not self.findings:
            return "no secrets or personal data found"
        lines: dict[str, list[int]] = {}
        for finding in self.findings:
            lines.setdefault(finding.kind, []).append(finding.line)
        told = ", ".join(f"{kind} ({_told(sorted(set(places)))})" for kind, places in sorted(lines.items()))
        return f"{len(self.findings)} replaced: {told}"


def _told(lines: list[int]) -> str:
    """Sorted line numbers, those in a row as a range: "lines 3-5, 9"."""
    ranges: list[list[int]] = []
    for line in lines:
        if ranges and line == ranges[-1][1] + 1:
            ranges[-1][1] = line
        else:
            ranges.append([line, line])
    shown = ", ".join(f"{first}-{last}" if first < last else f"{first}" for first, last in ranges)
    return f"line{'s' if len(lines) > 1 else ''} {shown}"


def redact(content: str, language: Language, config: SecretConfig) -> Redaction:
    """Replaces every secret of the kinds that `config` asks for.

    The result is searched again: a stand-in may give what is beside it another meaning. What is found then is replaced
    together with the stand-ins it touches, until nothing is found.
    """
    spans = _merged(_spans(content, language, config))
    redaction = _replaced(content, spans)
    for _ in range(_ROUNDS if spans else 0):
        more = _spans(redaction.content, language, config)
        if not more:
            break
        spans = _merged([*spans, *(_in_original(span, redaction.findings) for span in more)])
        redaction = _replaced(content, spans)
    return redaction


def _replaced(content: str, spans: list[Span]) -> Redaction:
    findings, parts, done, line = [], [], 0, 1
    for span in spans:
        replacement = _replacement(content[span.start : span.end], span)
        line += content.count("\n", done, span.start)
        findings.append(Finding(span.kind, span.start, span.end, replacement, line))
        line += content.count("\n", span.start, span.end)
        parts += [content[done : span.start], replacement]
        done = span.end
    return Redaction("".join([*parts, content[done:]]), tuple(findings))


def _in_original(span: Span, findings: tuple[Finding, ...]) -> Span:
    """A span of the text in which `findings` were replaced, in the original, with the whole of every one it touches."""
    start: int | None = None
    end: int | None = None
    shift, shapeless = 0, False
    for finding in findings:
        first = finding.start + shift
        last = first + len(finding.replacement)
        shapeless |= first < span.end and span.start < last
        if start is None and span.start < last:
            start = min(span.start - shift, finding.start)
        if end is None and span.end <= last:
            end = span.end - shift if span.end <= first else finding.end
        shift = last - finding.end
    start = span.start - shift if start is None else start
    end = span.end - shift if end is None else end
    return Span(span.kind, start, end, 0 if shapeless else span.keep, shapeless)


def _spans(content: str, language: Language, config: SecretConfig) -> list[Span]:
    data = content.encode("ascii", "replace")  # a byte for each character: offsets stay
    return _wanted(content, _found(content, data, language), config)


def _found(content: str, data: bytes, language: Language) -> Iterator[Span]:
    yield from find_private_keys(data)
    yield from find_tokens(data)
    yield from find_url_passwords(content, data)
    yield from find_authorization(data)
    yield from find_named(content, data, language)
    yield from find_emails(content, data)
    yield from find_ip_addresses(content, data)


def _wanted(content: str, spans: Iterable[Span], config: SecretConfig) -> list[Span]:
    return [
        span
        for span in spans
        if span.kind not in config.skip and not any(one.fullmatch(content, span.start, span.end) for one in config.keep)
    ]


def _merged(spans: list[Span]) -> list[Span]:
    """Spans that share no character, in order: each the union of those that did.

    The first kind of the table names a union; what is known by its prefix keeps that only if it is the whole.
    """
    merged: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end, _PRECEDENCE[span.kind])):
        if not merged or span.start >= merged[-1].end:
            merged.append(span)
            continue
        last = merged[-1]
        first = min(last, span, key=lambda one: _PRECEDENCE[one.kind])
        whole = (last.start, max(last.end, span.end))
        shapeless = last.shapeless or span.shapeless
        if shapeless or (first.start, first.end) != whole:
            first = Span(first.kind, *whole, 0, shapeless)
        merged[-1] = first
    return merged


def _replacement(secret: str, span: Span) -> str:
    if span.shapeless:
        return f"{MARK}{_number(secret) % 100:02d}"
    if span.kind == "email" and re.fullmatch(r"[^@\s]+@[^@\s]+", secret):
        number = _number(secret.lower())
        return f"user{number % 100_000:05d}@{_RESERVED_DOMAINS[number // 100_000 % 3]}"
    if span.kind == "ipv4" and secret.count(".") == 3:
        number = _number(secret)
        return f"{_RESERVED_NETWORKS[number % 3]}.{number // 3 % 254 + 1}"
    if span.kind == "ipv6":
        digits = f"{_number(secret.lower()) % 2**48:012x}"  # RFC 3849
        return f"2001:db8:{digits[:4]}:{digits[4:8]}::{digits[8:]}"
    return stand_in(secret, span.keep)


def _number(secret: str) -> int:
    return int.from_bytes(hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()[:8])
