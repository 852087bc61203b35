"""The one message that a user sees."""

import copy
from pathlib import Path

import pytest

from codechoir import errors
from codechoir.errors import ChecksumError, InputError, UserError


def test_a_message_has_a_line_for_each_part() -> None:
    error = UserError("no such model", seen="phi-9", allowed="phi-1, phi-2", next_step="name one of these")
    assert str(error).splitlines() == [
        "no such model",
        "  seen:    phi-9",
        "  allowed: phi-1, phi-2",
        "  next:    name one of these",
    ]


def test_parts_that_say_nothing_are_left_out() -> None:
    assert str(UserError("the disk is full")) == "the disk is full"


@pytest.mark.parametrize("seen", [0, False, "", ()])
def test_a_falsy_value_that_was_seen_is_shown(seen: object) -> None:
    assert str(UserError("not allowed", seen=seen)) == f"not allowed\n  seen:    {seen}"


def test_every_error_is_a_user_error() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert len(kinds) > 5
    assert all(issubclass(kind, UserError) and kind.__doc__ for kind in kinds)
    assert issubclass(ChecksumError, InputError)


def test_an_error_comes_whole_out_of_another_process() -> None:
    # A process pool takes an error apart and puts it together again as `copy` does.
    error = InputError("damaged", seen=Path("a.json"), allowed="JSON", next_step="write it again")
    twin = copy.copy(error)
    assert type(twin) is InputError
    assert str(twin) == str(error)
    assert (twin.what, twin.seen) == ("damaged", Path("a.json"))
