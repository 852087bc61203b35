"""Composing a large model beside copying its bytes: what is run, and how much was moved. Both end with a sync."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.compose.layout import LANGUAGES, expert_options
from bench.compose.measure import MIB, Measured, measure

FORMS = {"whole models": ".", "feed-forward weights": "feed-forward"}  # and the folder that they lie in


def measure_copying(inputs: Path, work: Path, rounds: int, tell: Any) -> dict[str, Any]:
    """Composes, copies the output, removes both; once for each form of the experts in each round."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for form in FORMS for name in (form, f"cp after {form}")}
    sizes: dict[str, Any] = {}
    work.mkdir(parents=True, exist_ok=True)
    for number in range(rounds):
        for form, place in FORMS.items():
            out, copy = work / "out", work / "copy"
            _remove(out, copy)
            measured = _composed(inputs, place, out, work / "log.txt")
            runs[form].append(asdict(measured))
            tell(f"round {number + 1}, {form}", measured)
            if measured.exit_code == 0:
                # --reflink=never: a file system that can would else share the bytes and copy none
                measured = _synced(["cp", "-r", "--reflink=never", str(out), str(copy)], work / "log.txt")
                runs[f"cp after {form}"].append(asdict(measured))
                tell(f"round {number + 1}, cp", measured)
                sizes = {"output_mib": _mib(out.iterdir()), "largest_shard_mib": max(_mib([f]) for f in out.iterdir())}
            _remove(out, copy)
    for form, place in FORMS.items():
        folders = [inputs / "base", *(inputs / place / name for name in LANGUAGES)]
        sizes[form] = sum(_mib(folder.iterdir()) for folder in folders)
    return {"runs": runs, "sizes": sizes}


def _composed(inputs: Path, place: str, out: Path, log: Path) -> Measured:
    codechoir = str(Path(sys.executable).with_name("codechoir"))
    command = [codechoir, "compose", "--base", str(inputs / "base"), *expert_options(inputs / place)]
    return _synced([*command, "--out", str(out), "--set", "prove=false"], log)


def _synced(command: Sequence[str], log: Path) -> Measured:
    return measure(["sh", "-c", '"$@" && sync', "sh", *command], log)


def _mib(files: Any) -> float:
    return sum(file.stat().st_size for file in files if file.is_file()) / MIB


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
