"""The benchmark's run: inputs, measurements, page. `python -m bench.train --out PAGE`

Every contestant is a process of its own (`contestant.py`), once a round. What is made on the way lies below
build/bench/train; so do the parts that are measured, each with its sizes and the machine that measured it, and --resume
takes up those of the same sizes: a page may tell of a CPU and of a GPU elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench.compose.measure import measure
from bench.kept import Kept
from bench.pages import command_given, machine, page_parser, run_program, write_page
from bench.train.report import OURS, OURS_ALL, PEER, PEER_ALL, page, speed, versions

CONTESTANTS = {
    OURS: ("ours", "feed-forward", False),
    PEER: ("trainer", "feed-forward", False),
    PEER_ALL: ("trainer", "all", False),
    "Trainer, all weights, no float32 masters": ("trainer", "all", True),
    OURS_ALL: ("ours", "all", False),
}
PEAK_FLOPS = {
    "H100": 989e12,
    "H200": 989e12,
    "A100": 312e12,
    "L40": 181e12,
    "4090": 165e12,
}  # dense bfloat16


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is run."""

    kind: str
    length: int
    num_steps: int
    step: int  # sequences
    forward: int
    rounds: int


LARGE = ("135m", "1.3b")  # shapes whose utilisation is measured, in one run each
FULL = {
    "cpu": Sizes("135m", 1024, num_steps=6, step=4, forward=2, rounds=3),
    "gpu": Sizes("135m", 1024, num_steps=12, step=64, forward=32, rounds=1),
    "135m": Sizes("135m", 1024, num_steps=12, step=64, forward=32, rounds=1),
    "1.3b": Sizes("1.3b", 1024, num_steps=12, step=16, forward=8, rounds=1),
}
QUICK = dict.fromkeys(FULL, Sizes("tiny", 64, num_steps=4, step=2, forward=1, rounds=1))
PARTS = tuple(FULL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what was asked for and writes the page."""
    parser = page_parser("train", __doc__)
    parser.add_argument("--work", type=Path, default=Path("build/bench/train"), help="where everything else lies")
    parser.add_argument("--quick", action="store_true", help="a toy model and one round: to see that it runs")
    parser.add_argument("--rounds", type=int, help="runs of each contestant; the median counts")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS, help="parts to run")
    parser.add_argument("--resume", action="store_true", help="take parts that lie measured in --work as they are")
    options = parser.parse_args(arguments)
    sizes, work = QUICK if options.quick else FULL, options.work.resolve()
    if options.rounds:
        more = {part: replace(each, rounds=options.rounds) for part, each in sizes.items() if part not in LARGE}
        sizes = sizes | more
    text = page(options.quick, _parts(work, sizes, options))
    write_page(text, options.out)
    return 0


def _parts(work: Path, sizes: dict[str, Sizes], options: argparse.Namespace) -> dict[str, Any]:
    """What each part found, measured now or taken up; parts for a GPU only where there is one."""
    found, kept = {}, Kept(work, options.quick)
    for part in PARTS:
        told = asdict(sizes[part])
        if options.resume and (earlier := kept.read(part, told)):
            found[part] = earlier
        elif part in options.only and (part == "cpu" or _device("gpu")):
            device = _device(part)
            measured = (
                _utilisation(work, part, device, sizes[part])
                if part in LARGE
                else {dtype: _rounds(work, sizes[part], part, dtype) for dtype in _formats(part)}
            )
            where = {"device": device, "told": f"`{command_given('train')}`. {machine()} {versions()}."}
            found[part] = kept.write(part, told, where | {"found": measured})
    return found


def _told_by_torch(part: str, expression: str) -> str:
    code = f"import torch; from codechoir.model.device import compute_dtype; print({expression})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=_seen_by(part))
    return done.stdout.strip()


def _seen_by(part: str) -> dict[str, str]:
    """The environment of a part's processes: for the CPU's there is no GPU."""
    return os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if part == "cpu" else {})


def _device(part: str) -> str:
    """The GPU's name, empty where there is none; or the CPU."""
    if part == "cpu":
        return "the CPU"
    return _told_by_torch(part, "torch.cuda.get_device_name() if torch.cuda.is_available() else ''")


def _formats(part: str) -> tuple[str, ...]:
    """The number formats that the device computes in."""
    return ("bfloat16",) if "bfloat16" in _told_by_torch(part, "compute_dtype('auto')") else ("float32",)


def _rounds(work: Path, sizes: Sizes, part: str, dtype: str) -> dict[str, list[dict[str, Any]]]:
    runs: dict[str, list[dict[str, Any]]] = {}
    for number in range(sizes.rounds):
        for name, (who, way, pure) in CONTESTANTS.items():
            if pure and dtype == "float32":
                continue
            settings = {"who": who, "way": way, "pure": pure, "dtype": dtype}
            runs.setdefault(name, []).append(_run(work, sizes, part, settings))
            sys.stderr.write(f"{part}, round {number + 1}, {name}: {speed(runs[name][-1:]):,.0f} tokens/s\n")
    return runs


def _run(work: Path, sizes: Sizes, part: str, settings: dict[str, Any]) -> dict[str, Any]:
    inputs, out = work / f"{sizes.kind}-{sizes.num_steps * sizes.step}x{sizes.length}", work / "found.json"
    if not (inputs / "tokens.npy").exists():
        make = [str(inputs), sizes.kind, str(sizes.length), str(sizes.num_steps * sizes.step)]
        subprocess.run([sys.executable, "-m", "bench.train.inputs", *make], check=True)
    places = {"base": str(inputs / "base"), "tokens": str(inputs / "tokens.npy"), "work": str(work / "run")}
    told = json.dumps(settings | places | {"step": sizes.step, "forward": sizes.forward})
    command = [sys.executable, "-m", "bench.train.contestant", told, str(out)]
    measured = measure(command, work / "log.txt", _seen_by(part))
    if measured.exit_code:
        sys.exit(f"bench.train: {settings}: exit code {measured.exit_code}: {measured.last_line}")
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found | {"peak_mib": found["gpu_mib"] or measured.peak_mib}


def _utilisation(work: Path, shape: str, device: str, sizes: Sizes) -> dict[str, float]:
    """Tokens a second of feed-forward training, and its arithmetic by the device's peak."""
    run = _run(work, sizes, "gpu", {"who": "ours", "way": "feed-forward", "pure": False, "dtype": "bfloat16"})
    sys.stderr.write(f"{shape}: {speed([run]):,.0f} tokens/s\n")
    config = json.loads(next(work.glob(f"{sizes.kind}-*/base/config.json")).read_text(encoding="utf-8"))
    peak = next((flops for name, flops in PEAK_FLOPS.items() if name in device), float("inf"))
    return {
        "speed": speed([run]),
        "share": speed([run]) * flops_a_token(config, sizes.length) / peak,
        "peak_mib": run["peak_mib"],
    }


def flops_a_token(config: dict[str, Any], length: int) -> float:
    """Of a Llama's training with only its feed-forward weights moving; attention causal over `length` tokens."""
    width, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    heads = config["num_attention_heads"]
    keys = width * config.get("num_key_value_heads", heads) // heads
    attention, feed_forward, head = 2 * width * (width + keys), 3 * width * inner, width * config["vocab_size"]
    frozen = layers * attention + head
    scores = layers * width * length  # QK and AV, half of them masked; both operands of each need gradients
    return 4 * frozen + 6 * (layers * feed_forward + scores)


if __name__ == "__main__":
    run_program(main)
