"""What a step sees of one file, and what it says when the file is not to be kept. Knows no step."""

from __future__ import annotations

from dataclasses import dataclass

from codechoir.languages import Language


@dataclass(frozen=True, slots=True)
class FileText:
    """One file as the steps that look inside see it."""

    path: str  # within its package, "/" between folders
    language: Language
    content: str


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a file is not kept: a code that programs read, and the evidence for people."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What one step says of one file, kept or not."""

    step: str
    rejection: Rejection | None
    detail: str  # the figures behind it, for people
