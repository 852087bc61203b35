"""Tells the benchmark's results as a Markdown page. Measures nothing."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from typing import Any

import torch

from bench.pages import met, table

MIN_DECODE = 0.95
MIN_BATCHING = 2.5
MAX_MEDIAN_MS, MAX_P99_MS = 5.0, 20.0
MAX_GROWTH = 0.05


@dataclass(slots=True)
class Results:
    """Everything that was measured. A part that was not run is missing."""

    command: str
    quick: bool
    sizes: Any
    parts: dict[str, Any] = field(default_factory=dict)


def page(results: Results) -> str:
    """The whole page."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}"
    machine += f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    parts = ["# Serving", f"Made by `{results.command}`. {machine}."]
    if results.quick:
        parts.append("**Random toy models and few rounds: this page shows that the benchmark runs, not how fast.**")
    tell = {"decode": _decode, "batching": _batching, "overhead": _overhead, "exact": _exact, "storm": _storm}
    for name, found in results.parts.items():
        parts += tell[name](found, results.sizes)
    return "\n\n".join(parts) + "\n"


def _decode(found: dict[str, Any], sizes: Any) -> list[str]:
    rows = [
        [
            batch,
            *(f"{rates[name]:.1f}" for name in ("dense", "moe", "moe mixed")),
            f"{rates['ratio']:.3f}x ({met(rates['ratio'] >= MIN_DECODE)})",
            f"{rates['moe mixed'] / rates['dense']:.3f}x",
        ]
        for batch, rates in found.items()
    ]
    return [
        "## Decoding",
        f"Tokens a second from when all prompts have been read, {sizes.tokens} tokens a sequence, the same engine. "
        f"*Mixed*: prompts of four languages in one batch. Medians of {sizes.rounds} interleaved rounds, the "
        f"ratio that of the rounds. Asked for: at least {MIN_DECODE}x of the dense base.",
        table(["batch", "dense base", "MoE by prompt", "MoE, mixed", "MoE to dense", "mixed to dense"], rows),
    ]


def _batching(found: dict[str, float], sizes: Any) -> list[str]:
    return [
        "## Continuous batching",
        f"{sizes.clients} clients, {sizes.tokens} tokens each, prompts included: {found['together']:.1f} tokens/s "
        f"together, {found['alone']:.1f} one request at a time, {found['ratio']:.2f}x (asked for: {MIN_BATCHING}x, "
        f"{met(found['ratio'] >= MIN_BATCHING)}).",
    ]


def _overhead(found: dict[str, float], _sizes: Any) -> list[str]:
    ok = found["median"] < MAX_MEDIAN_MS, found["p99"] < MAX_P99_MS
    return [
        "## The server's own time",
        f"{found['number']:.0f} requests for one token of a tiny model, {found['rate']:g} a second, from a request's "
        f"first byte to its answer's last, the model's time included: median {found['median']:.2f} ms (asked for: "
        f"under {MAX_MEDIAN_MS:g}, {met(ok[0])}), 99th percentile {found['p99']:.2f} ms (under {MAX_P99_MS:g}, "
        f"{met(ok[1])}).",
    ]


def _exact(found: dict[str, int], _sizes: Any) -> list[str]:
    return [
        "## The same under load",
        f"{found['requests']} greedy requests of all routes in float32, alone and all at once while "
        f"{found['cancelled']} others were cancelled: {found['differing']} differ in any token (asked for: none, "
        f"{met(found['differing'] == 0)}).",
    ]


def _storm(found: dict[str, Any], _sizes: Any) -> list[str]:
    growth = found["after_mib"] / found["before_mib"] - 1
    num_sent, num_wrong = sum(found["sent"].values()), found["num_wrong"]
    parts = [
        "## A storm",
        f"{num_sent:,} requests by 32 clients. Of the good ones {found['answered']:,} were answered, "
        f"{found['refused']:,} refused with 429 or 503; lost, mixed up or answered with a wrong status, of all: "
        f"{num_wrong} (asked for: none, {met(num_wrong == 0)}). Memory {found['before_mib']:.1f} MiB before, "
        f"{found['after_mib']:.1f} after: {growth:+.1%} (asked for: within {MAX_GROWTH:.0%}, "
        f"{met(abs(growth) <= MAX_GROWTH)}).",
        table(["kind", "sent"], [[kind, f"{number:,}"] for kind, number in sorted(found["sent"].items())]),
    ]
    return parts + (["Wrong:\n\n" + "\n".join(f"- {each}" for each in found["wrong"])] if found["wrong"] else [])
