"""The table of target languages."""

from __future__ import annotations

import pytest

from codechoir.errors import ConfigError
from codechoir.languages import language
from codechoir.translation.table import TARGETS, target_of

ASKED_FOR = {
    *("cpp", "java", "js", "ts", "go", "rs", "php", "rb", "pl", "lua", "r", "sh", "rkt", "scala", "cs", "d", "swift"),
    "jl",
}


def test_the_languages_that_must_be_there() -> None:
    assert {language(id).multipl_e for id in TARGETS} >= ASKED_FOR


@pytest.mark.parametrize("id", TARGETS)
def test_every_target_can_be_named_and_stops_somewhere(id: str) -> None:
    assert TARGETS[id].language == id
    assert target_of(id) is target_of(language(id).multipl_e) is TARGETS[id]
    assert all(language(id).stop_tokens) and language(id).stop_tokens


@pytest.mark.parametrize("name", ["html", "klingon"])
def test_a_language_that_is_no_target(name: str) -> None:
    with pytest.raises(ConfigError, match="no translation") as refused:
        target_of(name)
    assert refused.value.seen == name
    assert "javascript" in refused.value.allowed
