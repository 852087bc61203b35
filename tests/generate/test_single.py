"""What one model is asked: routes by name, infillings, positions in a text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.errors import ConfigError, IncompatibleModelError, InputError
from codechoir.generate.single import cut_at, infilling, on_route
from codechoir.model.infilling_tokens import with_infilling_tokens
from codechoir.model.opening import OpenedModel, open_any
from codechoir.model.requests import Abilities, Request

COMPOSED = Abilities(("python", "java"), ("prompt", "token"), 99, 300, traces=True, max_logprobs=5)
DENSE = Abilities((), (), 99, 300, traces=False, max_logprobs=5)
GGUF = Abilities((), (), 99, 300, traces=False, max_logprobs=5, lacks=("it has none",))
ASKED = Request("x", ("\n",), 7, seed=3)


@pytest.mark.parametrize(
    ("route", "expert", "routing"),
    [("auto", None, None), ("token", None, "token"), ("java", "java", None), ("python", "python", None)],
)
def test_a_route_by_its_name(route: str, expert: str | None, routing: str | None) -> None:
    before = on_route(ASKED, "java", COMPOSED)  # whatever was chosen before
    request = on_route(before, route, COMPOSED)
    assert (request.expert, request.routing) == (expert, routing)
    assert (request.prompt, request.stop, request.max_tokens, request.seed) == ("x", ("\n",), 7, 3)


@pytest.mark.parametrize(
    ("abilities", "allowed"),
    [
        (COMPOSED, "auto, token, python, java"),
        (DENSE, "auto: this model has no experts"),
        (GGUF, "auto: it has none"),
    ],
)
def test_an_unknown_route_is_refused_with_the_known_ones(abilities: Abilities, allowed: str) -> None:
    with pytest.raises(ConfigError, match="no such route") as caught:
        on_route(ASKED, "cobol", abilities)
    assert caught.value.allowed == allowed
    assert on_route(ASKED, "auto", abilities).routing is None


@pytest.fixture(scope="module")
def filling(random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenedModel]:
    folder = with_infilling_tokens(random_base, "random", tmp_path_factory.mktemp("filling") / "model")
    opened = open_any(folder, 1)
    yield opened
    opened.engine.close()


def test_an_infilling_is_prefix_suffix_middle_and_routed_by_the_prefix(filling: OpenedModel) -> None:
    request = infilling(ASKED, filling, "def <|endoftext|>", "\n")
    assert filling.tokenizer is not None
    spelt = filling.tokenizer.convert_ids_to_tokens(list(request.prompt))
    assert (spelt[0], spelt[1], spelt[-1]) == ("<|endoftext|>", "<fim_prefix>", "<fim_middle>")
    middle = spelt[2:-1]
    cut = middle.index("<fim_suffix>")
    assert "<|endoftext|>" not in middle  # a file cannot end itself
    decoded = [filling.tokenizer.convert_tokens_to_string(part) for part in (middle[:cut], middle[cut + 1 :])]
    assert decoded == ["def <|endoftext|>", "\n"]
    assert (request.cursor, request.max_tokens) == ("def <|endoftext|>", 7)


def test_a_model_without_infilling_tokens_is_refused_with_the_reason(trunk: Path) -> None:
    opened = open_any(trunk, 1)
    opened.engine.close()
    with pytest.raises(IncompatibleModelError, match="knows no infilling tokens"):
        infilling(ASKED, opened, "a", "b")
    with pytest.raises(IncompatibleModelError, match="GGUF"):
        infilling(ASKED, OpenedModel(opened.engine, None), "a", "b")


@given(st.text(alphabet="ab\né\u2028 ", max_size=30), st.data())
def test_a_position_is_where_an_editor_counts_it(text: str, data: st.DataObject) -> None:
    """Whatever the offset: its line is one more than the newlines before it, its column what is after the last."""
    offset = data.draw(st.integers(0, len(text)))
    before = text[:offset]
    line, column = before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1
    assert cut_at(text, line, column) == (before, text[offset:])


@pytest.mark.parametrize(
    ("text", "line", "column", "seen", "allowed"),
    [
        ("", 2, 1, 2, "1 to 1"),
        ("", 1, 2, 2, "1 to 1"),
        ("ab\ncd\n", 4, 1, 4, "1 to 3"),
        ("ab\ncd\n", 0, 1, 0, "1 to 3"),
        ("ab\ncd\n", 2, 4, 4, "1 to 3"),
        ("ab\ncd\n", 2, 0, 0, "1 to 3"),
        ("ab\r\ncd", 1, 4, 4, "1 to 3"),
    ],
)
def test_a_position_outside_the_text_is_refused(text: str, line: int, column: int, seen: int, allowed: str) -> None:
    with pytest.raises(InputError) as caught:
        cut_at(text, line, column)
    assert (caught.value.seen, caught.value.allowed) == (seen, allowed)


def test_the_end_of_a_line_is_before_a_carriage_return() -> None:
    assert cut_at("ab\r\ncd", 1, 3) == ("ab", "\r\ncd")
