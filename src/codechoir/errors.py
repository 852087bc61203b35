"""What a user can get wrong, said in one message: what failed, the value seen, the values allowed, what to do next.

Only the command line prints these and exits (code 2). A failed `assert` is a bug of ours (code 1).
"""

from __future__ import annotations


class UserError(Exception):
    """A mistake or a lack on the user's side, never a bug of ours."""

    def __init__(self, what: str, *, seen: object = None, allowed: str = "", next_step: str = "") -> None:
        self.what, self.seen, self.allowed, self.next_step = what, seen, allowed, next_step
        super().__init__(self.message())

    def message(self) -> str:
        """The whole message, one line a part; parts that say nothing are left out."""
        parts = [self.what]
        if self.seen is not None:
            parts.append(f"  seen:    {self.seen}")
        if self.allowed:
            parts.append(f"  allowed: {self.allowed}")
        if self.next_step:
            parts.append(f"  next:    {self.next_step}")
        return "\n".join(parts)

    def brief(self) -> str:
        """What failed and what was seen, in one line."""
        return self.what if self.seen is None else f"{self.what}: {self.seen}"


class ConfigError(UserError):
    """A recipe or an override that cannot be understood."""


class InputError(UserError):
    """A file or folder that is missing, damaged or of the wrong form."""


class ChecksumError(InputError):
    """Bytes that are not the pinned ones."""


class ToolMissingError(UserError):
    """A program, compiler or optional package that this machine lacks."""


class IncompatibleModelError(UserError):
    """Models that cannot be composed: another architecture, shape, vocabulary or non-feed-forward weights."""


class ProofError(UserError):
    """A composed model that does not give its experts' logits."""


class MemoryFullError(UserError):
    """No memory left for what was to be computed."""


class DiskFullError(UserError):
    """No space left where a result was to be written."""
