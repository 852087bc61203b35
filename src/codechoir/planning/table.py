"""A plan as text: two tables and the proposal, at most 120 columns wide. Knows nothing of where figures come from."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from codechoir.planning.corpus import Amount
from codechoir.planning.needs import Need
from codechoir.planning.plan import Plan
from codechoir.planning.proposal import LEAST_MET, NUM_PROPOSED, AtHand

WIDTH = 120
_GIB, _MIB, _MB = 2**30, 2**20, 10**6
_INDENT = " " * 4


def lines_of(plan: Plan) -> Iterator[str]:
    """The lines to print."""
    shown = [one for one in plan.languages if _has_anything(one)]
    yield "Languages (* in the recipe; files by their names, MB of content, before curation)"
    yield ""
    yield from _aligned([_HEAD, *map(_row, sorted(shown, key=lambda one: (not one.in_recipe, -one.there.num_bytes)))])
    nothing = [one.language for one in plan.languages if not _has_anything(one)]
    if nothing:
        yield ""
        yield from textwrap.wrap(f"Nothing at hand: {', '.join(nothing)}", WIDTH, break_on_hyphens=False)
    yield ""
    machine = plan.machine
    memory = f"{machine.free_memory / _GIB:.1f} of {machine.memory / _GIB:.1f} GiB of memory free"
    yield f"Stages here ({machine.cores} cores, {memory}, {machine.free_disk / _GIB:.1f} GiB of disk free)"
    yield ""
    yield f"{'stage':<10}{'time':>10}{'memory':>12}{'disk':>12}"
    for need in plan.needs:
        yield f"{need.stage:<10}{_time(need.seconds):>10}{_bytes(need.memory):>12}{_bytes(need.disk):>12}"
        yield from textwrap.wrap(need.how, WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)
    yield _total(plan.needs)
    yield ""
    yield from _proposal(plan)
    for warning in plan.warnings:
        yield from textwrap.wrap(f"note: {warning}", WIDTH, subsequent_indent=_INDENT)


def _has_anything(one: AtHand) -> bool:
    return one.in_recipe or one.there.num_files > 0 or one.toolchain in ("works", "installed") or one.num_problems > 0


_HEAD = ("", "there", "", "", "taken", "", "", "kept", "", "toolchain", "problems")
_UNITS = ("language", "files", "MB", "packages", "files", "MB", "packages", "files", "MB", "", "")


def _row(one: AtHand) -> tuple[str, ...]:
    kept = one.kept or Amount()
    return (
        one.language + "*" * one.in_recipe,
        *_amount(one.there),
        *_amount(one.taken if one.in_recipe else Amount()),
        *_amount(kept)[:2],
        one.toolchain,
        str(one.num_problems or "none"),
    )


def _amount(amount: Amount) -> tuple[str, str, str]:
    if not amount.num_files:
        return "-", "-", "-"
    return f"{amount.num_files:,}", f"{amount.num_bytes / _MB:,.2f}", f"{amount.num_packages:,}"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns as wide as their widest cell; figures to the right, the first column and the words to the left."""
    rows = [rows[0], _UNITS, *rows[1:]]
    widths = [max(len(row[place]) for row in rows) for place in range(len(_UNITS))]
    words = {0, _HEAD.index("toolchain")}
    for row in rows:
        cells = [
            cell.ljust(width) if place in words else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _total(needs: Sequence[Need]) -> str:
    seconds = [need.seconds for need in needs if need.seconds is not None]
    memory = [need.memory for need in needs if need.memory is not None]
    disk = [need.disk for need in needs if need.disk is not None]
    unknown = [need.stage for need in needs if need.seconds is None]
    line = f"{'together':<10}{_time(sum(seconds)):>10}{_bytes(max(memory, default=None)):>12}{_bytes(sum(disk)):>12}"
    return line + (f"    without {', '.join(unknown)}" if unknown else "")


def _proposal(plan: Plan) -> Iterator[str]:
    proposed = [choice.language for choice in plan.choices if choice.proposed]
    named = [one.language for one in plan.languages if one.in_recipe]
    like = "the recipe's own" if set(proposed) == set(named) else f"the recipe names {', '.join(named)}"
    few = ""
    if len(proposed) < NUM_PROPOSED:
        few = f"; fewer than {NUM_PROPOSED}: others lack data, or meet fewer than {LEAST_MET} of the three demands"
    yield from textwrap.wrap(f"Proposed to train: {', '.join(proposed) or 'none'} ({like}{few})", WIDTH)
    yield ""
    width = max((len(choice.language) for choice in plan.choices), default=0)
    for choice in plan.choices:
        start = f"{'+' if choice.proposed else '-'} {choice.language:<{width}}  "
        yield from textwrap.wrap(start + choice.reason, WIDTH, subsequent_indent=" " * len(start))
    yield ""


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    whole = round(seconds)
    return (
        f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"
        if whole >= 3600
        else f"{whole // 60}:{whole % 60:02}"
    )


def _bytes(num_bytes: int | None) -> str:
    if num_bytes is None:
        return "?"
    return f"{num_bytes / _GIB:.1f} GiB" if num_bytes >= _GIB else f"{num_bytes / _MIB:.1f} MiB"
