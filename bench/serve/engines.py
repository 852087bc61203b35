"""What engines do, in one process: decoding beside the dense base, batching beside one at a time, load beside alone.

No sequence ends before its tokens are drawn, so that contestants do the same work. Knows nothing of HTTP.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch

from codechoir.model.batching import TransformersBackend
from codechoir.model.checkpoint import load_model, load_tokenizer
from codechoir.model.device import compute_device, compute_dtype
from codechoir.model.moe import ROUTING_JSON, Routing, load_composed
from codechoir.model.requests import Chunk, Event, Request
from codechoir.model.scheduler import ContinuousEngine

Tell = Callable[[str, str], None]
Prompts = Mapping[str, Sequence[str]]  # language -> texts


@contextmanager
def engine_of(folder: Path, max_sequences: int, dtype: torch.dtype | None = None) -> Iterator[ContinuousEngine]:
    """A folder's engine, whose sequences end at their bound alone."""
    dtype = dtype or compute_dtype("auto")
    composed = (folder / ROUTING_JSON).exists()
    model = load_composed(folder, Routing.PROMPT, 1, dtype) if composed else load_model(folder, dtype)
    backend = TransformersBackend(model.to(compute_device()), load_tokenizer(folder))
    backend.vocabulary.ends = frozenset()
    engine = ContinuousEngine(backend, max_sequences)
    try:
        yield engine
    finally:
        engine.close()


class Answers:
    """Requests submitted together, and when each of their tokens came."""

    def __init__(self, engine: ContinuousEngine, requests: Sequence[Request]) -> None:
        self.times: list[list[float]] = [[] for _ in requests]
        self.tokens: list[list[int]] = [[] for _ in requests]
        self._left, self._done = len(requests), threading.Event()
        self._lock = threading.Lock()
        self.began = time.perf_counter()
        self.jobs = [engine.submit(request, self._emit(place)) for place, request in enumerate(requests)]

    def wait(self) -> Answers:
        """Until all have ended."""
        self._done.wait()
        return self

    @property
    def rate(self) -> float:
        """Tokens a second, from the start on."""
        return sum(map(len, self.times)) / (max(times[-1] for times in self.times) - self.began)

    @property
    def decode_rate(self) -> float:
        """Tokens a second from when every prompt has been read."""
        start = max(times[0] for times in self.times)
        later = [moment for times in self.times for moment in times if moment > start]
        return len(later) / (max(later) - start)

    def _emit(self, place: int) -> Callable[[Event], None]:
        def emit(event: Event) -> None:
            if isinstance(event, Chunk):
                self.times[place] += [time.perf_counter()] * len(event.tokens)
                self.tokens[place] += [token.id for token in event.tokens]
                return
            with self._lock:
                self._left -= 1
                if not self._left:
                    self._done.set()

        return emit


def measure_decoding(folders: Mapping[str, Path], prompts: Prompts, sizes: Any, tell: Tell) -> dict[str, Any]:
    """Decoded tokens a second by batch size: the dense base, and the MoE with one language's prompts and with four's.

    Contestants take turns in each round, and the order turns by one; the first round is not counted. Prompts that the
    router is unsure of are left out: two experts run for each, whatever batch they are in.
    """
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        dense, moe = (stack.enter_context(engine_of(folders[name], max(sizes.batches))) for name in ("base", "moe"))
        sure = _sure(moe, prompts)
        for batch in sizes.batches:
            one = _requests(sure, list(sure)[:1], batch, sizes.tokens)
            mixed = _requests(sure, list(sure), batch, sizes.tokens)
            contestants = {"dense": (dense, one), "moe": (moe, one), "moe mixed": (moe, mixed)}
            rates: dict[str, list[float]] = {name: [] for name in contestants}
            names = list(contestants)
            for number in range(sizes.rounds + 1):
                turn = number % len(names)
                for name in names[turn:] + names[:turn]:
                    rate = Answers(*contestants[name]).wait().decode_rate
                    if number:
                        rates[name].append(rate)
            found[str(batch)] = {name: median(values) for name, values in rates.items()}
            for ratio, name in (("ratio", "moe"), ("mixed ratio", "moe mixed")):
                pairs = zip(rates[name], rates["dense"], strict=True)
                found[str(batch)][ratio] = median(moe / base for moe, base in pairs)
            tell(f"decode, batch {batch}", " ".join(f"{name} {value:.2f}" for name, value in found[str(batch)].items()))
    return {"batches": found, "sure": {language: len(texts) for language, texts in sure.items()}}


def _sure(engine: ContinuousEngine, prompts: Prompts) -> Prompts:
    """The prompts that the router sends to their language's expert alone."""
    found: dict[str, list[str]] = {}
    for language, texts in prompts.items():
        answers = Answers(engine, [Request(text, (), 1) for text in texts]).wait()
        kept = [text for text, job in zip(texts, answers.jobs, strict=True) if job.shares[language] == 1]
        if kept:
            found[language] = kept
    return found


def measure_batching(folder: Path, prompts: Prompts, sizes: Any, tell: Tell) -> dict[str, float]:
    """Tokens a second, prompts included, of as many requests as clients, run together and one at a time."""
    requests = _requests(prompts, list(prompts), sizes.clients, sizes.tokens)
    rates: dict[str, list[float]] = {"together": [], "alone": []}
    with engine_of(folder, sizes.clients) as together, engine_of(folder, 1) as alone:
        for number in range(sizes.rounds + 1):
            for name, engine in (("together", together), ("alone", alone))[:: 1 if number % 2 else -1]:
                rate = Answers(engine, requests).wait().rate
                if number:
                    rates[name].append(rate)
    found = {name: median(values) for name, values in rates.items()}
    found["ratio"] = median(a / b for a, b in zip(rates["together"], rates["alone"], strict=True))
    tell("batching", f"{found['ratio']:.2f}x")
    return found


def measure_exactness(folder: Path, prompts: Prompts, sizes: Any, tell: Tell) -> dict[str, int]:
    """Greedy tokens under load and alone, in float32: requests of all routes and lengths, some of them cancelled."""
    rng = random.Random(0)
    with engine_of(folder, sizes.clients, torch.float32) as engine:
        requests = [
            _vary(request, rng, engine) for request in _requests(prompts, list(prompts), sizes.exact, sizes.tokens)
        ]
        alone = [Answers(engine, [request]).wait().tokens[0] for request in requests]
        order = rng.sample(range(len(requests)), len(requests))
        load = Answers(engine, [requests[place] for place in order])
        cancelled = set(rng.sample(range(len(order)), len(order) // 8))
        for place in cancelled:
            load.jobs[place].cancel()
        load.wait()
    kept = [place for place in range(len(order)) if place not in cancelled]
    differing = sum(load.tokens[place] != alone[order[place]] for place in kept)
    tell("exactness", f"{differing} of {len(kept)} differ")
    return {"requests": len(kept), "cancelled": len(cancelled), "differing": differing}


def _vary(request: Request, rng: random.Random, engine: ContinuousEngine) -> Request:
    routes: list[dict[str, Any]] = [{}, {"routing": "token"}]
    routes += [{"expert": expert} for expert in engine.abilities.experts]
    cut = rng.randint(8, len(str(request.prompt)))
    settings: dict[str, Any] = {"max_tokens": rng.randint(2, request.max_tokens)} | rng.choice(routes)
    return Request(str(request.prompt)[:cut], (), **settings)


def _requests(prompts: Prompts, languages: Sequence[str], number: int, tokens: int) -> list[Request]:
    """Greedy requests, the languages in turn."""
    texts = [
        prompts[languages[place % len(languages)]][
            place // len(languages) % len(prompts[languages[place % len(languages)]])
        ]
        for place in range(number)
    ]
    return [Request(text, (), tokens) for text in texts]
