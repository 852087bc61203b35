"""Runs all arms of a recipe and tells which MoE, if any, beats the dense model: `python -m bench.arms RECIPE`

Every arm is a run of the recipe (`codechoir run`) with some values changed, below build/bench/arms; they share one
curation, and arms that train alike share a training. Run again, it carries on. The page tells what is finished.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

from bench.arms.arms import Arm, arms
from bench.arms.page import page
from bench.pages import command_given, machine, page_parser, write_page
from codechoir.recipe import load_recipe


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is missing and writes the page."""
    parser = page_parser("arms", __doc__)
    parser.add_argument("recipe", type=Path, help="its trunk's and its expert's sequences together are every arm's")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="KEY=VALUE, as for codechoir run")
    parser.add_argument("--only", nargs="*", help="names of arms; none: all")
    parser.add_argument(
        "--beside", nargs="*", type=Path, default=[], help="other finished runs to compare with, as of another rate"
    )
    parser.add_argument("--jobs", type=int, default=1, help="arms at a time, on equal shares of the CPU cores")
    parser.add_argument("--work", type=Path, default=Path("build/bench/arms"), help="where the runs lie")
    options = parser.parse_args(arguments)
    recipe = load_recipe(options.recipe, options.overrides)
    told = [str(options.recipe), *(f"--set={each}" for each in options.overrides)]
    chosen = [arm for arm in arms(recipe) if not options.only or arm.name in options.only]
    _codechoir([*told, "--only=curate", f"--out={options.work / 'curated'}"], 1)
    groups = [list(group) for _, group in groupby(chosen, key=lambda arm: arm.train)]
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda group: _run(group, told, options.work, options.jobs), groups))
    runs = [(arm.name, options.work / arm.folder) for arm in chosen]
    text = page(command_given("arms"), machine(), recipe, runs, [(path.name, path) for path in options.beside])
    write_page(text, options.out)
    return 0


def _run(group: Sequence[Arm], told: Sequence[str], work: Path, jobs: int) -> None:
    """Runs arms that train alike: all but the first go on from its training."""
    for arm in group:
        folder = work / arm.folder
        _linked(work / "curated" / "curate", folder / "curate")
        if arm is not group[0]:
            _linked(work / group[0].folder / "train", folder / "train")
        stages = ["--only=train", "--only=compose", "--only=generate"]
        _codechoir([*told, *arm.settings(), *stages, f"--out={folder}"], jobs)


def _linked(finished: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        place.symlink_to(finished.resolve(), target_is_directory=True)


def _codechoir(arguments: Sequence[str], jobs: int) -> None:
    threads = str(max(1, len(os.sched_getaffinity(0)) // jobs))
    command = [sys.executable, "-m", "codechoir", "run", *arguments]
    subprocess.run(command, check=True, env={"OMP_NUM_THREADS": threads} | os.environ)


if __name__ == "__main__":
    sys.exit(main())
