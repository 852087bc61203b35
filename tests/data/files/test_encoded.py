"""Encoded data as the standard library writes it is found with its length; what only looks long is not."""

import base64
import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.data.files.encoded import encoded_data

DATA = random.Random(0).randbytes(3000)
CODE = "def total(values):\n    return sum(value * 2 for value in values)\n\n\n"


def test_base64_is_as_long_as_its_encoder_made_it() -> None:
    text = base64.b64encode(DATA).decode()
    found = encoded_data(f'{CODE}ICON = "{text}"\n{CODE}')
    assert (found.kind, found.longest) == ("base64", len(text.rstrip("=")))
    assert found.longest <= found.total <= len(text) + 2


def test_lines_of_a_literal_are_one_piece() -> None:
    lines = base64.encodebytes(DATA[:2850]).decode().splitlines()
    assert {len(line) for line in lines} == {76}
    for joint in ("\n", '"\n    "', "' +\n  '", "\\n\\\n"):
        found = encoded_data(CODE + "'" + joint.join(lines) + "'\n" + CODE)
        assert found.kind == "base64"
        assert 3800 <= found.longest <= 3800 + 50  # a "+" or the n of "\\n" between lines is not told from data


def test_hexadecimal_digits_escapes_and_bytes_are_found() -> None:
    assert encoded_data(f"KEY = '{DATA.hex()}'\n").longest == 6000
    assert encoded_data(f"KEY = '{DATA.hex()}'\n").kind == "hex"
    escapes = "".join(f"\\x{byte:02x}" for byte in DATA)
    assert encoded_data(f'char a[] = "{escapes}";\n').longest == 12_000
    assert encoded_data(f'char a[] = "{escapes}";\n').kind == "escapes"
    letters = "".join(f"\\u{byte * 256 + byte:04x}" for byte in DATA[:50])
    assert encoded_data(f'String a = "{letters}";\n').longest == 300
    numbers = "".join(f"0x{byte:02x},{' ' if index % 12 else chr(10)}" for index, byte in enumerate(DATA))
    assert encoded_data(f"unsigned char a[] = {{\n{numbers}}};\n").longest == 6000
    assert encoded_data(f"unsigned char a[] = {{\n{numbers}}};\n").kind == "bytes"


@pytest.mark.parametrize(
    "content",
    [
        CODE * 50,
        "a" * 5000,
        "#" * 5000 + "\n" + "=" * 5000 + "\n" + "-" * 5000,
        "/" * 5000,
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[:39],
        "x = " + str(7**4000),
        "import { a } from 'some/long/path/that/leads/through/many/folders/to/the/component/itself/index'\n" * 9,
        "shouldReturnTheSameValueWhenTheFunctionIsCalledTwiceWithTheSameArgumentsAndTheCacheIsNotCleared(1)\n" * 9,
        "THIS_IS_A_CONSTANT_WITH_A_VERY_LONG_NAME_THAT_NOBODY_WOULD_EVER_WANT_TO_TYPE_OR_READ_ALOUD_2 = 1\n" * 9,
        "crc = (" + ", ".join(f"0x{hashlib.md5(b'%d' % n).hexdigest()[:8]}" for n in range(256)) + ")\n",
        "regex = /[\\u00AA-\\u00B5\\u00BA-\\u00C0\\u00D6-\\u00D8\\u00F6-\\u00F8\\u02C1-\\u02C6]/\n" * 20,
        "# zażółć gęślą jaźń\n" * 100,
    ],
)
def test_what_only_looks_long_is_no_data(content: str) -> None:
    found = encoded_data(content)
    assert (found.longest, found.total, found.kind) == (0, 0, "")


def test_a_checksum_is_short_and_a_table_of_256_bytes_is_below_the_threshold() -> None:
    assert encoded_data(f'sha = "{hashlib.sha256(b"").hexdigest()}"\n').longest == 64
    table = ", ".join(f"0x{byte:02x}" for byte in range(256))
    assert encoded_data(f"sbox = [{table},]\n").longest == 512


@given(st.binary(min_size=100, max_size=400))
def test_any_base64_is_found_or_is_too_plain(data: bytes) -> None:
    text = base64.b64encode(data).decode().rstrip("=")  # at least 134 characters
    found = encoded_data(f"x = '{text}'\n")
    plain = sum(map(str.isupper, text)) < 0.2 * len(text) or sum(map(str.islower, text)) < 0.1 * len(text)
    plain = plain or sum(map(str.isdigit, text)) < 0.03 * len(text) or len(set(text)) < 8
    assert found.longest == (0 if plain else len(text))


@given(st.text(alphabet="aZ9+/=\\xu0,' \n", max_size=400))
def test_what_is_found_lies_in_the_file(content: str) -> None:
    found = encoded_data(content)
    assert found.longest >= 0 and found.total <= len(content)
    assert (found.longest == 0) == (found.kind == "")
