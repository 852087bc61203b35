"""Single-line infilling: which line of a held-out file is cut out, for a model to write back.

In: files, a seed and a model's infilling format. Out: gaps. The benchmarks of InCoder (Fried et al. 2022,
arXiv 2204.05999, section 4.1) and SantaCoder (Ben Allal et al. 2023, arXiv 2301.03988) mask one line, too, but of
HumanEval's solutions. Knows nothing of models or records.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from codechoir.documents import Text
from codechoir.model.infilling_format import NUM_CONTROL, InfillingFormat

MIN_CHARACTERS = 10  # not blank: a bracket or an `else:` tells little


@dataclass(frozen=True, slots=True)
class Limits:
    """Tokens of a prompt, its control tokens included, and of the line that is asked for."""

    prompt: int
    line: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A file's beginning with a line cut out: prefix + middle + suffix.

    The middle is the line without the white space at its ends: indentation is in the prefix, and what ends the line in
    the suffix.
    """

    key: str
    package: str
    prefix: str
    middle: str
    suffix: str


def cut(text: Text, seed: int, form: InfillingFormat, limits: Limits) -> Gap | None:
    """One gap of a file, or None where no line of it will do.

    A line will do that is whole in the file's first tokens (as many as a prompt holds), is not the file's first, has at
    least MIN_CHARACTERS characters that are not blank, and whose gap keeps to the limits. Of these the seed, the file's
    key and the line's place draw one.
    """
    _, beginning = form.encoder.encode_start(text.content, limits.prompt - NUM_CONTROL)
    places = list(_lines(beginning, is_whole=len(beginning) == len(text.content)))
    places.sort(key=lambda place: hashlib.sha256(f"{seed}:{text.key}:{place.start}".encode()).digest())
    for place in places:
        middle = beginning[place.start : place.stop]
        gap = Gap(text.key, text.package, beginning[: place.start], middle, beginning[place.stop :])
        # two pieces by themselves may have more tokens than the beginning that they were cut from
        fits = len(form.prompt(gap.prefix, gap.suffix)) <= limits.prompt
        if fits and len(form.encoder.encode_inner(middle)) <= limits.line:
            return gap
    return None


def cut_first(texts: Iterable[Text], number: int, seed: int, form: InfillingFormat, limits: Limits) -> list[Gap]:
    """The gaps of the first `number` files that have one."""
    gaps = (cut(text, seed, form, limits) for text in texts)
    return list(islice((gap for gap in gaps if gap is not None), number))


def _lines(text: str, *, is_whole: bool) -> Iterator[range]:
    """Where the lines of some substance stand, from the second on; the last only where the file ends there."""
    lines = text.split("\n")
    start = 0
    for number, line in enumerate(lines):
        blank = len(line) - len(line.lstrip())
        middle = line.strip()
        is_last = number == len(lines) - 1
        substance = sum(not character.isspace() for character in middle)
        if number > 0 and substance >= MIN_CHARACTERS and (is_whole or not is_last):
            yield range(start + blank, start + blank + len(middle))
        start += len(line) + 1
