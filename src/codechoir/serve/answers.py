"""What has been generated so far, and how answers tell it: routes, usage, log probabilities, finish reasons."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from codechoir.model.requests import End, Event, Failure, Ticket, Token
from codechoir.serve.models import Choice, ServedModel

# Numbered, not drawn: a call of the system for each id would give the interpreter away to the engine's thread.
_PROCESS, _NUMBERS = secrets.token_hex(8), itertools.count()
_LEAST = -9999.0  # what OpenAI tells of a token without probability; JSON has no infinity


@dataclass(slots=True)
class Generated:
    """One sequence's text and tokens so far."""

    texts: list[str] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    end: End | None = None
    began: float = field(default_factory=time.monotonic)
    first: float = 0.0  # when the first token came
    last: float = 0.0

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self.texts)

    def take(self, event: Event) -> None:
        """The next event. Raises a failure's error."""
        if isinstance(event, Failure):
            raise event.error
        if isinstance(event, End):
            self.end = event
            return
        self.last = time.monotonic()
        self.first = self.first or self.last
        self.texts.append(event.text)
        self.tokens.extend(event.tokens)

    @property
    def mean_logprob(self) -> float:
        """The mean log probability of its tokens, which best_of goes by."""
        told = [token.logprob for token in self.tokens if token.logprob is not None]
        return sum(told) / len(told) if told else float("-inf")


def new_id(kind: str) -> str:
    """An answer's id."""
    return f"{kind}-{_PROCESS}{next(_NUMBERS):08x}"


def finish_reason(end: End | None) -> str | None:
    """OpenAI's word for how a sequence ended."""
    return None if end is None else "length" if end.finish == "length" else "stop"


def route_told(choice: Choice, end: End) -> dict[str, Any]:
    """`x_route`: the expert with the largest share of the routing decisions, and how probable it was.

    The probability is the prompt router's; of an expert that was fixed, 1; by token, its share of the decisions.
    """
    routing = "fixed" if choice.expert is not None else choice.routing
    if not end.route:
        return {
            "routing": routing if choice.model.engine.abilities.experts else None,
            "expert": choice.expert,
            "probability": None,
            "source": choice.source,
            "shares": {},
            "probabilities": end.probabilities,
        }
    expert, probability = _chosen(end.route, end.probabilities)
    return {
        "routing": routing,
        "expert": expert,
        "probability": round(probability, 4),
        "source": choice.source,
        "shares": {name: round(share, 4) for name, share in end.route.items() if share},
        "probabilities": end.probabilities,
    }


def _chosen(shares: Mapping[str, float], probabilities: Mapping[str, float]) -> tuple[str, float]:
    """The expert with the largest share, and how probable it was."""
    expert = max(shares, key=shares.__getitem__)
    return expert, probabilities.get(expert, shares[expert])


def route_header(route: dict[str, Any]) -> dict[str, str]:
    """`x-route`: the same in short; nothing for a dense model."""
    if route["expert"] is None:
        return {}
    probability = f";probability={route['probability']:.4f}" if route["probability"] is not None else ""
    return {"x-route": f"{route['expert']}{probability};source={route['source']}"}


def fixed_route_header(choice: Choice) -> dict[str, str]:
    """`x-route` where no token is asked for: the expert that the caller fixed, if any."""
    if choice.expert is None:
        return {}
    return {"x-route": f"{choice.expert};probability=1.0000;source={choice.source}"}


def early_route_header(choice: Choice, ticket: Ticket) -> dict[str, str]:
    """`x-route` once the engine has a request: that of its end, where no token is left to choose."""
    if not ticket.shares:
        return {}
    expert, probability = _chosen(ticket.shares, ticket.probabilities)
    return route_header({"expert": expert, "probability": probability, "source": choice.source})


def usage_told(sequences: Sequence[Generated], drawn: int) -> dict[str, int]:
    """Tokens: each prompt's once, and all that were drawn."""
    ends = [one.end for one in sequences]
    prompt = sum(end.num_prompt_tokens for end in ends[::drawn] if end is not None)
    completion = sum(end.num_tokens for end in ends if end is not None)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def tokens_told(tokens: Sequence[Token], model: ServedModel) -> list[dict[str, Any]]:
    """`x_tokens`: each token's text and its experts, one a layer that has experts."""
    return [{"id": token.id, "text": model.piece(token.id), "experts": list(token.experts)} for token in tokens]


def logprobs_told(tokens: Sequence[Token], model: ServedModel, offset: int) -> dict[str, Any]:
    """The log probabilities of text completions; `offset` is where the first token's text begins."""
    offsets, tops = [], []
    for token in tokens:
        offsets.append(offset)
        offset += len(model.piece(token.id))
        top = {model.piece(id): max(logprob, _LEAST) for id, logprob in reversed(token.top)}
        top[model.piece(token.id)] = max(token.logprob or 0.0, _LEAST)
        tops.append(top)
    return {
        "tokens": [model.piece(token.id) for token in tokens],
        "token_logprobs": [max(token.logprob or 0.0, _LEAST) for token in tokens],
        "top_logprobs": tops,
        "text_offset": offsets,
    }


def chat_logprobs_told(tokens: Sequence[Token], model: ServedModel) -> dict[str, Any]:
    """The log probabilities of chat completions."""

    def one(id: int, logprob: float) -> dict[str, Any]:
        piece = model.piece(id)
        return {"token": piece, "logprob": max(logprob, _LEAST), "bytes": list(piece.encode())}

    content = [
        one(token.id, token.logprob or 0.0) | {"top_logprobs": [one(*top) for top in token.top]} for token in tokens
    ]
    return {"content": content, "refusal": None}
