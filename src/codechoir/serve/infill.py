"""POST /infill: fill-in-the-middle as llama.cpp's editor plugins (llama.vim, llama.vscode) call it.

Its answers have llama.cpp's fields, as far as they mean anything here. Nothing of a prompt is kept for the next one, so
a request for no tokens, by which the plugins warm llama.cpp's cache, is answered at once.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from codechoir.serve.answers import Generated, early_route_header, route_header, route_told
from codechoir.serve.bodies import InfillBody
from codechoir.serve.prompts import Plan, infill_plan, require_infilling
from codechoir.serve.refusals import refusal_of
from codechoir.serve.running import Run, StoppedError
from codechoir.serve.service import EventStream, Service, json_response, read_body, sse, stopped_refusal

_STOP_TYPES = {"stop": "word", "end": "eos", "length": "limit", "cancelled": "limit"}


async def infill(service: Service, request: Request) -> Response:
    """POST /infill."""
    body = await read_body(request, InfillBody, service.config)
    choice = service.catalogue.choose(body.model, body.x_path)
    require_infilling(choice.model)
    if body.n_predict == 0:
        return json_response(_selected(_final(Plan(choice, ()), Generated(), "", "none"), body))
    plan = infill_plan(body, choice, service.config)
    run = await service.begin(request, plan, bool(body.stream))
    if body.stream:
        return EventStream(run, _streamed(body, plan, run), early_route_header(choice, run.first))
    text = ""
    answer: dict[str, Any] = {}
    try:
        async for part, final in _parts(body, plan, run):
            text, answer = text + part, final or answer
    except StoppedError as error:
        raise stopped_refusal(error.reason) from None
    except Exception as error:
        raise refusal_of(error) or error from None
    finally:
        run.done()
    return json_response(_selected(answer | {"content": text}, body), route_header(answer["x_route"]))


async def _streamed(body: InfillBody, plan: Plan, run: Run) -> AsyncIterator[bytes]:
    async for part, final in _parts(body, plan, run):
        if part:
            yield sse({"index": 0, "content": part, "tokens": [], "stop": False})
        if final is not None:
            yield sse(_selected(final, body))


async def _parts(body: InfillBody, plan: Plan, run: Run) -> AsyncIterator[tuple[str, dict[str, Any] | None]]:
    """(new text, None), and in the end ("", what is told of the whole)."""
    sequence, text, stop_type = Generated(began=run.began), "", ""
    async for events in run.events():
        told = len(sequence.texts)
        for _, event in events:
            sequence.take(event)
        part = "".join(sequence.texts[told:])
        text += part
        yield part, None
        if sequence.end is None and _is_late(body, sequence, text):
            run.cancel()  # its last event is an end like any other
    assert sequence.end is not None
    stop_type = _STOP_TYPES[sequence.end.finish]
    final = _final(plan, sequence, text, stop_type)
    yield "", final | {"content": ""}


def _is_late(body: InfillBody, sequence: Generated, text: str) -> bool:
    if not body.t_max_predict_ms or body.t_max_predict_ms < 0 or "\n" not in text:
        return False
    return (time.monotonic() - sequence.first) * 1000 > body.t_max_predict_ms


def _final(plan: Plan, sequence: Generated, text: str, stop_type: str) -> dict[str, Any]:
    """llama.cpp's last object, and `x_route`."""
    end = sequence.end
    num_prompt, num_new = (end.num_prompt_tokens, end.num_tokens) if end is not None else (0, 0)
    request = plan.requests[0] if plan.requests else None
    return {
        "index": 0,
        "content": text,
        "tokens": [],
        "stop": True,
        "model": plan.choice.id,
        "tokens_predicted": num_new,
        "tokens_evaluated": num_prompt,
        "tokens_cached": num_prompt + num_new,
        "generation_settings": {
            "n_ctx": plan.choice.model.engine.abilities.context,
            "n_predict": request.max_tokens if request is not None else 0,
            "temperature": request.temperature if request is not None else 0.0,
            "top_p": request.top_p if request is not None else 1.0,
            "seed": request.seed if request is not None else 0,
            "stop": list(request.stop) if request is not None else [],
        },
        "has_new_line": "\n" in text,
        "truncated": False,
        "stop_type": stop_type,
        "stopping_word": "",
        "timings": _timings(sequence, num_prompt, num_new),
        "x_route": None if end is None else route_told(plan.choice, end),
    }


def _timings(sequence: Generated, num_prompt: int, num_new: int) -> dict[str, float]:
    """How long the prompt (its wait included) and the tokens took."""
    prompt_ms = max(0.0, (sequence.first - sequence.began) * 1000) if sequence.first else 0.0
    new_ms = (sequence.last - sequence.first) * 1000
    return {
        "prompt_n": num_prompt,
        "prompt_ms": prompt_ms,
        "prompt_per_token_ms": prompt_ms / max(1, num_prompt),
        "prompt_per_second": num_prompt / prompt_ms * 1000 if prompt_ms else 0.0,
        "predicted_n": num_new,
        "predicted_ms": new_ms,
        "predicted_per_token_ms": new_ms / max(1, num_new),
        "predicted_per_second": num_new / new_ms * 1000 if new_ms else 0.0,
    }


def _selected(answer: dict[str, Any], body: InfillBody) -> dict[str, Any]:
    """What `response_fields` asks for: a path a/b is told as "a/b"; those that lead nowhere are left out."""
    if not body.response_fields:
        return answer
    told = {}
    for path in body.response_fields:
        value: Any = answer
        for key in path.split("/"):
            value = value.get(key, _MISSING) if isinstance(value, dict) else _MISSING
        if value is not _MISSING:
            told[path] = value
    return told


_MISSING = object()
