"""Fits the prompt router: logistic regression on prefixes of many lengths of the training documents.

A licence header is the same in every language but for its comment marks, and in a real corpus some languages have more
of them than others. So each document is also read under another document's header, rewritten in its own language's
marks: the header's words then say nothing, its marks do.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, takewhile
from typing import Any

import torch
from torch.nn import functional

from codechoir.compose.config import ComposeConfig
from codechoir.documents import Text
from codechoir.errors import ConfigError
from codechoir.languages import GENERALIST, language
from codechoir.model.checkpoint import separator_id
from codechoir.model.encoding import TextEncoder
from codechoir.model.prompt_router import BUCKETS, Fallback, PromptRouter, hashed_bags, tokens_with_letters

_SHORTEST = 16  # tokens of the shortest prefix that is measured
_FIT_SHARES = (16, 8, 4, 2, 1, 1)  # a prefix that is fitted on is what the router reads, divided by one of these
_TOKEN_CHARACTERS = 8  # enough for most tokens
_NUM_HEADERS = 2  # readings under another header, for each document
_COMMENT = re.compile(r"^\s*(//|/\*|\*|#(?!\s*(include|define|if|ifdef|ifndef|pragma|endif|else|undef)\b|!))")
_MARKS = re.compile(r"^\s*(//+|/\*+|\*+/|\*|#+)?\s?")
_TEMPERATURES = tuple(2.0 ** (power / 2) for power in range(-4, 5))


@dataclass(frozen=True, slots=True)
class _Reading:
    """A prefix (1-d token ids) and its language's number."""

    ids: torch.Tensor
    label: int


def fit_prompt_router(
    texts: Mapping[str, Sequence[Text]],
    tokenizer: Any,
    vocabulary: int,
    config: ComposeConfig,
    num_experts: int | None = None,
) -> PromptRouter:
    """Fits on training documents by language (the experts' order); every fifth document calibrates the temperature.

    Experts beyond the languages, of `num_experts` in all, have no text: their scores are 0, which is less than the
    largest of the languages' for any input that says something.
    """
    rng = random.Random(config.seed)
    characters = _TOKEN_CHARACTERS * config.prefix_tokens
    found = (_header(document.content[:characters]) for documents in texts.values() for document in documents)
    headers = [header for header in found if len(header) > 1]
    encoder = TextEncoder(tokenizer)
    fit: list[_Reading] = []
    held: list[_Reading] = []
    for label, (name, documents) in enumerate(texts.items()):
        for number, document in enumerate(documents):
            for reading in _readings(document.content, name, headers, rng, characters):
                ids = encoder.encode(reading)
                length = max(1, config.prefix_tokens // rng.choice(_FIT_SHARES))
                (held if number % 5 == 4 else fit).append(_Reading(torch.tensor(ids[:length]), label))
    words_V = tokens_with_letters(tokenizer, vocabulary)
    weight_FE = _logistic(fit, words_V, len(texts), config.prompt_penalty)
    weight_FE = functional.pad(weight_FE, (0, (num_experts or len(texts)) - len(texts)))
    scores_NE = torch.sparse.mm(hashed_bags([reading.ids for reading in held], words_V), weight_FE)
    labels_N = torch.tensor([reading.label for reading in held])
    losses = [float(functional.cross_entropy(scores_NE / temperature, labels_N)) for temperature in _TEMPERATURES]
    temperature = _TEMPERATURES[losses.index(min(losses))]
    ignored = tuple(sorted({*tokenizer.all_special_ids, separator_id(tokenizer)}))
    return PromptRouter(weight_FE, words_V, temperature, config.prefix_tokens, ignored=ignored)


def prefix_lengths(prefix_tokens: int) -> tuple[int, ...]:
    """The lengths that a router which reads so many tokens is measured at, in tokens: powers of two, and all."""
    doubled = takewhile(lambda length: length < prefix_tokens, (_SHORTEST << power for power in count()))
    return (*doubled, prefix_tokens)


def unfitted_prompt_router(vocabulary: int, num_experts: int, config: ComposeConfig) -> PromptRouter:
    """A router that has read nothing: every expert is equally likely for any input, which goes to all alike."""
    words_V = torch.zeros(vocabulary, dtype=torch.bool)
    weight_FE = torch.zeros(BUCKETS, num_experts)
    return PromptRouter(weight_FE, words_V, 1.0, config.prefix_tokens, Fallback.UNIFORM, 1.0)


def with_fallback(router: PromptRouter, experts: Sequence[str], config: ComposeConfig) -> PromptRouter:
    """The router with the config's fallback for these experts. Raises ConfigError as `check_fallback` does."""
    check_fallback(experts, config)
    auto = Fallback.GENERALIST if GENERALIST in experts else Fallback.TOP_2
    fallback = auto if config.prompt_fallback == "auto" else Fallback(config.prompt_fallback)
    number = list(experts).index(GENERALIST) if fallback is Fallback.GENERALIST else None
    return replace(router, fallback=fallback, confidence=config.prompt_confidence, generalist=number)


def check_fallback(experts: Sequence[str], config: ComposeConfig) -> None:
    """Raises ConfigError where the generalist is the fallback and there is none."""
    if config.prompt_fallback == "generalist" and GENERALIST not in experts:
        raise ConfigError(
            "the prompt router's fallback is the generalist, and the model has none",
            seen=f"prompt_fallback: generalist; the experts {', '.join(experts)}",
            allowed="auto, none, top-2",
            next_step="set generalist to true, or choose another fallback",
        )


def _readings(
    content: str, name: str, headers: Sequence[Sequence[str]], rng: random.Random, characters: int
) -> list[str]:
    """A document's beginning, a stretch from its inside, and either of them under other documents' headers."""
    start = rng.randrange(max(1, len(content) - 400))
    readings = [content[:characters], content[start : start + characters]]
    if headers:
        readings += [
            _as_comment(rng.choice(headers), name, rng) + rng.choice(readings[:2]) for _ in range(_NUM_HEADERS)
        ]
    return [reading for reading in readings if reading.strip()]


def _header(content: str) -> list[str]:
    """The lines of the comment that a document begins with, without their marks."""
    lines = []
    for line in content.splitlines():
        if not _COMMENT.match(line):
            break
        lines.append(_MARKS.sub("", line).rstrip(" */"))
    return lines


def _as_comment(header: Sequence[str], name: str, rng: random.Random) -> str:
    """The header's lines as a comment of the language; where lines begin with `//`, half the time as a block."""
    mark, block = language(name).line_comment, language(name).block_comment
    if block and (not mark or (mark == "//" and rng.random() < 0.5)):
        opening, closing = block
        star = " *" if opening == "/*" else ""
        return f"{opening}\n" + "".join(f"{star} {line}".rstrip() + "\n" for line in header) + f" {closing}\n"
    return "".join(f"{mark} {line}".rstrip() + "\n" for line in header)


def _logistic(readings: Sequence[_Reading], words_V: torch.Tensor, num_experts: int, penalty: float) -> torch.Tensor:
    """Multinomial logistic regression with an L2 penalty, by L-BFGS; the weights, float32 (F, E)."""
    features_NF = hashed_bags([reading.ids for reading in readings], words_V)
    labels_N = torch.tensor([reading.label for reading in readings])
    weight_FE = torch.zeros(BUCKETS, num_experts, requires_grad=True)
    solver = torch.optim.LBFGS([weight_FE], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> float:
        solver.zero_grad()
        value = functional.cross_entropy(torch.sparse.mm(features_NF, weight_FE), labels_N)
        value = value + penalty * weight_FE.pow(2).sum()
        torch.autograd.backward(value)
        return float(value.detach())

    solver.step(loss)  # type: ignore[no-untyped-call]
    return weight_FE.detach()
