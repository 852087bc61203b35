"""What cannot be said in a target language, and why."""

from __future__ import annotations


class Untranslatable(Exception):  # noqa: N818  # a finding about a problem, not a failure
    """A problem, an assertion or a value that cannot be expressed; `reason` is written for the user to read."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
