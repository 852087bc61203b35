"""What the train stage can be told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from codechoir.config import Config


class TrainConfig(Config):
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
    learning_rate: float = Field(3e-4, gt=0, description="peak learning rate of AdamW, the same for every branch")
    final_learning_rate: float = Field(0.1, ge=0, le=1, description="share of the peak left at the end of the cosine")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps that warm up")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decoupled weight decay")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's first moment decay")
    beta2: float = Field(0.95, ge=0, lt=1, description="AdamW's second moment decay")
    clip_norm: float = Field(1.0, gt=0, description="gradients are scaled down to this norm")
    precision: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="compute format; auto is bfloat16 where the hardware multiplies in it"
    )
    checkpoint_seconds: float = Field(60, ge=0, description="a killed run loses at most so much work")
    seed: int = Field(0, description="orders documents")
