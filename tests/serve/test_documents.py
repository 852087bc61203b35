"""The OpenAPI document holds: schemathesis asks by it, and finds no 5xx, no other status, no other form."""

from __future__ import annotations

import warnings

import hypothesis
import pytest

with warnings.catch_warnings():  # of the libraries, as they are imported
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis import checks

OPERATIONS = ["/v1/completions", "/v1/chat/completions", "/infill", "/v1/models", "/health", "/ready", "/metrics"]


@pytest.mark.filterwarnings("ignore::Warning")  # schemathesis's own
@pytest.mark.parametrize("path", OPERATIONS)
def test_what_is_documented_is_what_comes(server, path: str) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    method = "GET" if path.startswith(("/v1/models", "/health", "/ready", "/metrics")) else "POST"
    operation = schema[path][method]
    held = [
        checks.not_a_server_error,
        schemathesis.specs.openapi.checks.status_code_conformance,
        schemathesis.specs.openapi.checks.content_type_conformance,
        schemathesis.specs.openapi.checks.response_schema_conformance,
    ]
    asked = 0

    @hypothesis.given(case=operation.as_strategy())
    @hypothesis.settings(max_examples=25, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
    def ask(case: schemathesis.Case) -> None:
        nonlocal asked
        asked += 1
        case.validate_response(case.call(), checks=held)

    ask()
    assert asked


def test_the_document_lists_every_route_that_answers(server) -> None:
    with server.http() as client:
        described = client.get("/openapi.json").json()
    assert set(described["paths"]) == set(OPERATIONS)
    assert "CompletionBody" in described["components"]["schemas"]
