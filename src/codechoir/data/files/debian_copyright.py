"""Debian's copyright files: which licence each file of a source package is under.

Goes in: the text of `debian/copyright`. Comes out: SPDX expressions by path. The machine-readable format
(https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/) is read by the library python-debian; of free
prose, the licence that it states holds for all files. Knows no archive.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from debian.copyright import Copyright, FilesParagraph, License, LicenseParagraph
from debian.copyright import Error as CopyrightError

from codechoir.data.files.licence_texts import text_licence
from codechoir.data.files.spdx import canonical

_LOGGER = "debian.copyright"


@dataclass(frozen=True, slots=True)
class DebianCopyright:
    """For the files of each pattern a licence: as an SPDX expression where it is known, else as it is named."""

    by_pattern: tuple[tuple[re.Pattern[str], str], ...]  # of several that match, the last holds

    def licence_of(self, path: str) -> str | None:
        """The licence of the file at `path`, relative to the source package's top folder."""
        for pattern, licence in reversed(self.by_pattern):
            if pattern.fullmatch(path):
                return licence
        return None

    def licences(self) -> list[str]:
        """Every licence named, in order."""
        return list(dict.fromkeys(licence for _, licence in self.by_pattern))


def parse_copyright(content: bytes) -> DebianCopyright:
    """Reads `debian/copyright`; what cannot be read names no licence."""
    text = content.decode(errors="replace")
    logger = logging.getLogger(_LOGGER)
    was_off, logger.disabled = logger.disabled, True  # the slips that it forgives are not this program's to report
    try:
        parsed = Copyright(text.splitlines(keepends=True), strict=False)
        files = list(parsed.all_files_paragraphs())
        explained = _explained(parsed.all_license_paragraphs())
        found = [pair for paragraph in files if (pair := _of_paragraph(paragraph, explained)) is not None]
    except (CopyrightError, ValueError, TypeError, KeyError):
        found = []
    finally:
        logger.disabled = was_off
    if not found and (stated := text_licence(text)) is not None:
        found = [(re.compile(r".*", re.DOTALL), stated)]
    return DebianCopyright(tuple(found))


def _explained(paragraphs: Iterable[LicenseParagraph]) -> dict[str, str]:
    """The short names that only this file explains -> the licence that their text states."""
    found = {}
    for paragraph in paragraphs:
        licence = cast(License | None, paragraph.license)
        if licence is not None and canonical(licence.synopsis) is None and (stated := text_licence(licence.text)):
            found[licence.synopsis] = stated
    return found


def _of_paragraph(paragraph: FilesParagraph, explained: Mapping[str, str]) -> tuple[re.Pattern[str], str] | None:
    pattern, licence = paragraph.files_pattern(), cast(License | None, paragraph.license)
    if pattern is None or licence is None or not licence.synopsis.strip():
        return None
    known = (
        canonical(licence.synopsis) or text_licence(licence.text) or canonical(_spelt_out(licence.synopsis, explained))
    )
    return pattern, known or licence.synopsis


def _spelt_out(synopsis: str, explained: Mapping[str, str]) -> str:
    for name in sorted(explained, key=len, reverse=True):
        licence = explained[name]
        written = f"({licence})" if " " in licence else licence
        synopsis = re.sub(rf"(?<![\w.+-]){re.escape(name)}(?![\w.+-])", written, synopsis, flags=re.IGNORECASE)
    return synopsis
