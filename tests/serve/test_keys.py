"""API keys from files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.errors import InputError
from codechoir.serve.keys import ApiKeys, others_can_read, read_keys

KEYS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=40)


def test_a_file_has_a_key_a_line(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# editors\n\n  first-key-1  \nsecond-key-2\n")
    keys = read_keys(path)
    assert keys.admit("Bearer first-key-1")
    assert keys.admit("bearer second-key-2")
    for wrong in ("", "first-key-1", "Bearer", "Bearer ", "Basic first-key-1", "Bearer first-key-", "Bearer # editors"):
        assert not keys.admit(wrong)


@given(st.lists(KEYS, min_size=1, max_size=5), st.text(max_size=40))
def test_a_key_opens_and_nothing_else_does(keys: list[str], other: str) -> None:
    opened = ApiKeys(tuple(keys))
    assert all(opened.admit(f"Bearer {key}") for key in keys)
    assert opened.admit(f"Bearer {other}") == (other.strip() in keys)


def test_no_keys_admit_nobody() -> None:
    assert not ApiKeys()
    assert not ApiKeys().admit("Bearer ")


@pytest.mark.parametrize(
    "content", [b"", b"# none\n", b"short\n", b"two words here\n", "schlüssel-1\n".encode(), b"\xff"]
)
def test_a_file_without_a_sound_key_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(InputError, match="API key file"):
        read_keys(tmp_path / "keys")
    with pytest.raises(InputError, match="cannot be read"):
        read_keys(tmp_path / "absent")


def test_whether_others_can_read_it_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.touch()
    for mode, expected in ((0o600, False), (0o640, True), (0o604, True)):
        path.chmod(mode)
        assert others_can_read(path) is expected
