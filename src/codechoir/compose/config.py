"""What the compose stage can be told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from codechoir.config import Config

Shared = Literal["base", "mean", "require-equal"]


class ComposeConfig(Config):
    """What becomes of the experts' weights, budgets of the routers' fit, and the format's defaults."""

    shared: Shared = Field(
        "require-equal",
        description="weights that all experts share: the base's, the experts' mean, or refused where they differ",
    )
    generalist: bool = Field(False, description="whether the base's own feed-forward becomes an expert, too")
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
    prefix_tokens: int = Field(512, ge=1, description="tokens of an input that the prompt router reads")
    proof_tokens: int = Field(96, ge=2, description="tokens of each proof's text")
    seed: int = Field(0, description="chooses documents and prefixes")
