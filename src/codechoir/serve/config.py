"""How a server listens, what it lets in and how long it waits; read before anything heavy is loaded."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from pydantic import Field

from codechoir.config import Config


class ServeConfig(Config):
    """Address, keys and limits of a server."""

    host: str = Field("127.0.0.1", description="The address to listen on; one that is not loopback needs a key file.")
    port: int = Field(8000, ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    api_key_file: Path | None = Field(None, description="A file of API keys, one a line; # begins a comment.")
    cors_origins: tuple[str, ...] = Field((), description="Web origins whose pages may call the API; * is any.")
    log_prompts: bool = Field(False, description="Write prompts to the log.")
    max_sequences: int = Field(32, ge=1, description="Sequences that a model's engine runs at once.")
    max_waiting: int = Field(64, ge=0, description="Sequences that wait for a place; beyond them requests get 429.")
    max_choices: int = Field(16, ge=1, description="Sequences of one request: its prompts times n or best_of.")
    max_body_bytes: int = Field(2_097_152, ge=1, description="The largest request body; a larger one gets 413.")
    max_prompt_tokens: int | None = Field(None, ge=1, description="The longest prompt; null leaves the context's size.")
    max_tokens: int = Field(4096, ge=1, description="The most tokens that a request may ask for.")
    request_seconds: float = Field(300.0, gt=0, description="A request's deadline, from its arrival; then 504.")
    body_seconds: float = Field(30.0, gt=0, description="How long a request's body may take to come; then 408.")
    drain_seconds: float = Field(30.0, ge=0, description="How long running requests may take once SIGTERM has come.")
    stream_events: int = Field(1024, ge=1, description="Events that may wait for a stream's reader; then it ends.")

    @property
    def is_loopback(self) -> bool:
        """Whether this machine alone can reach the address."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
