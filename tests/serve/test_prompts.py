"""From bodies to what the engine is asked."""

from __future__ import annotations

import pytest

from codechoir.serve.bodies import CompletionBody, ExtraChunk
from codechoir.serve.config import ServeConfig
from codechoir.serve.models import Choice
from codechoir.serve.prompts import completion_plan, extra_context

# What Continue posts for an autocompletion with StarCoder's template (core/llm/llms/OpenAI.ts and its stop tokens).
CONTINUE = {
    "model": "solo",
    "prompt": "<fim_prefix>class A {\n  int f() {<fim_suffix>\n}\n<fim_middle>",
    "max_tokens": 16,
    "temperature": 0.01,
    "stream": True,
    "stop": [
        "<fim_prefix>",
        "<fim_suffix>",
        "<fim_middle>",
        "<file_sep>",
        "<|endoftext|>",
        "\n\n",
        "\r\n\r\n",
        "/src/",
    ],
}


def test_what_continue_sends_is_streamed(server) -> None:
    with server.http() as client:
        told = client.post("/v1/completions", json=CONTINUE)
    assert told.status_code == 200
    assert told.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("prompt", "cursor"),
    [
        (CONTINUE["prompt"], "class A {\n  int f() {"),
        ("<fim_prefix>one<fim_suffix>two<fim_middle> <fim_prefix>three<fim_suffix>four<fim_middle>", "three"),
        ("<fim_prefix><fim_suffix>after<fim_middle>before", "before"),  # suffix first
        ("no infilling", None),
    ],
)
def test_the_language_is_that_before_the_cursor(solo, prompt: str, cursor: str | None) -> None:
    body = CompletionBody.model_validate({"prompt": prompt})
    assert completion_plan(body, Choice("solo", solo), ServeConfig()).requests[0].cursor == cursor


def test_seeds_differ_between_prompts_and_draws(solo) -> None:
    body = CompletionBody.model_validate({"prompt": ["a", "b"], "n": 3, "seed": 2**63 - 2})
    plan = completion_plan(body, Choice("solo", solo), ServeConfig())
    assert [request.seed for request in plan.requests] == [2**63 - 2, 2**63 - 1, 0, 1, 2, 3]
    drawn = completion_plan(CompletionBody(prompt="a"), Choice("solo", solo), ServeConfig()).requests[0].seed
    again = completion_plan(CompletionBody(prompt="a"), Choice("solo", solo), ServeConfig()).requests[0].seed
    assert drawn != again


def test_the_last_pieces_of_other_files_stay(solo) -> None:
    separator = "\n\n--- snippet ---\n\n"  # the model knows bytes alone, so a character is a token
    chunks = [ExtraChunk(text=text) for text in ("first", "second", "third")]
    room = 2 * len(separator) + len("second" + "third")
    for size, kept in ((room, ("second", "third")), (room - 1, ("third",)), (0, ()), (-5, ())):
        assert solo.chat_template.decode(extra_context(chunks, solo.infilling, size)) == "".join(
            separator + text for text in kept
        )
