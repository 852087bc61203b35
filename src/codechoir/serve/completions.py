"""POST /v1/completions and POST /v1/chat/completions: OpenAI's answers, whole and streamed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from codechoir.model.requests import Chunk, Token
from codechoir.serve.answers import (
    Generated,
    chat_logprobs_told,
    early_route_header,
    finish_reason,
    fixed_route_header,
    logprobs_told,
    new_id,
    route_header,
    route_told,
    tokens_told,
    usage_told,
)
from codechoir.serve.bodies import ChatBody, CompletionBody, OpenAIBody
from codechoir.serve.prompts import Plan, chat_plan, completion_plan
from codechoir.serve.running import Run
from codechoir.serve.service import EventStream, Service, collect, json_response, read_body, sse


@dataclass(frozen=True, slots=True)
class _Form:
    """How one of the two routes tells things."""

    plan: Plan
    body: OpenAIBody
    id: str
    created: int
    is_chat: bool
    tells_logprobs: bool

    def answer(self, choices: list[dict[str, Any]], streamed: bool) -> dict[str, Any]:
        """The outer object."""
        kind = ("chat.completion.chunk" if streamed else "chat.completion") if self.is_chat else "text_completion"
        model = self.plan.choice.id
        return {"id": self.id, "object": kind, "created": self.created, "model": model, "choices": choices}

    def choice(self, index: int, text: str, tokens: Sequence[Token], offset: int) -> dict[str, Any]:
        """A piece of a choice, or the whole of one, without its end."""
        model = self.plan.choice.model
        told: dict[str, Any] = {"index": index}
        if not self.is_chat:
            told["text"] = text
        told["logprobs"] = None
        told["finish_reason"] = None
        if self.tells_logprobs:
            told["logprobs"] = (
                chat_logprobs_told(tokens, model) if self.is_chat else logprobs_told(tokens, model, offset)
            )
        if self.body.x_trace:
            told["x_tokens"] = tokens_told(tokens, model)
        return told


async def complete(service: Service, request: Request) -> Response:
    """POST /v1/completions."""
    body = await read_body(request, CompletionBody, service.config)
    choice = service.catalogue.choose(body.model, body.x_path)
    plan = completion_plan(body, choice, service.config)
    form = _Form(plan, body, new_id("cmpl"), int(time.time()), False, body.logprobs is not None)
    return await _respond(service, request, form)


async def chat(service: Service, request: Request) -> Response:
    """POST /v1/chat/completions."""
    body = await read_body(request, ChatBody, service.config)
    choice = service.catalogue.choose(body.model, body.x_path)
    plan = chat_plan(body, choice, service.config)
    form = _Form(plan, body, new_id("chatcmpl"), int(time.time()), True, bool(body.logprobs))
    return await _respond(service, request, form)


async def _respond(service: Service, request: Request, form: _Form) -> Response:
    plan = form.plan
    if not plan.requests:
        return json_response(_echoed(form), fixed_route_header(plan.choice))
    run = await service.begin(request, plan, bool(form.body.stream))
    if form.body.stream:
        return EventStream(run, _streamed(form, run), early_route_header(plan.choice, run.first))
    answer = _whole(form, await collect(run, plan))
    return json_response(answer, route_header(answer["x_route"]))


def _echoed(form: _Form) -> dict[str, Any]:
    """The prompts alone, where no token is asked for."""
    encode = form.plan.choice.model.engine.tokenizer.encode
    size = sum(len(encode(text)) for text in form.plan.echoes)
    choices = [form.choice(index, text, (), 0) for index, text in enumerate(form.plan.echoes)]
    for choice in choices:
        choice["finish_reason"] = "length"
    usage = {"prompt_tokens": size, "completion_tokens": 0, "total_tokens": size}
    return form.answer(choices, False) | {"usage": usage}


def _whole(form: _Form, sequences: list[Generated]) -> dict[str, Any]:
    """The answer of a run that has ended; of each prompt's draws the most probable are kept."""
    plan = form.plan
    choices: list[dict[str, Any]] = []
    for start in range(0, len(sequences), plan.drawn):
        drawn = sequences[start : start + plan.drawn]
        if plan.kept < plan.drawn:
            drawn = sorted(drawn, key=lambda one: -one.mean_logprob)[: plan.kept]
        echo = plan.echoes[start // plan.drawn] if plan.echoes else ""
        for one in drawn:
            assert one.end is not None
            choice = form.choice(len(choices), echo + one.text, one.tokens, len(echo))
            if form.is_chat:
                choice["message"] = {"role": "assistant", "content": one.text, "refusal": None}
            choice["finish_reason"] = finish_reason(one.end)
            choice["x_route"] = route_told(plan.choice, one.end)
            choices.append(choice)
    answer = form.answer(choices, False)
    return answer | {"usage": usage_told(sequences, plan.drawn), "x_route": choices[0]["x_route"]}


async def _streamed(form: _Form, run: Run) -> AsyncIterator[bytes]:
    """The events of a stream. Chunks of one sequence that came together are told together."""
    plan = form.plan
    sequences = [Generated(began=run.began) for _ in plan.requests]
    offsets = [0] * len(sequences)
    for index, _ in enumerate(sequences):
        echo = plan.echoes[index // plan.drawn] if plan.echoes else ""
        offsets[index] = len(echo)
        if echo or form.is_chat:
            yield sse(_piece(form, index, echo, (), 0, first=True))
    async for events in run.events():
        pieces: dict[int, list[Chunk]] = {}
        for place, event in events:
            sequences[place].take(event)
            if isinstance(event, Chunk):
                pieces.setdefault(place, []).append(event)
        for place, chunks in pieces.items():
            text = "".join(chunk.text for chunk in chunks)
            tokens = [token for chunk in chunks for token in chunk.tokens]
            if text or form.tells_logprobs or form.body.x_trace:
                yield sse(_piece(form, place, text, tokens, offsets[place]))
            offsets[place] += len(text)
        for place, event in events:
            if not isinstance(event, Chunk):
                yield sse(_end_piece(form, place, sequences[place]))
        for one in sequences:  # what is told need not be kept
            one.texts.clear()
            one.tokens.clear()
    if form.body.includes_usage:
        yield sse(form.answer([], True) | {"usage": usage_told(sequences, plan.drawn)})
    yield b"data: [DONE]\n\n"


def _piece(
    form: _Form, index: int, text: str, tokens: Sequence[Token], offset: int, first: bool = False
) -> dict[str, Any]:
    choice = form.choice(index, text, tokens, offset)
    if form.is_chat:
        choice["delta"] = {"role": "assistant", "content": text} if first else {"content": text}
    return _with_usage(form, form.answer([choice], True))


def _end_piece(form: _Form, index: int, sequence: Generated) -> dict[str, Any]:
    assert sequence.end is not None
    choice: dict[str, Any] = {"index": index, "logprobs": None, "finish_reason": finish_reason(sequence.end)}
    if form.is_chat:
        choice["delta"] = {}
    else:
        choice["text"] = ""
    route = route_told(form.plan.choice, sequence.end)
    return _with_usage(form, form.answer([choice | {"x_route": route}], True) | {"x_route": route})


def _with_usage(form: _Form, answer: dict[str, Any]) -> dict[str, Any]:
    """With usage asked for, all chunks but the last say that they have none, as OpenAI's do."""
    return answer | {"usage": None} if form.body.includes_usage else answer
