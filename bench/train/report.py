"""Tells the benchmark's results as a Markdown page. Measures nothing."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from statistics import median
from typing import Any

OURS, OURS_ALL = "ours, feed-forward", "ours, all weights"
PEER, PEER_ALL = "Trainer, feed-forward", "Trainer, all weights"
MIN_AGAINST_ALL, MIN_AGAINST_SAME, MAX_MEMORY_SHARE = 1.2, 1.05, 0.6
MIN_UTILISATION = {"135m": 0.25, "1.3b": 0.4}
PACKAGES = ("codechoir", "torch", "transformers", "accelerate")


def page(command: str, is_quick: bool, found: Mapping[str, Any]) -> str:
    """The whole page; `found` is what `__main__` kept: device, tables by number format, and utilisation by shape."""
    parts = [
        "# Training beside transformers' Trainer",
        f"Made by `{command}` on {platform.machine()}, {len(os.sched_getaffinity(0))} CPUs, computing on "
        f"{found['device']}. Same model, sequences and optimiser; a process each, interleaved. "
        "Medians over rounds of the median step; memory is the process's largest resident set, imports included.",
    ]
    if is_quick:
        parts.append("A QUICK RUN on a toy model: the sizes told below are the full run's, the figures are not.")
    for dtype, runs in found["tables"].items():
        parts += _table(dtype, runs)
    parts.append("## Model FLOPs utilisation")
    parts += _utilisation(found["utilisation"], found["device"])
    return "\n\n".join([*parts, "## Versions", "\n".join(f"- {name} {version(name)}" for name in PACKAGES)]) + "\n"


def speed(runs: Sequence[Mapping[str, Any]]) -> float:
    """Tokens a second."""
    return median(run["step_tokens"] / median(run["seconds"]) for run in runs)


def _table(dtype: str, runs: Mapping[str, Any]) -> list[str]:
    rows = ["| contestant | tokens/s | peak memory, MiB |", "|---|---|---|"]
    memory = {name: median(run["peak_mib"] for run in some) for name, some in runs.items()}
    rows += [f"| {name} | {speed(some):,.0f} | {memory[name]:,.0f} |" for name, some in runs.items()]
    all_, same = speed(runs[OURS]) / speed(runs[PEER_ALL]), speed(runs[OURS]) / speed(runs[PEER])
    share = memory[OURS] / memory[PEER_ALL]
    targets = [
        f"- By Trainer's speed with all weights: {all_:.2f} (target {MIN_AGAINST_ALL}: "
        f"{_met(all_ >= MIN_AGAINST_ALL)})",
        f"- with the same weights: {same:.2f} (target {MIN_AGAINST_SAME}: {_met(same >= MIN_AGAINST_SAME)})",
        f"- Peak memory by Trainer's with all weights: {share:.0%} (target at most {MAX_MEMORY_SHARE:.0%}: "
        f"{_met(share <= MAX_MEMORY_SHARE)})",
    ]
    return [f"## {dtype}", "\n".join(rows), "\n".join(targets)]


def _utilisation(found: Mapping[str, Any], device: str) -> list[str]:
    if not found:
        return ["There was no GPU here, so nothing was measured."]
    rows = ["| shape | tokens/s | of the peak | target |", "|---|---|---|---|"]
    for shape, each in found.items():
        target = MIN_UTILISATION.get(shape)
        met = f"{target:.0%}: {_met(each['share'] >= target)}" if target else "–"
        rows.append(f"| {shape} | {each['speed']:,.0f} | {each['share']:.1%} | {met} |")
    told = "Two operations a weight forward, two for the states' gradients, two for those of the weights that move."
    return [f"Feed-forward training in bfloat16 on {device}. {told}", "\n".join(rows)]


def _met(is_met: bool) -> str:
    return "met" if is_met else "not met"
