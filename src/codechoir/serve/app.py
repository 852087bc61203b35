"""The application: which routes there are, and their OpenAPI document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from codechoir.console import say
from codechoir.serve.completions import chat, complete
from codechoir.serve.documents import document, responses
from codechoir.serve.front import Front, Served
from codechoir.serve.infill import infill
from codechoir.serve.keys import ApiKeys
from codechoir.serve.metrics import CONTENT_TYPE
from codechoir.serve.models import ServedModel
from codechoir.serve.playground import PageFile, read_playground
from codechoir.serve.refusals import RefusedError
from codechoir.serve.service import Service, json_response

Handler = Callable[[Service, Request], Awaitable[Response]]


def create_app(service: Service, served: Served, keys: ApiKeys, log: Callable[[str], None] = say) -> ASGIApp:
    """The ASGI application of a service. `served` says whether it drains, and how many requests generate."""
    app = FastAPI(title="codechoir", openapi_url=None, docs_url=None, redoc_url=None)
    _add_generating(app, service)
    _add_telling(app, service, served)
    _add_playground(app, read_playground())
    described = document(app)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return json_response(described)

    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(HTTPException, _refused_by_starlette)
    app.add_exception_handler(Exception, _failed)  # which is raised on, to be logged
    checks_host = service.config.is_loopback and not keys
    front: ASGIApp = Front(app, keys, service.metrics, served, log, checks_host)
    if service.config.cors_origins:
        front = CORSMiddleware(
            front,
            allow_origins=list(service.config.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type"],
            expose_headers=["x-route", "x-request-id"],
        )
    return front


def _add_generating(app: FastAPI, service: Service) -> None:
    handlers: dict[str, tuple[Handler, str]] = {
        "/v1/completions": (complete, "Completions of text, or infillings with a suffix"),
        "/v1/chat/completions": (chat, "An answer in a chat"),
        "/infill": (infill, "An infilling, as llama.cpp's editor plugins ask for it"),
    }

    def add(path: str, handler: Handler, summary: str) -> None:
        async def handle(request: Request) -> Response:
            response = await handler(service, request)
            route = response.headers.get("x-route")
            if route is not None:
                request.state.facts["route"] = route
            return response

        app.add_api_route(path, handle, methods=["POST"], summary=summary, responses=responses(path), name=path)

    for path, (handler, summary) in handlers.items():
        add(path, handler, summary)


def _add_telling(app: FastAPI, service: Service, served: Served) -> None:
    """The routes that say what there is and how it goes."""

    @app.get("/v1/models", summary="The models by name", responses=responses("/v1/models"))
    async def models() -> Response:
        return json_response({"object": "list", "data": [_told(id, model) for id, model in service.catalogue.ids()]})

    @app.get("/health", summary="Whether the process lives", responses=responses("/health"))
    async def health() -> Response:
        return json_response({"status": "ok"})

    @app.get("/ready", summary="Whether it takes requests", responses=responses("/ready"))
    async def ready() -> Response:
        if served.draining:
            raise RefusedError(503, "the server is stopping", code="stopping", retry_after=1)
        return json_response({"status": "ready"})

    @app.get("/metrics", summary="Prometheus' text format", responses=responses("/metrics"))
    async def metrics() -> Response:
        return Response(service.metrics.exposition(), headers={"content-type": CONTENT_TYPE})


def _add_playground(app: FastAPI, files: dict[str, PageFile]) -> None:
    if "index.html" not in files:
        return

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return files["index.html"].response()

    @app.get("/playground/{name}", include_in_schema=False)
    async def part(name: str) -> Response:
        if name not in files:
            raise RefusedError(404, "no such file", code="not_found")
        return files[name].response()


def _told(id: str, model: ServedModel) -> dict[str, Any]:
    """A model as /v1/models tells it, and what it can do."""
    abilities = model.engine.abilities
    tail = id.partition("/")[2]
    routing = tail if tail not in ("", "auto") else "prompt"
    return {
        "id": id,
        "object": "model",
        "created": 0,
        "owned_by": "codechoir",
        "x_experts": list(abilities.experts),
        "x_routing": routing if abilities.experts else None,
        "x_context": abilities.context,
        "x_infill": model.infilling is not None,
        "x_chat": model.chat_template is not None,
        "x_traces": abilities.traces,
        "x_lacks": list(abilities.lacks),
    }


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return Response(error.body(), error.status, error.headers)


async def _failed(_request: Request, _error: Exception) -> Response:
    refusal = RefusedError(500, "internal error", code="internal")
    return Response(refusal.body(), refusal.status, refusal.headers)


async def _refused_by_starlette(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = {404: "no such path", 405: "this path has other methods"}
    refusal = RefusedError(error.status_code, words.get(error.status_code, str(error.detail)))
    return Response(refusal.body(), refusal.status, {**refusal.headers, **(error.headers or {})})
