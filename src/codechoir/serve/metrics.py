"""What is counted and timed, as Prometheus reads it. Labels are names of models, experts and routes, never text."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from codechoir.model.requests import End

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_FIRST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_BETWEEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_WHOLE = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """A server's counters; each server has its own registry."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        model = ("model",)
        self.requests = Counter("codechoir_requests", "Requests answered.", ("route", "status"), registry=registry)
        self.request_seconds = Histogram(
            "codechoir_request_seconds", "From a request's arrival to its end.", ("route",), buckets=_WHOLE,
            registry=registry,
        )  # fmt: skip
        self._tokens = Counter("codechoir_tokens", "Tokens read and generated.", ("model", "kind"), registry=registry)
        self._routed = Counter("codechoir_routed", "Sequences by expert.", ("model", "expert"), registry=registry)
        self._cancelled = Counter("codechoir_cancelled", "Requests cut short.", ("model", "reason"), registry=registry)
        self._waiting = Gauge("codechoir_waiting", "Sequences without a token yet.", model, registry=registry)
        self._running = Gauge("codechoir_running", "Sequences that generate.", model, registry=registry)
        self._first = Histogram(
            "codechoir_first_token_seconds", "From arrival to first token.", model, buckets=_FIRST, registry=registry
        )
        self._between = Histogram(
            "codechoir_token_seconds", "From one token to the next.", model, buckets=_BETWEEN, registry=registry
        )

    def of_model(self, name: str) -> ModelMetrics:
        """The counters of one model."""
        return ModelMetrics(self, name)

    def exposition(self) -> bytes:
        """All of them, in Prometheus' text format."""
        return generate_latest(self._registry)


class ModelMetrics:
    """One model's counters, looked up once."""

    def __init__(self, metrics: Metrics, name: str) -> None:
        self._name, self._routed, self._cancelled = name, metrics._routed, metrics._cancelled
        self.waiting, self.running = metrics._waiting.labels(name), metrics._running.labels(name)
        self.first_token_seconds = metrics._first.labels(name)
        self.token_seconds = metrics._between.labels(name)
        self._prompt_tokens = metrics._tokens.labels(name, "prompt")
        self._completion_tokens = metrics._tokens.labels(name, "completion")

    def cancelled(self, reason: str) -> None:
        """A request was cut short."""
        self._cancelled.labels(self._name, reason).inc()

    def ended(self, end: End) -> None:
        """A sequence has ended."""
        self._prompt_tokens.inc(end.num_prompt_tokens)
        self._completion_tokens.inc(end.num_tokens)
        if end.route:
            self._routed.labels(self._name, max(end.route, key=end.route.__getitem__)).inc()
