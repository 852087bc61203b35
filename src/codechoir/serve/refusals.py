"""Why a request is not answered, in the form that OpenAI's clients read."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from codechoir.errors import InputError, UserError
from codechoir.model.requests import EngineStoppedError

_TYPES = {401: "authentication_error", 408: "timeout_error", 429: "rate_limit_error", 503: "unavailable_error"}


class RefusedError(Exception):
    """An answer with an error in it. `retry_after` is in seconds."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, retry_after: int = 0
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """The headers that go with it."""
        headers = {"content-type": "application/json"}
        if self.retry_after:
            headers["retry-after"] = str(self.retry_after)
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return headers

    def content(self) -> dict[str, Any]:
        """The JSON of the answer."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def body(self) -> bytes:
        """The same as bytes."""
        return json.dumps(self.content(), ensure_ascii=False).encode()


def refusal_of(error: Exception) -> RefusedError | None:
    """What an error of the engine means for the caller; None for a bug."""
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, EngineStoppedError):
        return RefusedError(503, "the model has stopped", code="engine_stopped", retry_after=1)
    if isinstance(error, InputError):
        return RefusedError(400, _in_one_line(error))
    return None


def refusal_of_body(error: ValidationError) -> RefusedError:
    """The first thing that pydantic complains of; the value seen is the caller's text and is not told."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    param = ".".join(str(part) for part in first["loc"]) or None
    return RefusedError(400, f"{param or 'the body'}: {first['msg']}", param=param, code=first["type"])


def _in_one_line(error: UserError) -> str:
    parts = [error.what]
    if error.seen is not None:
        parts.append(f"seen: {error.seen}")
    if error.allowed:
        parts.append(f"allowed: {error.allowed}")
    return "; ".join(parts)
