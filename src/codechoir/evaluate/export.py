"""Everything that was judged, as MultiPL-E's own files: `multipl-e/MODEL/LANGUAGE/`, two files a problem.

Reads the verdicts back from where they were appended and the completions from where they came, so that memory holds one
problem at a time. Knows nothing of how programs are run or scored.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codechoir.console import say
from codechoir.evaluate.given import Completions
from codechoir.evaluate.interchange import write_problem
from codechoir.evaluate.ledger import MULTIPL_E, Ledger, folder_of, verdict_path
from codechoir.records import Verdict, parse_record


def write_multipl_e(out: Path, ledger: Ledger, completions: Completions) -> None:
    """Writes the files of all models and languages that were judged whole.

    Where a program could not be run there is no honest word for it in MultiPL-E's results, which would count a failure:
    that model's files of that language are not written, and this is said.
    """
    timestamp = int(time.time())
    tallies = ledger.tallies()
    starts = np.zeros(len(ledger), dtype=np.int64)
    for number, group in enumerate(ledger.groups):
        if tallies[group.model][group.language].num_broken.any():
            say(f"evaluate: no MultiPL-E files of {group.model} in {group.language}: not all programs could be run")
            continue
        path = verdict_path(out, group.model, group.language)
        _find_lines(path, ledger, starts)
        folder = out / MULTIPL_E / folder_of(group.model) / group.language
        with path.open("rb") as file:
            for positions in ledger.by_problem(number):
                verdicts = []
                for position in positions:
                    file.seek(int(starts[position]))
                    verdicts.append(parse_record(Verdict, file.readline().rstrip(b"\n"), str(path)))
                texts = [completions[position] for position in positions]
                write_problem(folder, ledger.problem(positions[0]), texts, verdicts, timestamp)
    completions.close()


def _find_lines(path: Path, ledger: Ledger, starts: NDArray[np.int64]) -> None:
    """Notes where each completion's verdict begins in its file."""
    start = 0
    with path.open("rb") as file:
        for line in file:
            position = ledger.position(parse_record(Verdict, line.rstrip(b"\n"), str(path)))
            if position is not None:
                starts[position] = start
            start += len(line)
