"""Training one branch: a model folder in, its sequences in order, a model folder out. Resumable at any step.

Knows nothing of languages: `stage.py` decides which branches there are and what each reads.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from codechoir.artifacts import StageFolder
from codechoir.console import Progress
from codechoir.errors import InputError
from codechoir.model.checkpoint import load_model, open_checkpoint, write_checkpoint
from codechoir.model.device import compute_device, compute_dtype
from codechoir.model.families import family_of
from codechoir.model.optimiser import MasterAdamW, learning_rate
from codechoir.train.config import TrainConfig
from codechoir.train.packing import Tokens

RESUME = "resume.safetensors"
SAVED_DTYPE = torch.bfloat16


@dataclass(frozen=True, slots=True)
class Branch:
    """One model to train: where it starts, what it reads, which weights move."""

    name: str
    start: Path
    sequences: Tokens
    feed_forward_only: bool


def train_branch(branch: Branch, config: TrainConfig, folder: StageFolder) -> dict[str, Any]:
    """Trains the branch into the begun `folder` and returns the figures for its manifest."""
    device, dtype = compute_device(), compute_dtype(config.precision)
    source = open_checkpoint(branch.start)
    family = family_of(source.config, branch.start)
    model = load_model(branch.start, dtype).to(device).train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = not branch.feed_forward_only or family.is_feed_forward(name)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimiser = MasterAdamW(trained, config)
    losses, seconds = _run_steps(branch, config, folder, model, optimiser)
    tensors = {
        name: model.get_parameter(name).to("cpu", SAVED_DTYPE) if name in trained else tensor
        for name, tensor in source.items()
    }
    settings = {key: value for key, value in source.config.items() if key != "torch_dtype"}  # dtype's older name
    write_checkpoint(folder.path, settings | {"dtype": "bfloat16"}, tensors, tokenizer=branch.start)
    (folder.path / RESUME).unlink(missing_ok=True)
    tokens = int(branch.sequences.size)
    return {
        "tokens": tokens,
        "steps": len(losses),
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        "tokens_per_second": round(tokens / seconds, 1) if losses else None,
        "trainable_parameters": sum(parameter.numel() for parameter in trained.values()),
        "learning_rate": config.learning_rate,
        "precision": str(dtype).removeprefix("torch."),
        "device": device.type,
        "losses": [
            [min((step + 1) * config.sequences_per_step * config.sequence_length, tokens), loss]
            for step, loss in enumerate(losses)
        ],
    }


def _run_steps(
    branch: Branch, config: TrainConfig, folder: StageFolder, model: Any, optimiser: MasterAdamW
) -> tuple[list[float], float]:
    """Every step's loss (nats a token) and the seconds that the steps took, over all resumed runs."""
    num_steps = -(-len(branch.sequences) // config.sequences_per_step)
    losses: list[float] = []
    seconds_before = 0.0
    resume = folder.path / RESUME
    if resume.exists():
        progress = optimiser.load(resume)
        losses, seconds_before = progress["losses"], progress["seconds"]
    started = saved = time.monotonic()
    tokens_a_step = config.sequences_per_step * config.sequence_length
    label, done = f"train {branch.name}", len(losses) * tokens_a_step
    with Progress(label, branch.sequences.size, "tokens", done=done) as bar:
        for step in range(len(losses), num_steps):
            batch = branch.sequences[step * config.sequences_per_step :][: config.sequences_per_step]
            loss = _accumulate(model, batch, config)
            norm = optimiser.step(learning_rate(step, num_steps, config))
            if not math.isfinite(loss) or not math.isfinite(norm):
                raise InputError(
                    f"the training of {branch.name} has left the finite numbers",
                    seen=f"loss {loss}, gradient norm {norm} at step {step}",
                    next_step="lower train.learning_rate; what was trained before is not lost",
                )
            losses.append(round(loss, 5))
            bar.advance(batch.size, f"loss {loss:.3f}")
            if time.monotonic() - saved >= config.checkpoint_seconds and step + 1 < num_steps:
                spent = seconds_before + time.monotonic() - started
                optimiser.save(resume, {"losses": losses, "seconds": spent})
                folder.save_time()
                saved = time.monotonic()
    return losses, seconds_before + time.monotonic() - started


def _accumulate(model: Any, batch_BT: Tokens, config: TrainConfig) -> float:
    """Adds the batch's mean gradient to the parameters and returns its mean loss."""
    total = 0.0
    for start in range(0, len(batch_BT), config.sequences_per_forward):
        tokens_bT = torch.from_numpy(batch_BT[start : start + config.sequences_per_forward]).to(model.device)
        logits_btV = model(input_ids=tokens_bT, use_cache=False).logits[:, :-1]
        loss = functional.cross_entropy(logits_btV.flatten(0, 1).float(), tokens_bT[:, 1:].flatten())
        share = len(tokens_bT) / len(batch_BT)
        torch.autograd.backward(loss * share)
        total += float(loss.detach()) * share
    return total
