"""A chat's prompts, by a template written out by hand, and what is forgotten where the context is full."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from codechoir.errors import IncompatibleModelError, InputError
from codechoir.generate.conversation import Conversation
from codechoir.model.opening import OpenedModel, open_any
from codechoir.model.requests import Request

TEMPLATE = (
    "{% for message in messages %}{% if 'forbidden' in message.content %}{{ raise_exception('not that') }}{% endif %}"
    "[{{ message.role }}]{{ message.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
SETTINGS = Request("", ("\n",), 10, seed=5, expert="python")


@pytest.fixture(scope="module")
def opened(random_base: Path) -> Iterator[OpenedModel]:
    opened = open_any(random_base, 1)
    yield opened
    opened.engine.close()


@pytest.fixture
def model(opened: OpenedModel) -> OpenedModel:
    tokenizer = copy.copy(opened.tokenizer)
    tokenizer.chat_template = TEMPLATE
    return OpenedModel(opened.engine, tokenizer)


def prompt_of(model: OpenedModel, request: Request) -> str:
    assert model.tokenizer is not None
    return str(model.tokenizer.decode(request.prompt))


def test_turns_are_written_by_the_template(model: OpenedModel) -> None:
    chat = Conversation(model)
    request = chat.ask("one", SETTINGS)
    assert prompt_of(model, request) == "[user]one\n[assistant]"
    assert replace(request, prompt="", cursor=None) == SETTINGS
    assert request.cursor == "one"
    assert prompt_of(model, chat.ask("instead", SETTINGS)) == "[user]instead\n[assistant]"  # nothing was answered
    chat.answered("one", "two")
    assert prompt_of(model, chat.ask("three", SETTINGS)) == "[user]one\n[assistant]two\n[user]three\n[assistant]"
    chat.clear()
    assert prompt_of(model, chat.ask("four", SETTINGS)) == "[user]four\n[assistant]"


def test_the_oldest_turns_go_where_there_is_no_room_for_an_answer(model: OpenedModel) -> None:
    chat, context = Conversation(model), model.engine.abilities.context
    settings = replace(SETTINGS, max_tokens=context // 4)
    for number in range(60):
        request = chat.ask(f"question {number} " + "x " * 30, settings)
        assert len(request.prompt) + settings.max_tokens <= context
        chat.answered(f"question {number} " + "x " * 30, f"answer {number}")
    prompt = prompt_of(model, request)
    assert chat.num_forgotten > 0
    assert prompt.startswith(f"[user]question {chat.num_forgotten} ")  # whole turns, and no more than need be
    assert prompt.count("[user]") == 60 - chat.num_forgotten
    turn = len(request.prompt) // prompt.count("[user]")
    assert len(request.prompt) + settings.max_tokens > context - 2 * turn


def test_models_and_messages_that_cannot_be(opened: OpenedModel, model: OpenedModel) -> None:
    with pytest.raises(IncompatibleModelError, match="no chat template"):
        Conversation(opened)
    with pytest.raises(IncompatibleModelError, match="a GGUF file"):
        Conversation(OpenedModel(opened.engine, None))
    with pytest.raises(InputError, match="not that"):
        Conversation(model).ask("forbidden", SETTINGS)
