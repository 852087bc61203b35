"""From a body to what the engine is asked: prompts in their formats, limits held, seeds given.

Text of files (an infilling's pieces) is encoded as text alone; a prompt that the caller writes himself may spell out
special tokens.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from codechoir.model.infilling_format import NUM_CONTROL, InfillingFormat
from codechoir.model.requests import Request
from codechoir.serve.bodies import ChatBody, CompletionBody, ExtraChunk, InfillBody, OpenAIBody
from codechoir.serve.config import ServeConfig
from codechoir.serve.models import Choice, ServedModel
from codechoir.serve.refusals import RefusedError

_SEEDS = 2**63
_SEED_SOURCE = random.Random()  # seeded by the system
_DEFAULT_TOKENS = 16  # OpenAI's
_SNIPPET = "\n\n--- snippet ---\n\n"  # llama.cpp's, for models that have no token between files


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request asks of an engine: `drawn` sequences of each prompt, of which `kept` are told."""

    choice: Choice
    requests: tuple[Request, ...]
    drawn: int = 1
    kept: int = 1
    echoes: tuple[str, ...] = ()  # each prompt's text, to be told before its completions

    @property
    def num_characters(self) -> int:
        """The size of the prompts that are yet to be tokenised, and of what the router reads."""
        texts = (one.prompt if isinstance(one.prompt, str) else one.cursor or "" for one in self.requests)
        return sum(map(len, texts))


def completion_plan(body: CompletionBody, choice: Choice, config: ServeConfig) -> Plan:
    """What POST /v1/completions asks. Raises RefusedError."""
    prompts = _prompts(body.prompt)
    kept = body.n or 1
    drawn = body.best_of or kept
    if drawn < kept:
        raise RefusedError(400, "best_of must not be less than n", param="best_of")
    if drawn > kept and body.stream:
        raise RefusedError(400, "best_of above n cannot be streamed", param="best_of")
    if body.echo and body.logprobs is not None:
        raise RefusedError(400, "log probabilities of the prompt are not supported: echo or logprobs", param="logprobs")
    if body.max_tokens == 0 and not body.echo:
        raise RefusedError(400, "max_tokens of 0 goes with echo alone", param="max_tokens")
    _check_choices(drawn * len(prompts), config)
    base = _base(body, choice, _num_tokens(body.max_tokens, _DEFAULT_TOKENS, config))
    logprobs = body.logprobs if drawn == kept else body.logprobs or 0
    base = replace(base, logprobs=logprobs)
    if body.suffix:
        formatted = [_infilling(base, choice.model, prompt, body.suffix) for prompt in prompts]
    else:
        formatted = [replace(base, prompt=prompt, cursor=_cursor(prompt, choice.model)) for prompt in prompts]
    for one in formatted:
        check_prompt(one, choice.model, config)
    echoes = tuple(_text(prompt, choice.model) for prompt in prompts) if body.echo else ()
    requests = () if body.max_tokens == 0 else _draws(formatted, drawn)
    return Plan(choice, requests, drawn, kept, echoes)


def chat_plan(body: ChatBody, choice: Choice, config: ServeConfig) -> Plan:
    """What POST /v1/chat/completions asks. The last user's message tells the language. Raises RefusedError."""
    model = choice.model
    if model.chat_template is None:
        message = f"{model.name} has no chat template; use /v1/completions"
        raise RefusedError(400, message, param="model", code="no_chat_template")
    kept = body.n or 1
    _check_choices(kept, config)
    wanted = body.max_completion_tokens or body.max_tokens
    base = _base(body, choice, _num_tokens(None if wanted == -1 else wanted, config.max_tokens, config))
    messages = [{"role": message.role, "content": message.text} for message in body.messages]
    try:
        text = model.chat_template.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = model.chat_template(text, add_special_tokens=False, verbose=False)["input_ids"]
    except Exception as error:  # a template is a program of the model's maker; it raises what it likes
        raise RefusedError(400, f"the chat template refuses these messages: {type(error).__name__}") from None
    asked = [message.text for message in body.messages if message.role == "user"]
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    request = replace(base, prompt=tuple(ids), cursor=asked[-1] if asked else None, logprobs=logprobs)
    check_prompt(request, model, config)
    return Plan(choice, _draws([request], kept), kept, kept)


def infill_plan(body: InfillBody, choice: Choice, config: ServeConfig) -> Plan:
    """What POST /infill asks; far text is cut off where all does not fit. Raises RefusedError."""
    model = choice.model
    form = require_infilling(model)
    wanted = None if body.n_predict == -1 else body.n_predict
    num_tokens = _num_tokens(wanted, config.max_tokens, config)
    room = prompt_limit(model, config)
    if wanted is not None:
        room = max(room // 2, room - wanted)
    prefix = form.encoder.encode(body.input_prefix + body.prompt)
    suffix = form.encoder.encode_inner(body.input_suffix)
    room -= NUM_CONTROL
    if len(prefix) + len(suffix) > room:  # three parts before the cursor, one part after it, as llama.cpp has it
        kept = min(len(suffix), max(room // 4, room - len(prefix)))
        suffix = suffix[:kept]
        prefix = prefix[max(0, len(prefix) - (room - kept)) :]
    extra = extra_context(body.input_extra or [], form, room - len(prefix) - len(suffix))
    request = Request(
        prompt=form.joined(prefix, suffix, extra),
        stop=tuple(stop for stop in body.stop or () if stop),
        max_tokens=num_tokens,
        temperature=max(0.0, body.temperature or 0.0),
        top_p=body.top_p or 1.0,
        seed=_seed(None if body.seed == -1 else body.seed),
        expert=choice.expert,
        routing=choice.routing,
        cursor=body.input_prefix + body.prompt,
        traced=_traced(body.x_trace, model),
    )
    return Plan(choice, (request,))


def extra_context(chunks: Sequence[ExtraChunk], form: InfillingFormat, room: int) -> list[int]:
    """Pieces of other files before an infilling: the last ones, as many as `room` tokens hold, in their order."""
    pieces: list[list[int]] = []
    for chunk in reversed(chunks):
        if form.file_separator is not None:
            piece = [form.file_separator, *form.encoder.encode(f"{chunk.filename}\n{chunk.text}")]
        else:
            piece = form.encoder.encode(_SNIPPET + chunk.text)
        room -= len(piece)
        if room < 0:
            break
        pieces.append(piece)
    return [token for piece in reversed(pieces) for token in piece]


def prompt_limit(model: ServedModel, config: ServeConfig) -> int:
    """Tokens that a prompt may have."""
    room = model.engine.abilities.context - 1
    return room if config.max_prompt_tokens is None else min(room, config.max_prompt_tokens)


def check_prompt(request: Request, model: ServedModel, config: ServeConfig) -> None:
    """Refuses a prompt that is too long. A text of few bytes needs no counting: a token holds one or more."""
    limit = prompt_limit(model, config)
    size = len(request.prompt.encode()) + 1 if isinstance(request.prompt, str) else len(request.prompt)
    if size > limit and isinstance(request.prompt, str):
        size = len(model.engine.tokenizer.encode(request.prompt)) + 1
    if size > limit:
        message = f"the prompt has {size} tokens; {limit} are allowed"
        raise RefusedError(400, message, param="prompt", code="context_length_exceeded")


def require_infilling(model: ServedModel) -> InfillingFormat:
    """How the model is asked to fill in. Raises RefusedError where it cannot."""
    if model.infilling is None:
        message = f"{model.name} has no infilling tokens: it was not trained to fill in; use /v1/completions"
        raise RefusedError(400, message, param="model", code="no_infilling_tokens")
    return model.infilling


def _prompts(given: str | list[str] | list[int] | list[list[int]]) -> list[str | tuple[int, ...]]:
    if isinstance(given, str):
        return [given]
    if not given:
        raise RefusedError(400, "no prompt", param="prompt")
    if isinstance(given[0], int):
        return [tuple(token for token in given if isinstance(token, int))]
    return [one if isinstance(one, str) else tuple(one) for one in given if not isinstance(one, int)]


def _base(body: OpenAIBody, choice: Choice, num_tokens: int) -> Request:
    """What all sequences of a request share; the seed is the first one's."""
    return Request(
        prompt="",
        stop=body.stops,
        max_tokens=num_tokens,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        seed=_seed(body.seed),
        expert=choice.expert,
        routing=choice.routing,
        traced=_traced(body.x_trace, choice.model),
    )


def _traced(wanted: bool, model: ServedModel) -> bool:
    return wanted and model.engine.abilities.traces


def _draws(requests: Sequence[Request], count: int) -> tuple[Request, ...]:
    return tuple(
        replace(request, seed=(request.seed + place * count + draw) % _SEEDS)
        for place, request in enumerate(requests)
        for draw in range(count)
    )


def _seed(given: int | None) -> int:
    return _SEED_SOURCE.randrange(_SEEDS) if given is None else given % _SEEDS


def _num_tokens(wanted: int | None, default: int, config: ServeConfig) -> int:
    if wanted is not None and wanted > config.max_tokens:
        message = f"{wanted} tokens are asked for; {config.max_tokens} are allowed"
        raise RefusedError(400, message, param="max_tokens", code="too_many_tokens")
    return max(1, min(default, config.max_tokens) if wanted is None else wanted)


def _check_choices(count: int, config: ServeConfig) -> None:
    limit = min(config.max_choices, config.max_sequences + config.max_waiting)
    if count > limit:
        raise RefusedError(400, f"{count} completions are asked for at once; {limit} are allowed", param="n")


def _infilling(base: Request, model: ServedModel, prompt: str | tuple[int, ...], suffix: str) -> Request:
    form = require_infilling(model)
    prefix = form.encoder.encode(prompt) if isinstance(prompt, str) else list(prompt)
    ids = form.joined(prefix, form.encoder.encode_inner(suffix))
    return replace(base, prompt=ids, cursor=_text(prompt, model))


def _cursor(prompt: str | tuple[int, ...], model: ServedModel) -> str | None:
    """The text before the cursor where the caller wrote an infilling himself, as Continue does; else None."""
    if model.infilling is None or not isinstance(prompt, str):
        return None
    return model.infilling.before_cursor(prompt)


def _text(prompt: str | tuple[int, ...], model: ServedModel) -> str:
    return prompt if isinstance(prompt, str) else str(model.engine.tokenizer.decode(prompt))
