"""One contestant in a process of its own: `python -m bench.train.contestant SETTINGS OUT`.

Settings: who (ours, trainer), way (feed-forward, all), dtype (of the computing), base, tokens (a .npy of packed
sequences), forward and step (sequences in each), work. Out: the seconds of every step but the first two, from one
reading of data to the next, and the tokens in a step. Trainer keeps float32 weights and computes in `dtype` by
autocast, so that its weights are as exact as our float32 masters; with `pure` its weights are in `dtype` themselves.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

_WARM_STEPS = 2


@dataclass(slots=True)
class Timed:
    """Sequences that note when each step's are read."""

    whole: Any
    times: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.whole)

    def batch(self, rows: slice) -> Any:
        """The sequences of `rows`."""
        self.times.append(time.perf_counter())
        return self.whole.batch(rows)


def train_ours(settings: dict[str, Any], tokens_NT: Any) -> list[float]:
    """When each step began."""
    from codechoir.artifacts import StageFolder
    from codechoir.model.checkpoint import load_tokenizer, separator_id
    from codechoir.train.branch import Branch, train_branch
    from codechoir.train.config import TrainConfig
    from codechoir.train.sequences import ArraySequences

    config = TrainConfig(
        sequence_length=tokens_NT.shape[1],
        sequences_per_step=settings["step"],
        sequences_per_forward=settings["forward"],
        precision=settings["dtype"],
        checkpoint_seconds=1e9,
    )
    separator = separator_id(load_tokenizer(Path(settings["base"])))
    sequences = Timed(ArraySequences(tokens_NT, separator))
    folder = StageFolder(Path(settings["work"]), "bench", 1, {}, {})
    folder.begin()
    base, is_long = Path(settings["base"]), True  # stands for a training that is worth compiling for
    branch = Branch("bench", base, sequences, settings["way"], keeps_model=False, compiled=is_long)
    train_branch(branch, config, folder)
    return sequences.times


def train_peer(settings: dict[str, Any], tokens_NT: Any) -> list[float]:
    """When each step began, by transformers' Trainer: the same sequences, same optimiser."""
    from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

    from codechoir.model.checkpoint import open_checkpoint
    from codechoir.model.families import family_of

    dtype = getattr(torch, settings["dtype"])
    stored = dtype if settings["pure"] else torch.float32
    model = AutoModelForCausalLM.from_pretrained(settings["base"], dtype=stored)
    if settings["way"] == "feed-forward":
        family = family_of(open_checkpoint(Path(settings["base"])).config, settings["base"])
        for name, parameter in model.named_parameters():
            parameter.requires_grad = family.is_feed_forward(name)
    times: list[float] = []

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    arguments = TrainingArguments(
        output_dir=settings["work"],
        per_device_train_batch_size=settings["forward"],
        gradient_accumulation_steps=settings["step"] // settings["forward"],
        max_steps=len(tokens_NT) // settings["step"],
        bf16=dtype == torch.bfloat16 and not settings["pure"],
        optim="adamw_torch_fused",
        lr_scheduler_type="cosine",
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    rows = [{"input_ids": torch.from_numpy(row), "labels": torch.from_numpy(row)} for row in tokens_NT]
    times.append(time.perf_counter())
    Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[Watch()]).train()
    return times


def main() -> None:
    settings = json.loads(sys.argv[1])
    tokens_NT = np.load(settings["tokens"])
    times = (train_ours if settings["who"] == "ours" else train_peer)(settings, tokens_NT)
    seconds = np.diff(times)[_WARM_STEPS:].tolist()
    gpu = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None
    found = {"seconds": seconds, "step_tokens": settings["step"] * tokens_NT.shape[1], "gpu_mib": gpu}
    Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
