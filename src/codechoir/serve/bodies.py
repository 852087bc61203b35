"""The bodies of requests: OpenAI's completions and chat completions, and llama.cpp's infill.

Fields that are not here are ignored, as llama.cpp does: its plugins send its samplers' settings along. Fields of
OpenAI's that would change the answer and cannot be met are here, to be refused unless they ask for nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_STOPS = 32  # OpenAI takes 4; Continue sends every stop of its template
_SEEDS = 2**63

Stop = Annotated[str, Field(min_length=1, max_length=256)]
Stops = Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS)]
Temperature = Annotated[float, Field(ge=0, le=2)]
TopP = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=-_SEEDS, lt=_SEEDS)]
TokenId = Annotated[int, Field(ge=0)]


class Body(BaseModel):
    """What all have."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)

    model: str = Field("", description="A name of /v1/models; empty: the first model.")
    x_path: str | None = Field(None, description="The file's name or path: its language chooses the expert.")
    x_trace: bool = Field(False, description="Tell each token's experts, a name for each layer that has experts.")


class StreamOptions(BaseModel):
    """OpenAI's options of streams."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    include_usage: bool | None = None


class OpenAIBody(Body):
    """What OpenAI's two kinds of completions have in common."""

    n: int | None = Field(None, ge=1, description="Completions of each prompt.")
    temperature: Temperature | None = Field(None, description="0 is greedy; without it, 1.")
    top_p: TopP | None = None
    stop: Stops | None = None
    seed: Seed | None = Field(None, description="Fixes what is drawn, whatever else the server is doing.")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = Field(None, description="Ignored.")
    presence_penalty: float | None = Field(None, description="Refused unless 0.")
    frequency_penalty: float | None = Field(None, description="Refused unless 0.")
    logit_bias: dict[str, float] | None = Field(None, description="Refused unless empty.")

    @model_validator(mode="after")
    def _nothing_that_cannot_be_done(self) -> Self:
        for name in ("presence_penalty", "frequency_penalty", "logit_bias"):
            if getattr(self, name):
                raise ValueError(f"{name} is not supported; leave it out")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options goes with stream alone")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return () if self.stop is None else (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with its usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)


class CompletionBody(OpenAIBody):
    """POST /v1/completions."""

    prompt: str | list[str] | list[TokenId] | list[list[TokenId]] = Field(
        "", description="Text, token ids, or several."
    )
    suffix: str | None = Field(None, description="The text after the cursor, for models with infilling tokens.")
    max_tokens: int | None = Field(None, ge=0, description="Without it, 16.")
    best_of: int | None = Field(None, ge=1, description="Completions to draw, of which the n most probable are told.")
    echo: bool | None = Field(None, description="Put the prompt before the completion.")
    logprobs: int | None = Field(None, ge=0, le=20, description="The most probable tokens to tell with each.")


class TextPart(BaseModel):
    """A piece of a message."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    type: str
    text: str = ""


class Message(BaseModel):
    """One message of a chat."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    role: str
    content: str | list[TextPart] | None = None

    @property
    def text(self) -> str:
        """The message's text, its parts joined."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class ChatBody(OpenAIBody):
    """POST /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=-1, description="Without it or with -1, as many as the limit allows.")
    max_completion_tokens: int | None = Field(None, ge=1, description="The same by its later name.")
    logprobs: bool | None = Field(None, description="Tell each token's log probability.")
    top_logprobs: int | None = Field(None, ge=0, le=20)
    tools: list[Any] | None = Field(None, description="Refused unless empty.")
    functions: list[Any] | None = Field(None, description="Refused unless empty.")
    response_format: dict[str, Any] | None = Field(None, description='Refused unless {"type": "text"}.')

    @model_validator(mode="after")
    def _text_alone(self) -> Self:
        if self.tools or self.functions:
            raise ValueError("tools are not supported; leave them out")
        if self.response_format is not None and self.response_format.get("type") != "text":
            raise ValueError("the only response_format is text")
        parts = [part for one in self.messages if isinstance(one.content, list) for part in one.content]
        if any(part.type != "text" for part in parts):
            raise ValueError("messages hold text alone")
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs goes with logprobs alone")
        return self


class ExtraChunk(BaseModel):
    """A piece of another file."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    text: str
    filename: str = ""


class InfillBody(Body):
    """POST /infill."""

    input_prefix: str = Field(description="The text before the cursor's line.")
    input_suffix: str = Field(description="The text after the cursor.")
    prompt: str = Field("", description="The cursor's line up to the cursor; goes after input_prefix.")
    input_extra: list[ExtraChunk] | None = Field(None, description="Pieces of other files, the most useful last.")
    n_predict: int | None = Field(None, ge=-1, description="Tokens at most; -1: the limit; 0: answers at once.")
    temperature: float | None = Field(None, description="Without it or below 0, 0: greedy.")
    top_p: float | None = Field(None, ge=0, le=1)
    seed: Seed | None = Field(None, description="-1 draws one.")
    stop: Annotated[list[str], Field(max_length=MAX_STOPS)] | None = None
    stream: bool | None = None
    response_fields: list[str] | None = Field(None, description="Tell these alone; a/b is b of a.")
    t_max_predict_ms: int | None = Field(None, description="Stop after this time, once there is a whole line.")
