"""Which languages to train: those that there is enough of, and whose programs can be judged here.

Goes in: what is at hand for each language, and how much the recipe trains on. Comes out: a `Choice` a language, with
its reason, and what the recipe's own languages lack. Knows nothing of how anything was found out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from codechoir.planning.corpus import Amount

NUM_PROPOSED = 4
LEAST_MET = 2  # of the three demands
BYTES_A_TOKEN = 4  # of code, about

ToolchainState = Literal["works", "installed", "broken", "missing", "none known"]


@dataclass(frozen=True, slots=True)
class AtHand:
    """What there is for one language."""

    language: str  # Language.id
    in_recipe: bool
    there: Amount
    taken: Amount
    kept: Amount | None  # where curation is finished
    toolchain: ToolchainState
    toolchain_detail: str  # why it does not work
    num_problems: int
    problems_reason: str  # why there are none

    @property
    def usable_bytes(self) -> int:
        """What could be trained on: what is kept or taken, and in a language not asked for, what is there."""
        return (self.kept or self.taken if self.in_recipe else self.there).num_bytes

    @property
    def num_tokens(self) -> int:
        """The same in tokens, about."""
        return self.usable_bytes // BYTES_A_TOKEN


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether a language is proposed, and why."""

    language: str
    proposed: bool
    reason: str


def propose(languages: Sequence[AtHand], num_tokens: int) -> tuple[Choice, ...]:
    """Ranks the languages that have data, or that the recipe names, best first, and proposes the first four.

    Better is what meets more of three demands: the `num_tokens` tokens asked for are there, its programs run here,
    there are problems to judge it by. Of equals, the one that the recipe names is better, then the one with more data.
    Languages that meet fewer than two are not proposed, nor are those without data.
    """
    ranked = sorted(
        (one for one in languages if one.usable_bytes or one.in_recipe),
        key=lambda one: (
            not one.usable_bytes,
            -len(_met(one, num_tokens)),
            not one.in_recipe,
            -one.usable_bytes,
            one.language,
        ),
    )
    fit = [one.language for one in ranked if one.usable_bytes and len(_met(one, num_tokens)) >= LEAST_MET]
    return tuple(_choice(one, num_tokens, one.language in fit[:NUM_PROPOSED]) for one in ranked)


def _choice(one: AtHand, num_tokens: int, proposed: bool) -> Choice:
    met, lacking = _met(one, num_tokens), [said for _, said in _lacking(one, num_tokens)]
    if not proposed and not lacking:
        return Choice(one.language, False, f"{', '.join(met)}; but four others have as much, and more data")
    first, second = (met, lacking) if proposed else (lacking, met)
    return Choice(one.language, proposed, "; but ".join(", ".join(part) for part in (first, second) if part))


def shortcomings(languages: Sequence[AtHand], num_tokens: int) -> list[str]:
    """What each of the recipe's own languages lacks, a line each; a language that lacks nothing has none."""
    lines = []
    for one in languages:
        lacking = [name for name, _ in _lacking(one, num_tokens)]
        if one.in_recipe and lacking:
            lines.append(f"{one.language}, which the recipe names, lacks {', '.join(lacking)}")
    return lines


def _met(one: AtHand, num_tokens: int) -> list[str]:
    """What speaks for a language."""
    met = []
    if one.num_tokens >= num_tokens:
        met.append(f"{_tokens(one)} of {num_tokens:,} asked for")
    if one.toolchain == "works":
        met.append("its toolchain works")
    if one.num_problems:
        met.append(f"{one.num_problems} problems")
    return met


def _lacking(one: AtHand, num_tokens: int) -> list[tuple[str, str]]:
    """What speaks against it: a name each, and what is to be said of it."""
    lacking = []
    if not one.usable_bytes:
        there = f" ({one.there.num_bytes:,} bytes of it are there)" if one.there.num_bytes else ""
        lacking.append(("data", f"the sources give no file of it{there}"))
    elif one.num_tokens < num_tokens:
        lacking.append(("data", f"only {_tokens(one)} of {num_tokens:,} asked for"))
    if one.toolchain == "none known":
        lacking.append(("a toolchain", "its programs cannot be run"))
    elif one.toolchain not in ("works", "installed"):
        lacking.append(("a toolchain", f"its toolchain is {one.toolchain} ({one.toolchain_detail})"))
    if not one.num_problems:
        reason = f" ({one.problems_reason})" if one.in_recipe and one.problems_reason else ""
        lacking.append(("problems", f"no problems{reason}"))
    return lacking


def _tokens(one: AtHand) -> str:
    return f"about {one.num_tokens:,} tokens"
