"""The OpenAPI document: the requests' bodies, the answers' forms, and every status that a route may give."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict, Field

from codechoir.serve.bodies import Body, ChatBody, CompletionBody, InfillBody

_BODIES: dict[str, type[Body]] = {
    "/v1/completions": CompletionBody,
    "/v1/chat/completions": ChatBody,
    "/infill": InfillBody,
}
_STATUSES = {
    400: "The request is wrong, or asks for what the model cannot do",
    401: "No valid API key",
    404: "No such model",
    408: "The body did not come in time",
    413: "The body is too large",
    415: "The body is not JSON",
    429: "Too many requests",
    500: "A bug",
    503: "The server is stopping",
    504: "The deadline has passed",
}


class Told(BaseModel):
    """Base of the answers' forms."""

    model_config = ConfigDict(extra="allow")


class ErrorDetail(Told):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(Told):
    """OpenAI's form of errors."""

    error: ErrorDetail


class Usage(Told):
    """Tokens read and generated."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class RouteTold(Told):
    """How a sequence was routed."""

    routing: str | None = Field(description="prompt, token or fixed; null: a dense model.")
    expert: str | None = Field(description="The expert with the largest share of the routing decisions.")
    probability: float | None
    source: str | None = Field(description="What decided: model (its name), path, prompt or token.")
    shares: dict[str, float]
    probabilities: dict[str, float] = Field(description="The prompt router's.")


class TokenTold(Told):
    """A token and the experts that predicted it, one a layer that has experts."""

    id: int
    text: str
    experts: list[str]


class CompletionChoice(Told):
    """One completion."""

    index: int
    text: str
    finish_reason: str
    logprobs: dict[str, Any] | None
    x_route: RouteTold
    x_tokens: list[TokenTold] = []


class CompletionAnswer(Told):
    """OpenAI's text completion."""

    id: str
    object: str
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
    x_route: RouteTold


class ChatMessage(Told):
    """What the model says."""

    role: str
    content: str


class ChatChoice(Told):
    """One answer."""

    index: int
    message: ChatMessage
    finish_reason: str
    logprobs: dict[str, Any] | None
    x_route: RouteTold


class ChatAnswer(Told):
    """OpenAI's chat completion."""

    id: str
    object: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    x_route: RouteTold


class InfillAnswer(Told):
    """llama.cpp's infilling; `response_fields` may leave any of it out."""

    content: str = ""
    stop: bool = True
    model: str = ""
    tokens_predicted: int = 0
    tokens_evaluated: int = 0
    stop_type: str = ""
    x_route: RouteTold | None = None


class ModelTold(Told):
    """A model's name and what it can do."""

    id: str
    object: str
    created: int
    owned_by: str
    x_experts: list[str]
    x_routing: str | None
    x_context: int
    x_infill: bool
    x_chat: bool
    x_traces: bool


class ModelsAnswer(Told):
    """The models."""

    object: str
    data: list[ModelTold]


class StatusAnswer(Told):
    """How it goes."""

    status: str


_ANSWERS: dict[str, type[Told]] = {
    "/v1/completions": CompletionAnswer,
    "/v1/chat/completions": ChatAnswer,
    "/infill": InfillAnswer,
    "/v1/models": ModelsAnswer,
    "/health": StatusAnswer,
    "/ready": StatusAnswer,
}
_MAY_GIVE = {
    "/v1/completions": tuple(_STATUSES),
    "/v1/chat/completions": tuple(_STATUSES),
    "/infill": tuple(_STATUSES),
    "/v1/models": (400, 401, 500),
    "/metrics": (400, 401, 500),
    "/health": (400, 500),
    "/ready": (400, 500, 503),
}


def responses(path: str) -> dict[int | str, dict[str, Any]]:
    """The statuses of a route and the forms of their answers, as FastAPI takes them."""
    told: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorAnswer, "description": _STATUSES[status]} for status in _MAY_GIVE[path]
    }
    if path == "/metrics":
        return {200: {"description": "Metrics", "content": {"text/plain": {"schema": {"type": "string"}}}}} | told
    return {200: {"model": _ANSWERS[path], "description": "Done"}} | told


def document(app: FastAPI) -> dict[str, Any]:
    """The document of an application's routes, with the bodies that the routes read themselves."""
    described: dict[str, Any] = get_openapi(title="codechoir", version="1", routes=app.routes)
    schemas = described["components"]["schemas"]
    for path, body in _BODIES.items():
        schema = body.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {}) | {body.__name__: schema}
        post = described["paths"][path]["post"]
        reference = {"schema": {"$ref": f"#/components/schemas/{body.__name__}"}}
        post["requestBody"] = {"required": True, "content": {"application/json": reference}}
        # Readers differ in what a stream's schema is of, its whole text or each event, so there is none.
        post["responses"]["200"]["content"]["text/event-stream"] = {}
        post["responses"]["429"]["headers"] = {"retry-after": {"schema": {"type": "integer"}}}
    for told in described["paths"]["/metrics"].values():
        told["responses"]["200"]["content"].pop("application/json", None)
    described["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path in (*_BODIES, "/v1/models", "/metrics"):
        for told in described["paths"][path].values():
            told["security"] = [{"key": []}, {}]
    return described
