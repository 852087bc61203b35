"""What the train stage can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from codechoir.model.config import OptimiserConfig

Way = Literal["feed-forward", "lora", "last-layers", "all"]
Watcher = Literal["tensorboard", "wandb"]

# Change how a run is watched, carried on and held in memory, not what comes out (but for rounding).
UNTOLD = {
    "checkpoint_seconds",
    "keep_checkpoints",
    "watch",
    "max_skips",
    "sequences_per_forward",
    "gradient_checkpointing",
    "shard",
}
BRANCHES_ONLY = {"branches_trainable", "lora_rank", "lora_alpha"}  # nothing of the trunk hangs on these


class TrainConfig(OptimiserConfig):
    """Budgets are in sequences; a sequence is `sequence_length` tokens."""

    sequence_length: int = Field(512, ge=8, description="tokens in a packed sequence")
    sequences_per_step: int = Field(4, ge=1, description="sequences in one optimiser step, on all devices together")
    sequences_per_forward: int = Field(
        2, ge=1, description="sequences in one forward pass of one device; bounds memory"
    )
    trunk_sequences: int = Field(64, ge=0, description="sequences a language that the shared trunk sees")
    expert_sequences: int = Field(
        32,
        ge=0,
        description="sequences that each language's expert sees after the trunk; 0, where tuning moves experts: they "
        "are copies of the trunk, which tuning parts (sparse upcycling)",
    )
    document_tokens: int = Field(
        512, ge=8, description="a longer document is cut after so many tokens; fewer show more documents"
    )
    mixing: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {},
        description="weight of each language in what the trunk reads, 1 where none is given; experts read equally "
        "much, and the universal model what they and tuning read",
    )
    infilling_rate: float = Field(0.0, ge=0, le=1, description="share of the documents that train infilling")
    infilling_spm_rate: float = Field(
        0.5,
        ge=0,
        le=1,
        description="share of those in the order suffix, prefix, middle; others begin with the prefix",
    )
    trainable: Literal["feed-forward", "last-layers", "all"] = Field(
        "feed-forward", description="weights that the trunk trains"
    )
    branches_trainable: Way = Field(
        "feed-forward", description="weights that experts and the universal model train (lora: on the feed-forward)"
    )
    lora_rank: int = Field(16, ge=1, description="rank of the low-rank updates")
    lora_alpha: float = Field(32, gt=0, description="their scale is this over the rank")
    last_layers: int = Field(4, ge=1, description="last-layers: how many")
    learning_rates: tuple[float, ...] = Field(
        (), description="peak rates to try on trunk, one expert and universal alike; none: learning_rate is taken"
    )
    search_share: float = Field(0.1, gt=0, le=1, description="share of its steps that each rate is tried on")
    validation_documents: int = Field(
        0, ge=0, description="documents a language that are not trained on, to measure bits per byte while training"
    )
    validation_steps: int = Field(50, ge=1, description="optimiser steps from one such measurement to the next")
    patience: int = Field(
        0, ge=0, description="stop after so many measurements without a better one, and keep the best; 0: never"
    )
    bad_step: Literal["stop", "skip"] = Field(
        "stop", description="on a loss or gradient that is not finite, or a spike: stop, or skip the step's update"
    )
    spike_factor: float | None = Field(
        None, gt=1, description="a loss above so many times the mean of the last 20 is a spike; none: no loss is"
    )
    max_skips: int = Field(5, ge=1, description="steps skipped in a row at most; one more stops the training")
    gradient_checkpointing: bool = Field(
        False, description="compute activations again in the backward pass: less memory, more time"
    )
    shard: bool = Field(
        False, description="several devices: split weights over them (FSDP2) instead of copying them (DDP)"
    )
    precision: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="compute format; auto is bfloat16 where the hardware multiplies in it"
    )
    checkpoint_seconds: float = Field(60, ge=0, description="a killed run loses at most so much work")
    keep_checkpoints: int = Field(1, ge=1, description="newest checkpoints kept while a branch is trained")
    watch: tuple[Watcher, ...] = Field((), description="write metrics for these as well")
    seed: int = Field(0, ge=0, lt=2**63, description="orders documents and draws low-rank updates")

    @model_validator(mode="after")
    def _validation_is_there(self) -> Self:
        if (self.patience or self.learning_rates) and not self.validation_documents:
            raise ValueError("patience and learning_rates are decided on validation_documents: give some")
        if any(rate <= 0 for rate in self.learning_rates):
            raise ValueError("learning_rates are greater than 0")
        return self


@dataclass(frozen=True, slots=True)
class Tuning:
    """Sequences a language after the experts': those that the composed model is tuned on, then those that validate.

    `optimiser` is tuning's where experts read nothing: the universal model reads just what tuning does, by the same.
    """

    sequences: int = 0
    validation: int = 0
    optimiser: OptimiserConfig | None = None


NOT_TUNED = Tuning()
