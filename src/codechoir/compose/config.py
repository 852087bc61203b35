"""What the compose stage can be told."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from codechoir.config import Config
from codechoir.model.config import OptimiserConfig

Shared = Literal["base", "mean", "require-equal"]


class ComposeConfig(Config):
    """What becomes of the experts' weights, budgets of the routers' fit, and the format's defaults."""

    shared: Shared = Field(
        "require-equal",
        description="weights that all experts share: the base's, the experts' mean, or refused where they differ",
    )
    generalist: bool = Field(False, description="whether the base's own feed-forward becomes an expert, too")
    own_share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="each language's written expert is so much of what was trained, the rest the average of all: 1 "
        "keeps experts as they are, 0 makes all of them the average",
    )
    layers: str = Field("all", description="layers that get experts, from 0: all, or ranges such as 4-11,15")
    top_k: int = Field(2, ge=1, description="experts a token in the written config")
    shard_bytes: int = Field(4_000_000_000, ge=1, description="largest weights file in bytes, but for larger tensors")
    prove: bool = Field(True, description="whether the fixed route and identical experts are proven")
    fit_sequences: int = Field(16, ge=1, description="sequences a language that the token routers are fitted on")
    calibration_sequences: int = Field(4, ge=1, description="further sequences a language that calibrate temperatures")
    sequence_length: int = Field(512, ge=8, description="tokens in such a sequence")
    ridge: float = Field(1e-2, gt=0, description="ridge penalty, as a share of the moments' mean diagonal")
    prompt_documents: int = Field(400, ge=5, description="training documents a language that fit the prompt router")
    prompt_penalty: float = Field(1e-4, gt=0, description="L2 penalty of the prompt router's logistic regression")
    prompt_fallback: Literal["auto", "none", "generalist", "top-2"] = Field(
        "auto",
        description="where a prompt goes whose largest probability is under the confidence: to that expert all the "
        "same, to the generalist, or to the two most probable, mixed; auto: the generalist where there is one, "
        "else top-2",
    )
    prompt_confidence: float = Field(
        0.7, ge=0, le=1, description="a largest probability under this takes the prompt router's fallback"
    )
    prefix_tokens: int = Field(
        512,
        ge=1,
        description="tokens of an input that the prompt router reads and is fitted on; of a prompt to complete it "
        "reads half as many, before the cursor",
    )
    proof_tokens: int = Field(96, ge=2, description="tokens of each proof's text")
    seed: int = Field(0, description="chooses documents and prefixes")


class TuneConfig(OptimiserConfig):
    """How a composed model is tuned by gradient: its token routers, its experts, or both."""

    what: Literal["routers", "experts", "whole"] = Field(
        "routers",
        description="weights that move: token routers, experts whose tokens the routers choose as they were fitted, or "
        "both (BTX's last step)",
    )
    top_k: int | None = Field(None, ge=1, description="experts a token, tuned for and written; default: the model's")
    learning_rate: float = Field(
        1e-4,
        gt=0,
        description="peak learning rate of AdamW; published for routers: 1e-4 over 1000 steps from a closed-form fit "
        "(DUME), 2e-3 from other beginnings (FlexOlmo)",
    )
    own_rate: float | None = Field(
        None,
        ge=0,
        description="where experts move, each is the sum of a part that all have in common, which learns from every "
        "token at the learning rate, and of its own, which learns what sets its tokens apart at so much of that rate; "
        "null: nothing is in common",
    )
    steps: int = Field(200, ge=1, description="optimiser steps")
    sequences_per_language: int = Field(2, ge=1, description="sequences of each language in a step")
    sequences_per_forward: int = Field(
        1,
        ge=1,
        description="sequences of each language in a forward pass, at most; bounds memory; the switch balance is over "
        "these",
    )
    sequence_length: int = Field(256, ge=8, description="tokens in a sequence; bounds memory")
    distillation: float | None = Field(
        None,
        ge=0,
        description="weight of the KL divergence from each language's own expert, which must be frozen; default: 1 "
        "with routers, else 0",
    )
    z_loss: float = Field(
        1e-3, ge=0, description="weight of the routers' z-loss, the mean over layers; with experts there is none"
    )
    balance: Literal["none", "switch", "bias"] = Field(
        "none", description="what evens the experts' load: nothing, Switch Transformer's loss, or a bias of the choice"
    )
    balance_weight: float = Field(0.01, ge=0, description="weight of Switch Transformer's loss, the mean over layers")
    balance_step: float = Field(1e-3, gt=0, description="how far a step moves the bias; it is not part of the result")
    validate_every: int = Field(20, ge=1, description="steps between two validations; the best step is kept")
    validation_sequences: int = Field(8, ge=1, description="sequences a language that validation alone reads")
    precision: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="compute format; auto is bfloat16 where the hardware multiplies in it"
    )
    checkpoint_seconds: float = Field(60, ge=0, description="a killed run loses at most so much work")
    seed: int = Field(0, description="orders documents")

    @property
    def distillation_weight(self) -> float:
        """The weight in force."""
        return self.distillation if self.distillation is not None else float(self.what == "routers")

    @property
    def moves_experts(self) -> bool:
        """Whether experts move."""
        return self.what != "routers"

    @property
    def moves_routers(self) -> bool:
        """Whether token routers move."""
        return self.what != "experts"

    @model_validator(mode="after")
    def _fits_what_moves(self) -> Self:
        if self.moves_experts and self.distillation:
            raise ValueError("distillation needs frozen experts: what=routers, or distillation=0")
        if not self.moves_experts and self.own_rate is not None:
            raise ValueError("own_rate needs experts that move: what=experts, what=whole, or own_rate=null")
        if not self.moves_routers and self.balance != "none":
            raise ValueError("balance needs routers that move: what=whole, what=routers, or balance=none")
        return self
