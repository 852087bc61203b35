"""Tells the benchmark's results as a Markdown page. Measures nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from statistics import median
from typing import Any

from bench.pages import met, table

OURS, OURS_ALL = "ours, feed-forward", "ours, all weights"
PEER, PEER_ALL = "Trainer, feed-forward", "Trainer, all weights"
MIN_AGAINST_ALL, MIN_AGAINST_SAME, MAX_MEMORY_SHARE = 1.2, 1.05, 0.6
MIN_UTILISATION = {"135m": 0.25, "1.3b": 0.4}
PACKAGES = ("codechoir", "torch", "transformers", "accelerate")


def page(is_quick: bool, parts: Mapping[str, Any]) -> str:
    """The whole page of what `__main__` kept of each part: its device, command, machine and figures."""
    told = [
        "# Training beside transformers' Trainer",
        "Each part was made by the command beside it. Same model, sequences and optimiser; a process each, "
        "interleaved. Medians over rounds of the median step. On a CPU, memory is the process's largest resident set, "
        "imports included; on a GPU, the most that torch had allocated there.",
    ]
    if is_quick:
        told.append("A QUICK RUN on a toy model: the figures mean nothing.")
    for part in ("cpu", "gpu"):
        for dtype, runs in parts.get(part, {"found": {}})["found"].items():
            told += _table(parts[part], dtype, runs)
    told += [
        "## Model FLOPs utilisation",
        *_utilisation({shape: parts[shape] for shape in MIN_UTILISATION if shape in parts}),
    ]
    return "\n\n".join(told) + "\n"


def versions() -> str:
    """Of what the speed here hangs on."""
    return ", ".join(f"{name} {version(name)}" for name in PACKAGES)


def speed(runs: Sequence[Mapping[str, Any]]) -> float:
    """Tokens a second."""
    return median(run["step_tokens"] / median(run["seconds"]) for run in runs)


def _table(part: Mapping[str, Any], dtype: str, runs: Mapping[str, Any]) -> list[str]:
    memory = {name: median(run["peak_mib"] for run in some) for name, some in runs.items()}
    rows = [(name, f"{speed(some):,.0f}", f"{memory[name]:,.0f}") for name, some in runs.items()]
    all_, same = speed(runs[OURS]) / speed(runs[PEER_ALL]), speed(runs[OURS]) / speed(runs[PEER])
    share = memory[OURS] / memory[PEER_ALL]
    targets = [
        f"- By Trainer's speed with all weights: {all_:.2f} (asked for {MIN_AGAINST_ALL}: "
        f"{met(all_ >= MIN_AGAINST_ALL)})",
        f"- with the same weights: {same:.2f} (asked for {MIN_AGAINST_SAME}: {met(same >= MIN_AGAINST_SAME)})",
        f"- Peak memory by Trainer's with all weights: {share:.0%} (asked for at most {MAX_MEMORY_SHARE:.0%}: "
        f"{met(share <= MAX_MEMORY_SHARE)})",
    ]
    rounds = len(runs[OURS])
    return [
        f"## On {part['device']}, {dtype}",
        f"{part['told']} {rounds} round{'s' if rounds > 1 else ''}.",
        table(("contestant", "tokens/s", "peak memory, MiB"), rows),
        "\n".join(targets),
    ]


def _utilisation(parts: Mapping[str, Any]) -> list[str]:
    if not parts:
        return ["There was no GPU here, so nothing was measured."]
    rows: list[tuple[str, ...]] = []
    machines: dict[str, list[str]] = {}
    for shape, part in parts.items():
        machines.setdefault(part["told"], []).append(shape)
        each, target = part["found"], MIN_UTILISATION[shape]
        verdict = f"{target:.0%}: {met(each['share'] >= target)}"
        figures = (f"{each['speed']:,.0f}", f"{each['share']:.1%}", verdict, f"{each['peak_mib']:,.0f}")
        rows.append((shape, part["device"], *figures))
    return [
        "Feed-forward training in bfloat16, sequences of 1,024 tokens; of the peak in dense bfloat16 that the device's "
        "maker states. Two operations a weight forward, two for the states' gradients, two for those of the weights "
        "that move.",
        table(("shape", "device", "tokens/s", "of the peak", "asked for", "peak memory, MiB"), rows),
        *(f"{', '.join(shapes)}: {told}" for told, shapes in machines.items()),
    ]
