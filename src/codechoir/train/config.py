"""What the train stage can be told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from codechoir.model.config import OptimiserConfig


class TrainConfig(OptimiserConfig):
    """Budgets are in sequences; a sequence is `sequence_length` tokens."""

    sequence_length: int = Field(512, ge=8, description="tokens in a packed sequence")
    sequences_per_step: int = Field(4, ge=1, description="sequences in one optimiser step")
    sequences_per_forward: int = Field(2, ge=1, description="sequences in one forward pass; bounds memory")
    trunk_sequences: int = Field(64, ge=0, description="sequences a language that the shared trunk sees")
    expert_sequences: int = Field(32, ge=1, description="sequences that each language's expert sees after the trunk")
    document_tokens: int = Field(
        512, ge=8, description="a longer document is cut after so many tokens; fewer show more documents"
    )
    trainable: Literal["feed-forward", "all"] = Field(
        "feed-forward", description="weights that the trunk trains; experts and the universal train feed-forward only"
    )
    precision: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="compute format; auto is bfloat16 where the hardware multiplies in it"
    )
    checkpoint_seconds: float = Field(60, ge=0, description="a killed run loses at most so much work")
    seed: int = Field(0, description="orders documents")
