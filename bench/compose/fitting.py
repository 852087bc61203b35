"""The token routers' fit beside one forward pass of the dense base: `python -m bench.compose.fitting SETTINGS OUT`.

Settings: inputs, sequences, calibration, length, rounds. Everything is what `codechoir compose` itself runs: sums, as
each expert runs over its language's tokens, weights read layer by layer from disk; the solve; the calibration on
further tokens. The base runs over all fitted tokens in the same batches and the same number format, its weights in
memory: to its logits, and without the head, which no router needs. Loading it does not count.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from codechoir.compose.config import ComposeConfig
from codechoir.compose.moments import solve
from codechoir.compose.plan import plan
from codechoir.compose.texts import RouterTexts
from codechoir.compose.token_routers import ExpertStates, calibrate, gather_sums, in_batches
from codechoir.compose.weights import Weights
from codechoir.model.checkpoint import load_model, load_tokenizer
from codechoir.model.device import compute_device, compute_dtype


@torch.no_grad()
def main() -> None:
    settings: dict[str, Any] = json.loads(sys.argv[1])
    inputs = Path(settings["inputs"])
    config = ComposeConfig(
        fit_sequences=settings["sequences"],
        calibration_sequences=settings["calibration"],
        sequence_length=settings["length"],
    )
    names = sorted(folder.name for folder in (inputs / "documents").iterdir())
    tokenizer = load_tokenizer(inputs / "base")
    texts = {name: RouterTexts.read(inputs / "documents", name, tokenizer, config) for name in names}
    fit = {name: text.fit for name, text in texts.items()}
    further = {name: text.calibration for name, text in texts.items()}
    states = ExpertStates(
        Weights(plan(inputs / "base", {name: inputs / name for name in names})), compute_dtype("auto")
    )
    model = load_model(inputs / "base", compute_dtype("auto")).to(compute_device())
    seconds: dict[str, list[float]] = {}
    for _ in range(settings["rounds"]):
        with _timed(seconds, "base"):
            _pass(model, fit)
        with _timed(seconds, "base_headless"):
            _pass(model.base_model, fit)
        with _timed(seconds, "sums"):
            sums = gather_sums(states, names, fit)
        with _timed(seconds, "solve"):
            weights = solve(sums, names, config.ridge)
        with _timed(seconds, "calibration"):
            calibrate(states, names, weights, further)
    found = {
        "seconds": seconds,
        "tokens": {name: tokens.numel() for name, tokens in fit.items()},
        "calibration_tokens": {name: tokens.numel() for name, tokens in further.items()},
        "dtype": str(states.dtype).removeprefix("torch."),
    }
    Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")


def _pass(model: Any, fit: dict[str, torch.Tensor]) -> None:
    for tokens_NT in fit.values():
        for batch_BT in in_batches(tokens_NT):
            model(input_ids=batch_BT.to(compute_device()), use_cache=False)


class _timed:  # noqa: N801
    """Adds the seconds that its block takes to a list."""

    def __init__(self, seconds: dict[str, list[float]], name: str) -> None:
        self._found = seconds.setdefault(name, [])

    def __enter__(self) -> None:
        self._begin = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._found.append(time.perf_counter() - self._begin)


if __name__ == "__main__":
    main()
