"""The benchmark's run: inputs, measurements, page. `python -m bench.train --out PAGE`

Every contestant is a process of its own (`contestant.py`), once a round. What is made on the way lies below
build/bench/train.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.compose.measure import measure
from bench.train.report import OURS, OURS_ALL, PEER, PEER_ALL, page, speed

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
    large: tuple[str, ...]  # shapes whose utilisation is measured on a GPU


FULL = Sizes("135m", 1024, num_steps=8, step=4, forward=2, rounds=3, large=("135m", "1.3b"))
QUICK = Sizes("tiny", 64, num_steps=4, step=2, forward=1, rounds=1, large=("tiny",))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all and writes the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.train", description=__doc__)
    parser.add_argument("--out", type=Path, help="the page to write; none: stdout")
    parser.add_argument("--work", type=Path, default=Path("build/bench/train"), help="where everything else lies")
    parser.add_argument("--quick", action="store_true", help="a toy model and one round: to see that it runs")
    options = parser.parse_args(arguments)
    sizes, work = QUICK if options.quick else FULL, options.work.resolve()
    device, dtypes = _device()
    found: dict[str, Any] = {"device": device, "tables": {}, "utilisation": {}}
    for dtype in dtypes:
        found["tables"][dtype] = _rounds(work, sizes, dtype)
    if PEAK_FLOPS.keys() & set(device.replace("-", " ").split()):
        found["utilisation"] = {shape: _utilisation(work, sizes, shape, device) for shape in sizes.large}
    is_make = arguments is None and len(sys.argv) == 3 and options.out
    command = "make bench-train" if is_make else " ".join(["python -m bench.train", *sys.argv[1:]])
    text = page(command, options.quick, found)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


def _device() -> tuple[str, tuple[str, ...]]:
    """The device's name, and the number formats that are compared: float32, too, where nothing multiplies bfloat16."""
    code = (
        "import torch; from codechoir.model.device import compute_dtype; "
        "print(torch.cuda.get_device_name() if torch.cuda.is_available() else 'the CPU'); print(compute_dtype('auto'))"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split("\n")
    return told[0], ("bfloat16",) if "bfloat16" in told[1] else ("bfloat16", "float32")


def _rounds(work: Path, sizes: Sizes, dtype: str) -> dict[str, list[dict[str, Any]]]:
    runs: dict[str, list[dict[str, Any]]] = {}
    for number in range(sizes.rounds):
        for name, (who, way, pure) in CONTESTANTS.items():
            if pure and dtype == "float32":
                continue
            settings = {"who": who, "way": way, "pure": pure, "dtype": dtype}
            runs.setdefault(name, []).append(_run(work, sizes, sizes.kind, settings))
            sys.stderr.write(f"round {number + 1}, {dtype}, {name}: {speed(runs[name][-1:]):,.0f} tokens/s\n")
    return runs


def _run(work: Path, sizes: Sizes, kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    inputs, out = work / kind, work / "found.json"
    if not (inputs / "tokens.npy").exists():
        make = [str(inputs), kind, str(sizes.length), str(sizes.num_steps * sizes.step)]
        subprocess.run([sys.executable, "-m", "bench.train.inputs", *make], check=True)
    places = {"base": str(inputs / "base"), "tokens": str(inputs / "tokens.npy"), "work": str(work / "run")}
    told = json.dumps(settings | places | {"step": sizes.step, "forward": sizes.forward})
    measured = measure([sys.executable, "-m", "bench.train.contestant", told, str(out)], work / "log.txt")
    if measured.exit_code:
        sys.exit(f"bench.train: {settings}: exit code {measured.exit_code}: {measured.last_line}")
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found | {"peak_mib": found["gpu_mib"] or measured.peak_mib}


def _utilisation(work: Path, sizes: Sizes, shape: str, device: str) -> dict[str, float]:
    """Tokens a second of feed-forward training, and its arithmetic by the device's peak."""
    run = _run(work, sizes, shape, {"who": "ours", "way": "feed-forward", "pure": False, "dtype": "bfloat16"})
    config = json.loads((work / shape / "base" / "config.json").read_text(encoding="utf-8"))
    peak = next(flops for name, flops in PEAK_FLOPS.items() if name in device)
    return {"speed": speed([run]), "share": speed([run]) * flops_a_token(config, sizes.length) / peak}


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
    sys.exit(main())
