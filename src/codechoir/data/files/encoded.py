"""Data written as code: base64, hexadecimal digits, `\\x` and `\\u` escapes, lists of bytes.

Owns what counts as such a piece and how long it is; knows no thresholds. The forms are OpenCoder's; a piece here must
also look like data, so that paths, identifiers, repeated characters and long numbers are not taken for it, nor the
tables of hand-written code (a CRC table has 32-bit entries; an S-box of 256 bytes is 512 digits long).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

SHORTEST = 64  # characters: no shorter piece is looked at
_SHORTEST_WORD = 40  # of base64 that is broken into lines

_JOINT = r"""(?:\\[nr]|["'\\+,.;&\s])*"""  # what joins the parts of a literal over line ends
_WORD = rf"[A-Za-z0-9+/]{{{_SHORTEST_WORD},}}={{0,2}}"
_BASE64 = re.compile(rf"{_WORD}(?:{_JOINT}{_WORD})*".encode())
_ESCAPE = r"(?:\\x[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}){8,}"
_ESCAPES = re.compile(rf"{_ESCAPE}(?:{_JOINT}{_ESCAPE})*")
_BYTES = re.compile(r"(?:\b0[xX][0-9A-Fa-f]{1,2}\s*,\s*){32,}")
_HEX_DIGITS = re.compile(rb"[0-9A-Fa-f]+")

_UPPER, _LOWER, _DIGITS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"abcdefghijklmnopqrstuvwxyz", b"0123456789"
_BETWEEN = b"\\ \t\r\n\"',.;&="  # what joins parts, but for "+", which base64 uses
_LETTERS = bytes.maketrans(_UPPER + _LOWER + _DIGITS + b"+/", b"a" * 64)  # for speed: a word is found as a run of "a"
_RUN = b"a" * _SHORTEST_WORD


@dataclass(frozen=True, slots=True)
class Encoded:
    """What of a file is encoded data."""

    longest: int  # characters of data in the longest piece: quotes, blanks and the `0x` of bytes left out
    total: int  # characters that all pieces take up, as they stand in the file; of bytes their digits
    kind: str  # of the longest piece: base64, hex, escapes or bytes; empty where there is none


def encoded_data(content: str) -> Encoded:
    """The encoded data in a file."""
    longest, total, kind = 0, 0, ""
    for found, size, extent in _pieces(content):
        total += extent
        if size > longest:
            longest, kind = size, found
    return Encoded(longest, total, kind)


def _pieces(content: str) -> Iterator[tuple[str, int, int]]:
    """Kind, characters of data and extent of each piece; most files have no long word and few marks: seen at once."""
    data = content.encode()
    letters = data.translate(_LETTERS)
    start = letters.find(_RUN)
    while start >= 0:
        match = _BASE64.match(data, start)
        assert match is not None  # the run found is one of its words
        text = match.group().translate(None, _BETWEEN)
        kind = _looks_encoded(text) if len(text) >= SHORTEST else None
        if kind is not None:
            yield kind, len(text), match.end() - start
        start = letters.find(_RUN, match.end())
    if content.count("\\x") + content.count("\\u") >= 16:
        for escapes in _ESCAPES.finditer(content):
            yield "escapes", escapes.end() - escapes.start(), escapes.end() - escapes.start()
    if content.count("0x") + content.count("0X") >= 32:
        for numbers in _BYTES.finditer(content):
            num_digits = 2 * numbers.group().count(",")
            yield "bytes", num_digits, num_digits  # what surrounds the digits is code's usual way to write numbers


def _looks_encoded(text: bytes) -> str | None:
    """Whether letters and digits are mixed as data mixes them: "hex", "base64" or None."""
    num_upper, num_lower, num_digits = (
        len(text) - len(text.translate(None, kind)) for kind in (_UPPER, _LOWER, _DIGITS)
    )
    if num_digits < 0.03 * len(text) or len(set(text)) < 8:
        return None
    if _HEX_DIGITS.fullmatch(text):
        return "hex" if num_upper + num_lower >= 0.1 * len(text) else None  # else a number
    if num_upper < 0.2 * len(text) or num_lower < 0.1 * len(text):
        return None
    return "base64"
