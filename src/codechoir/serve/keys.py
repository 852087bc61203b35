"""API keys: read from a file, compared in constant time.

In: a file with a key a line; blank lines and lines that begin with # are skipped. Keeps digests, not keys.
"""

from __future__ import annotations

import hashlib
import hmac
import stat
from pathlib import Path

from codechoir.errors import InputError

MIN_LENGTH = 8


class ApiKeys:
    """The keys that open the API; without any, everybody may call it."""

    def __init__(self, keys: tuple[str, ...] = ()) -> None:
        self._digests = tuple(_digest(key) for key in keys)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def admit(self, authorization: str) -> bool:
        """Whether the value of an `authorization` header, `Bearer KEY`, holds one of the keys.

        Every key is compared, digest with digest, so the time tells nothing of how much of which key was right.
        """
        scheme, _, key = authorization.partition(" ")
        digest = _digest(key.strip())
        found = False
        for known in self._digests:
            found |= hmac.compare_digest(known, digest)
        return found and scheme.lower() == "bearer"


def read_keys(path: Path) -> ApiKeys:
    """The keys of a file. Raises InputError where it cannot be read, holds none, or one too short to be safe."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("the API key file cannot be read", seen=f"{path}: {error}") from None
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys:
        raise InputError("the API key file holds no key", seen=path, allowed="one key a line; # begins a comment")
    if any(len(key) < MIN_LENGTH or not key.isascii() or not key.isprintable() or " " in key for key in keys):
        allowed = f"{MIN_LENGTH} printable ASCII characters or more, no blanks"
        raise InputError("the API key file holds a key that is no key", seen=path, allowed=allowed)
    return ApiKeys(keys)


def others_can_read(path: Path) -> bool:
    """Whether users other than the file's owner can read it."""
    return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
