"""`codechoir serve`: models behind OpenAI's API and llama.cpp's /infill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="[NAME=]MODEL...")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address; one that others reach needs a key.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port; 0: a free one.")
@click.option("--api-key-file", type=click.Path(path_type=Path), help="API keys, one a line.")
@click.option("--cors-origin", multiple=True, help="A web origin whose pages may call (repeatable).")
@click.option("--log-prompts", is_flag=True, help="Write prompts to the log.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Another limit (see docs/serve.md).")
def serve(
    models: tuple[str, ...],
    host: str,
    port: int,
    api_key_file: Path | None,
    cors_origin: tuple[str, ...],
    log_prompts: bool,
    overrides: tuple[str, ...],
) -> None:
    """Serve the models MODEL over HTTP: /v1/completions, /v1/chat/completions, /v1/models, /infill, /metrics.

    MODEL is a folder or a .gguf file, called by NAME, by its own name where none is given. A composed model has NAME
    (and NAME/auto) for routing by the prompt, NAME/token by token, and NAME/LANG for one expert. Prints its address
    once it listens. SIGTERM and Ctrl-C let running requests end.
    """
    from codechoir.config import parse_overrides
    from codechoir.errors import ToolMissingError
    from codechoir.serve.config import ServeConfig

    values: dict[str, Any] = {
        "host": host,
        "port": port,
        "api_key_file": api_key_file,
        "cors_origins": cors_origin,
        "log_prompts": log_prompts,
    }
    config = ServeConfig.parse(values | parse_overrides(overrides), "--set")
    try:
        from codechoir.serve import server
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("fastapi", "starlette", "uvicorn", "prometheus_client"):
            raise
        raise ToolMissingError(
            "serving needs the optional packages of its extra",
            seen=f"no module {error.name}",
            next_step="pip install 'codechoir[serve]'",
        ) from None
    server.serve(models, config, click.echo)
