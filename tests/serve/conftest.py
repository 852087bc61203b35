"""A server of small random models on a free loopback port, and clients for it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch

from codechoir.compose.config import ComposeConfig
from codechoir.compose.stage import ComposeInputs, compose
from codechoir.model.batching import TransformersBackend
from codechoir.model.checkpoint import load_model, load_tokenizer
from codechoir.model.decoding import Vocabulary
from codechoir.model.infilling_tokens import with_infilling_tokens
from codechoir.model.moe import Routing, load_composed
from codechoir.model.scheduler import ContinuousEngine
from codechoir.serve.config import ServeConfig
from codechoir.serve.keys import ApiKeys
from codechoir.serve.models import ServedModel, open_model, served
from codechoir.serve.server import Server, listen

TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
    "<|{{ message.role }}|>{{ message.content }}\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass
class Running:
    """A server in a thread."""

    url: str
    port: int
    models: list[ServedModel]
    server: Server
    log: list[str] = field(default_factory=list)
    key: str = "none"

    def openai(self) -> openai.OpenAI:
        """The official client, which neither waits nor tries again by itself."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0, timeout=60)

    def http(self) -> httpx.Client:
        """A plain client."""
        return httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {self.key}"}, timeout=60)

    def connect(self) -> socket.socket:
        """A raw connection."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def metric(self, name: str) -> float:
        """A sample of /metrics; 0 where there is none yet."""
        with self.http() as client:
            lines = client.get("/metrics").text.splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + " ")), 0.0)


Serving = Callable[..., "Running"]


@pytest.fixture(scope="session")
def infilling_base(random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random model with infilling tokens."""
    return with_infilling_tokens(random_base, "random", tmp_path_factory.mktemp("infilling") / "model")


@contextmanager
def engine_of(model: Any, tokenizer: Any) -> Iterator[ContinuousEngine]:
    """A model's engine, closed in the end."""
    engine = ContinuousEngine(TransformersBackend(model, tokenizer))
    try:
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="session")
def choir(composed: Path) -> Iterator[ServedModel]:
    """A composed model of three experts that never ends by itself: whatever the rounding, a long answer is long."""
    model, tokenizer = load_composed(composed, Routing.PROMPT, 2, torch.float32), load_tokenizer(composed)
    with torch.no_grad():
        model.get_output_embeddings().weight[list(Vocabulary(tokenizer).ends)] = 0  # a greedy token's logit is above 0
    with engine_of(model, tokenizer) as engine:
        yield served("choir", engine, tokenizer)


@pytest.fixture(scope="session")
def solo(infilling_base: Path) -> Iterator[ServedModel]:
    """A dense model that has infilling tokens and a chat template."""
    tokenizer = load_tokenizer(infilling_base)
    tokenizer.chat_template = TEMPLATE
    with engine_of(load_model(infilling_base, torch.float32), tokenizer) as engine:
        yield served("solo", engine, tokenizer)


@pytest.fixture(scope="session")
def filling_choir(
    random_base: Path,
    vary: Callable[..., Path],
    documents: Path,
    compose_config: ComposeConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ServedModel]:
    """A composed model that has infilling tokens and a chat template."""
    root = tmp_path_factory.mktemp("filling")
    base = with_infilling_tokens(random_base, "random", root / "base")
    experts = {language: vary(base, root / language, seed) for seed, language in enumerate(("python", "java", "cpp"))}
    compose(compose_config, ComposeInputs(base, experts, documents, {"train": "t", "documents": "d"}), root / "choir")
    tokenizer = load_tokenizer(root / "choir")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(root / "choir")
    model = open_model("choir", root / "choir", 4)
    yield model
    model.engine.close()


@pytest.fixture
def serving() -> Iterator[Serving]:
    """`serving(models, config, keys)`: a server in a thread. Engines outlive it: they are closed by their fixtures."""
    started: list[tuple[Running, threading.Thread]] = []

    def start(models: list[ServedModel], config: ServeConfig | None = None, keys: tuple[str, ...] = ()) -> Running:
        running, thread = start_server(models, config or ServeConfig(), keys)
        started.append((running, thread))
        return running

    yield start
    for running, thread in started:
        stop_server(running, thread)


def start_server(
    models: list[ServedModel], config: ServeConfig, keys: tuple[str, ...]
) -> tuple[Running, threading.Thread]:
    """A server that accepts connections from now on, since its socket listens already."""
    listening = listen(ServeConfig(port=0))
    log: list[str] = []
    server = Server(models, config, ApiKeys(keys), log.append)
    thread = threading.Thread(target=server.run, args=(listening, False), name="server")
    thread.start()
    port = listening.getsockname()[1]
    running = Running(f"http://127.0.0.1:{port}", port, models, server, log, keys[0] if keys else "none")
    with running.http() as client:
        assert client.get("/ready").status_code == 200
    return running, thread


def stop_server(running: Running, thread: threading.Thread) -> None:
    """Drains at once."""
    running.server.drain()
    running.server.drain()
    thread.join()


@pytest.fixture(scope="session")
def server(choir: ServedModel, solo: ServedModel) -> Iterator[Running]:
    """A server of both models with the limits that tests of limits expect."""
    config = ServeConfig(max_tokens=200, max_body_bytes=100_000, max_prompt_tokens=500)
    running, thread = start_server([choir, solo], config, ())
    yield running
    stop_server(running, thread)
