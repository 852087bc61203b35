"""What the compose stage can be told."""

from __future__ import annotations

from pydantic import Field

from codechoir.config import Config


class ComposeConfig(Config):
    """Budgets of the routers' fit, and the format's defaults."""

    top_k: int = Field(2, ge=1, description="experts a token in the written Mixtral config")
    fit_sequences: int = Field(16, ge=1, description="sequences a language that the token routers are fitted on")
    calibration_sequences: int = Field(4, ge=1, description="further sequences a language that calibrate temperatures")
    sequence_length: int = Field(512, ge=8, description="tokens in such a sequence")
    ridge: float = Field(1e-2, gt=0, description="ridge penalty, as a share of the moments' mean diagonal")
    prompt_documents: int = Field(400, ge=5, description="training documents a language that fit the prompt router")
    prompt_penalty: float = Field(1e-4, gt=0, description="L2 penalty of the prompt router's logistic regression")
    prefix_tokens: int = Field(512, ge=1, description="tokens of an input that the prompt router reads")
    proof_tokens: int = Field(96, ge=2, description="tokens of each proof's text")
    seed: int = Field(0, description="chooses documents and prefixes")
