"""Who may call, what the log says, and that no error shows its inside."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from codechoir.serve.app import create_app
from codechoir.serve.config import ServeConfig
from codechoir.serve.front import Front, Served
from codechoir.serve.keys import ApiKeys
from codechoir.serve.metrics import Metrics
from codechoir.serve.models import Catalogue
from codechoir.serve.service import Service

KEY = "a-key-for-tests"
SECRET = "the caller's secret prompt"
SMALL = {"model": "choir", "prompt": SECRET, "max_tokens": 2}


def test_keys_guard_what_costs_or_tells(serving, choir) -> None:
    running = serving([choir], keys=(KEY, "another-key-here"))
    assert running.openai().completions.create(**SMALL).object == "text_completion"
    running.key = "not-a-key-of-ours"
    with pytest.raises(openai.AuthenticationError):
        running.openai().completions.create(**SMALL)
    with httpx.Client(base_url=running.url) as client:
        for path in ("/v1/completions", "/v1/chat/completions", "/infill"):
            told = client.post(path, json=SMALL)
            assert (told.status_code, told.json()["error"]["code"]) == (401, "invalid_api_key")
            assert told.headers["www-authenticate"] == "Bearer"
        assert [client.get(path).status_code for path in ("/v1/models", "/metrics")] == [401, 401]
        assert [client.get(path).status_code for path in ("/health", "/ready", "/openapi.json")] == [200, 200, 200]


def test_a_server_without_keys_is_called_by_a_loopback_name_alone(serving, choir) -> None:
    open_one, with_keys = serving([choir]), serving([choir], keys=(KEY,))
    with open_one.http() as client:
        hosts = {"localhost:8000": 200, "127.0.0.1": 200, "[::1]:80": 200, "evil.example": 400, "localhost.evil": 400}
        assert {host: client.get("/v1/models", headers={"host": host}).status_code for host in hosts} == hosts
    with with_keys.http() as client:
        assert client.get("/v1/models", headers={"host": "choir.example"}).status_code == 200


def test_other_origins_are_let_in_by_name(serving, choir) -> None:
    closed, opened = serving([choir]), serving([choir], ServeConfig(cors_origins=("https://a.example",)), keys=(KEY,))
    ask = {"origin": "https://a.example", "access-control-request-method": "POST"}
    ask["access-control-request-headers"] = "authorization,content-type"
    with closed.http() as client:
        assert client.options("/v1/completions", headers=ask).status_code == 405
        told = client.get("/v1/models", headers={"origin": "https://a.example"})
        assert "access-control-allow-origin" not in told.headers
    with httpx.Client(base_url=opened.url) as client:
        told = client.options("/v1/completions", headers=ask)
        assert (told.status_code, told.headers["access-control-allow-origin"]) == (200, "https://a.example")
        assert client.options("/v1/completions", headers=ask | {"origin": "https://b.example"}).status_code == 400


def test_the_log_tells_no_prompt_unless_asked(serving, choir) -> None:
    quiet, telling = serving([choir]), serving([choir], ServeConfig(log_prompts=True))
    for running in (quiet, telling):
        running.openai().completions.create(**SMALL)
        with running.http() as client:
            client.post("/v1/completions", json=SMALL | {"n": SECRET})
            client.get(f"/{SECRET}")
    assert not any("secret" in line for line in quiet.log)
    assert sum("secret" in line for line in telling.log) == 1
    line = next(line for line in quiet.log if line.startswith("POST /v1/completions 200"))
    assert "model=choir" in line and "route=" in line


def test_metrics_are_prometheus_and_add_up(serving, choir) -> None:
    running = serving([choir])
    create = running.openai().completions.create
    answers = [create(model=id, prompt="def f", max_tokens=3) for id in ("choir/java", "choir/java", "choir/cpp")]
    with running.http() as client:
        client.post("/v1/completions", content=b"{", headers={"content-type": "application/json"})
        told = client.get("/metrics")
    assert told.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(told.text)
        for sample in family.samples
    }
    assert samples["codechoir_requests_total", "/v1/completions", "200"] == 3
    assert samples["codechoir_requests_total", "/v1/completions", "400"] == 1
    usage = [answer.usage for answer in answers]
    assert samples["codechoir_tokens_total", "choir", "prompt"] == sum(one.prompt_tokens for one in usage)
    assert samples["codechoir_tokens_total", "choir", "completion"] == sum(one.completion_tokens for one in usage)
    assert (samples["codechoir_routed_total", "choir", "java"], samples["codechoir_routed_total", "choir", "cpp"]) == (
        *(2, 1),
    )
    assert samples["codechoir_first_token_seconds_count", "choir"] == 3
    assert samples["codechoir_token_seconds_count", "choir"] == sum(one.completion_tokens - 1 for one in usage)
    assert (samples["codechoir_waiting", "choir"], samples["codechoir_running", "choir"]) == (0, 0)


async def _fails(*_: Any) -> None:
    raise ValueError(SECRET)


def test_a_bug_shows_no_trace_and_its_log_no_prompt() -> None:
    log: list[str] = []
    app = Front(_fails, ApiKeys(), Metrics(), Served(), log.append, checks_host=False)

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            return await client.post("/v1/completions", json={})

    told = asyncio.run(ask())
    assert (told.status_code, told.json()["error"]["type"]) == (500, "server_error")
    assert told.headers["x-request-id"] in told.json()["error"]["message"]
    assert "secret" not in told.text + "".join(log)
    assert any("ValueError" in line and "test_front.py" in line for line in log)


class _Broken:
    """An engine with a bug."""

    def __init__(self, whole: Any) -> None:
        self.abilities, self.tokenizer = whole.abilities, whole.tokenizer

    def submit(self, *_: Any) -> Any:
        raise ValueError(SECRET)


def test_a_bug_behind_a_route_has_the_documented_form(choir) -> None:
    """The framework would answer with plain text of its own."""
    log: list[str] = []
    service = Service(Catalogue([replace(choir, engine=_Broken(choir.engine))]), ServeConfig())
    app = create_app(service, Served(), ApiKeys(), log.append)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post("/v1/completions", json=SMALL)

    told = asyncio.run(ask())
    assert (told.status_code, told.json()["error"]["code"]) == (500, "internal")
    assert "secret" not in told.text + "".join(log)
    assert any(line.startswith("bug in request") for line in log)
