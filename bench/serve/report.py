"""Tells the benchmark's results as a Markdown page. Measures nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch

from bench.pages import machine, met, table

MIN_DECODE = 0.95
MIN_BATCHING = 2.5
MAX_MEDIAN_MS, MAX_P99_MS = 5.0, 20.0
MAX_GROWTH = 0.05
PACKAGES = ("codechoir", "torch", "transformers", "uvicorn", "fastapi", "httptools")


@dataclass(frozen=True, slots=True)
class Part:
    """What a part found, and how much was run."""

    sizes: dict[str, Any]
    found: Any


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that was measured. A part that was not run is missing."""

    command: str
    is_quick: bool  # toy sizes
    parts: dict[str, Part]


def page(results: Results) -> str:
    """The whole page."""
    tell: dict[str, Callable[[Any, dict[str, Any]], list[str]]] = {
        "decode": _decode,
        "batching": _batching,
        "overhead": _overhead,
        "exact": _exact,
        "storm": _storm,
    }
    device = f"On {torch.cuda.get_device_name()}." if torch.cuda.is_available() else "No GPU."
    parts = ["# Serving, measured", f"Made by `{results.command}`. {machine()} {device}"]
    if results.is_quick:
        parts.append("A QUICK RUN on random toy models, few rounds: it shows that the benchmark runs, not how fast.")
    for name, section in tell.items():
        if name in results.parts:
            parts += section(results.parts[name].found, results.parts[name].sizes)
    versions = [f"- {name} {version(name)}" for name in PACKAGES]
    return "\n\n".join([*parts, "## Versions", "\n".join(versions)]) + "\n"


def _decode(found: dict[str, Any], sizes: dict[str, Any]) -> list[str]:
    rows = [
        [
            batch,
            *(f"{rates[name]:.1f}" for name in ("dense", "moe", "moe mixed")),
            f"{rates['ratio']:.3f}x ({met(rates['ratio'] >= MIN_DECODE)})",
            f"{rates['mixed ratio']:.3f}x",
        ]
        for batch, rates in found["batches"].items()
    ]
    return [
        "## Decoding",
        f"Tokens a second from when all prompts have been read, {sizes['tokens']} tokens a sequence, the same engine. "
        f"*By prompt*: prompts of one language, each of which the router sends to one expert; *mixed*: such of "
        f"{len(found['sure'])} languages in one batch. Medians of {sizes['rounds']} interleaved rounds, the "
        f"ratios those of the rounds. Asked for: at least {MIN_DECODE}x of the dense base.",
        table(["batch", "dense base", "MoE by prompt", "MoE, mixed", "MoE to dense", "mixed to dense"], rows),
    ]


def _batching(found: dict[str, float], sizes: dict[str, Any]) -> list[str]:
    return [
        "## Continuous batching",
        f"{sizes['clients']} clients, {sizes['tokens']} tokens each, prompts included: {found['together']:.1f} "
        f"tokens/s together, {found['alone']:.1f} one request at a time, {found['ratio']:.2f}x (asked for: "
        f"{MIN_BATCHING}x, {met(found['ratio'] >= MIN_BATCHING)}).",
    ]


def _overhead(found: dict[str, Any], sizes: dict[str, Any]) -> list[str]:
    ok = found["median"] < MAX_MEDIAN_MS, found["p99"] < MAX_P99_MS
    return [
        "## The server's own time",
        f"{found['number']:,} requests for one token of a tiny model, {sizes['rate']:g} a second whatever the server "
        f"does, {found['refused']:,} of them refused with 429; the server computes with one thread. From when a "
        f"request is due to its answer's last byte, the model's time included: median {found['median']:.2f} ms (asked "
        f"for: under {MAX_MEDIAN_MS:g}, {met(ok[0])}), 99th percentile {found['p99']:.2f} ms (under {MAX_P99_MS:g}, "
        f"{met(ok[1])}).",
    ]


def _exact(found: dict[str, int], _sizes: dict[str, Any]) -> list[str]:
    return [
        "## The same under load",
        f"{found['requests']} greedy requests of all routes in float32, alone and all at once while "
        f"{found['cancelled']} others were cancelled: {found['differing']} differ in any token (asked for: none, "
        f"{met(found['differing'] == 0)}).",
    ]


def _storm(found: dict[str, Any], _sizes: dict[str, Any]) -> list[str]:
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
        "That requests drawn from the OpenAPI document, broken ones among them, get no 5xx is a test: "
        "`test_what_is_documented_is_what_comes` in tests/serve/test_documents.py, by schemathesis.",
    ]
    return parts + (["Wrong:\n\n" + "\n".join(f"- {each}" for each in found["wrong"])] if found["wrong"] else [])
