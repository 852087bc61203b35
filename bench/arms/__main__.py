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
from bench.arms.page import Runs, is_finished, page
from bench.pages import command_given, machine, page_parser, run_program, write_page
from codechoir.errors import ConfigError, InputError
from codechoir.recipe import load_recipe


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is missing and writes the page.

    Raises:
        UserError: before anything runs, if the recipe, a name of `--only` or a folder of `--beside` cannot be used.
    """
    parser = page_parser("arms", __doc__)
    parser.add_argument(
        "recipe", type=Path, help="every arm's sequences are its trunk's, expert's and tuning's together"
    )
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
    chosen = _chosen(arms(recipe), options.only)
    runs = [(arm.name, options.work / arm.folder) for arm in chosen]
    beside = _beside(options.beside, [name for name, _ in runs])
    _codechoir([*told, "--only=curate", f"--out={options.work / 'curated'}"], 1)
    groups = [list(group) for _, group in groupby(chosen, key=lambda arm: arm.train)]
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda group: _run(group, told, options.work, options.jobs), groups))
    write_page(page(command_given("arms"), machine(), recipe, runs, beside), options.out)
    return 0


def _chosen(every: Sequence[Arm], names: Sequence[str] | None) -> list[Arm]:
    """The arms of these names, or all."""
    known = [arm.name for arm in every]
    for name in names or known:
        if name not in known:
            raise ConfigError(
                "--only names an arm that this recipe does not have",
                seen=name,
                allowed="; ".join(known),
                next_step="give --only names from these, each in quotes, or leave it out to run all",
            )
    return [arm for arm in every if not names or arm.name in names]


def _beside(folders: Sequence[Path], taken: Sequence[str]) -> Runs:
    """The finished runs to compare with, each called as its folder is."""
    found: dict[str, Path] = {}
    for folder in folders:
        name = folder.absolute().name
        if not is_finished(folder):
            raise InputError(
                "--beside was given a folder that is no finished run: it has no generate/manifest.json",
                seen=folder,
                allowed="folders of runs whose generate stage is finished",
                next_step="finish that run with `codechoir run`, or leave the folder out",
            )
        if name in found or name in taken:
            raise InputError(
                "two runs of the page would have the same name, and a folder of --beside is called by its last part",
                seen=f"{found[name]} and {folder}" if name in found else f"the arm {name!r} and {folder}",
                allowed="folders whose last parts differ from each other and from the arms' names",
                next_step="rename one of the folders, or leave it out",
            )
        found[name] = folder
    return list(found.items())


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
    done = subprocess.run(command, check=False, env={"OMP_NUM_THREADS": threads} | os.environ)
    if done.returncode == 2:  # a user's error, of which codechoir has told
        sys.exit(2)
    done.check_returncode()


if __name__ == "__main__":
    run_program(main)
