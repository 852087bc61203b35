"""What the generate stage can be told."""

from __future__ import annotations

from typing import Literal, Self, get_args

from pydantic import Field

from codechoir.config import Config

ModelChoice = Literal[
    "base",
    "trunk",
    "universal",
    "experts",
    "soup",
    "moe-prompt",
    "moe-token-top1",
    "moe-token-top2",
    "moe-oracle",
    "moe-uniform",
    "moe-tuned",
]
ALL_MODELS: tuple[ModelChoice, ...] = get_args(ModelChoice)
TUNED: ModelChoice = "moe-tuned"


class GenerateConfig(Config):
    """Which models score held-out files, complete problems and fill in lines, and how."""

    score: tuple[ModelChoice, ...] = Field(
        ALL_MODELS,
        description="models that score held-out files; soup is the experts' weight average, moe-tuned is left out "
        "where the recipe tunes nothing",
    )
    complete: tuple[ModelChoice, ...] = Field(
        ALL_MODELS, description="models that complete problems; an expert completes its own language's alone"
    )
    infill: tuple[ModelChoice, ...] = Field(
        ALL_MODELS,
        description="models that fill in lines of held-out files; an expert does its own language's alone, and models "
        "without infilling tokens are left out",
    )
    held_out_documents: int = Field(48, ge=1, description="held-out files a language, taken in turn from its packages")
    held_out_part: Literal["beginning", "second-half"] = Field(
        "beginning",
        description="what of each file is scored: from its first line, or from the line after its middle, where there "
        "is no licence's header, which a short window else measures first of all",
    )
    held_out_tokens: int = Field(
        512, ge=8, description="tokens of that part that are scored, from its beginning; of an infilling's prompt, too"
    )
    infilling_documents: int = Field(
        0,
        ge=0,
        description="held-out files a language, in the same order, in each of which one line is filled in; "
        "0 is no infilling",
    )
    num_samples: int = Field(1, ge=1, description="completions a problem (n of pass@k)")
    temperature: float = Field(0.0, ge=0, description="0 is greedy")
    top_p: float = Field(0.95, gt=0, le=1, description="nucleus of sampling; greedy ignores it")
    max_tokens: int = Field(256, ge=1, description="tokens of a completion or a filled-in line at most")
    batch_size: int = Field(16, ge=1, description="sequences in a batch when completing or filling in")
    score_batch_size: int = Field(
        1, ge=1, description="files in a batch when scoring; on a CPU more only pad, on a GPU more are faster"
    )
    precision: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="compute format; auto is bfloat16 where the hardware multiplies in it"
    )
    seed: int = Field(0, description="seeds samples and the choice of held-out files")

    def untuned(self) -> Self:
        """The same for a run in which no model is tuned."""
        roles = ("score", "complete", "infill")
        without = {name: tuple(each for each in getattr(self, name) if each != TUNED) for name in roles}
        return self.model_copy(update=without)
