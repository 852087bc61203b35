"""Which licence a text states: a LICENSE file, or the notice at the head of a source file.

Owns the phrases that licences are known by. Texts are compared as their words alone, in lower case, so that comment
marks, line breaks and punctuation do not matter. Knows nothing of packages, and not whether a licence is allowed.
"""

from __future__ import annotations

import re

from codechoir.data.files.spdx import all_of, canonical, gnu_id

HEAD_CHARACTERS = 4096  # so much of a source file is looked at
PROPRIETARY = "LicenseRef-scancode-proprietary-license"

_WORDS = bytes(byte if chr(byte).isalnum() else 32 for byte in range(128)) + b" " * 128
# one of these is in every notice below
_HINTS = (
    "licen",
    "permission",
    "redistribut",
    "propriet",
    "confidential",
    "prohibited",
    "unauthori",
    "gpl",
    "public domain",
)

# the titles of full texts; what these mention besides is other licences' names
_TITLES = (
    ("GPL-3.0-only", "gnu general public license version 3 29 june 2007"),
    ("LGPL-3.0-only", "gnu lesser general public license version 3 29 june 2007"),
    ("AGPL-3.0-only", "gnu affero general public license version 3 19 november 2007"),
    ("GPL-2.0-only", "gnu general public license version 2 june 1991"),
    ("LGPL-2.0-only", "gnu library general public license version 2 june 1991"),
    ("LGPL-2.1-only", "gnu lesser general public license version 2 1 february 1999"),
    ("GPL-1.0-only", "gnu general public license version 1 february 1989"),
    ("MPL-1.1", "mozilla public license version 1 1 1 definitions"),
    ("MPL-2.0", "mozilla public license version 2 0 1 definitions"),
    ("EPL-1.0", "eclipse public license v 1 0 the accompanying program"),
    ("EPL-2.0", "eclipse public license v 2 0 the accompanying program"),
    ("CDDL-1.0", "common development and distribution license cddl version 1 0 1 definitions"),
    ("Python-2.0", "beopen com license agreement for python 2 0"),
    ("PSF-2.0", "python software foundation license version 2"),
    ("GFDL-1.3-only", "gnu free documentation license version 1 3 3 november 2008"),
    ("GFDL-1.2-only", "gnu free documentation license version 1 2 november 2002"),
    ("CC-BY-SA-4.0", "creative commons attribution sharealike 4 0 international public license"),
    ("CC-BY-NC-4.0", "creative commons attribution noncommercial 4 0 international public license"),
)
# licences that one phrase tells; the phrase in a notice or the full text
_PHRASES = (
    ("Apache-2.0", "apache license version 2 0"),
    ("Apache-2.0", "apache license v2 0"),
    ("Apache-2.0", "apache org licenses license 2 0"),
    ("BSL-1.0", "boost software license version 1 0"),
    ("Unlicense", "free and unencumbered software released into the public domain"),
    ("CC0-1.0", "creative commons cc0 1 0"),
    ("CC0-1.0", "cc0 1 0 universal"),
    ("CC0-1.0", "creativecommons org publicdomain zero 1 0"),
    ("MPL-2.0", "mozilla public license version 2 0"),
    ("MPL-2.0", "mozilla public license v 2 0"),
    ("MPL-1.1", "mozilla public license version 1 1"),
    ("MS-PL", "microsoft public license ms pl"),
    ("Artistic-1.0-Perl", "the artistic license preamble"),
    ("Artistic-2.0", "the artistic license 2 0"),
    ("UPL-1.0", "universal permissive license upl version 1 0"),
    ("WTFPL", "do what the fuck you want to public license"),
    ("PostgreSQL", "for any purpose without fee and without a written agreement is hereby granted"),
    ("EPL-2.0", "eclipse public license v 2 0"),
    ("EPL-2.0", "eclipse public license 2 0"),
    ("EPL-1.0", "eclipse public license v1 0"),
    ("CDDL-1.0", "common development and distribution license"),
    ("EUPL-1.2", "european union public licence"),
    ("CPL-1.0", "common public license version 1 0"),
    ("OSL-3.0", "open software license version 3 0"),
    ("SSPL-1.0", "server side public license"),
    ("BUSL-1.1", "business source license"),
    ("Elastic-2.0", "elastic license 2 0"),
    ("CC-BY-SA-4.0", "attribution sharealike"),
    ("CC-BY-NC-4.0", "attribution noncommercial"),
    ("CC-BY-NC-4.0", "attribution non commercial"),
    ("LicenseRef-scancode-commons-clause", "commons clause license condition"),
    ("JSON", "shall be used for good not evil"),
)
# a licence that a notice only names
_NAMED = re.compile(
    r"\b(?:(?:under|by|of) (?:the|an|a) (?:terms of the |conditions of the )?|or (?:the |an? )?)"
    r"(?:(?P<MIT>mit x11|mit|expat)|(?P<BSD>(?:new |modified |3 clause )?bsd(?: 3 clause)?)|(?P<ISC>isc)|"
    r"(?P<Zlib>zlib))(?: style)?(?: software| open source)? licen[cs]e\b"
)
_NAMED_IDS = {"MIT": "MIT", "BSD": "BSD-3-Clause", "ISC": "ISC", "Zlib": "Zlib"}

_GNU_NAME = re.compile(r"(?P<kind>affero |lesser |library |)general public licen[cs]e")
_GNU_SHORT = re.compile(
    r"\b(?:licen[cs]ed? (?:is |under )?(?:the )?(?:terms of )?(?:the )?(?:gnu )?|"
    r"gnu org (?:licenses|copyleft) (?:old licenses )?)"
    r"(?P<kind>[al]?)gpl(?:\b(?! compatible)| ?v(?=[123]))(?P<rest>.{0,40})"
)
_NOT_GRANTED = re.compile(
    r"(?:compatible with|unlike|not under|instead of|other than)(?: the)?(?: terms of)?(?: the)?(?: gnu)? $"
)
_VERSION = re.compile(r"(?:\b(?:version|v) ?|^ ?)([123])\b(?: ([01])\b)?")
_LATER = re.compile(r"any later version|or later|or newer|or above")
_EITHER = re.compile(r"\balternatively\b|\b(?:dual|tri|double|triple) licen[cs]|\bat your choice\b|\beither of\b")
_MINE = re.compile(
    r"proprietary and confidential|confidential and proprietary|unauthori[sz]ed (?:copying|use|reproduction)|"
    r"strictly prohibited|trade secrets? (?:of|and)|"
    r"for (?:academic|research|educational|evaluation|noncommercial|non commercial) (?:research )?(?:use|purposes) only"
)

_BSD_GRANT = re.compile(
    r"with or without modification (?:are|is) permitted (?:subject to the limitations in the disclaimer below )?"
    r"provided that"
)
_ANY_PERSON = "permission is hereby granted free of charge to any person obtaining a copy of this software"
_FEE_GRANT = re.compile(
    r"permission to use copy modify and (?:or )?distribute this software(?P<documented> and its documentation)?"
)


def text_licence(text: str) -> str | None:
    """The SPDX expression of a LICENSE file, several licences joined by AND; None where it is none that is known."""
    words = _words(text)
    titles = [name for name, phrase in _TITLES if phrase in words]
    if "Python-2.0" in titles:  # a stack of licences, the oldest of which reads like HPND's
        return all_of({*titles, *_grants(words)} - {"PSF-2.0", "HPND"})
    if titles:
        return all_of({*titles, *_grants(words)})
    return _stated(words)


def header_licence(content: str) -> str | None:
    """The SPDX expression that the notice at a file's head states; None where there is no notice that is known.

    Looks at the first HEAD_CHARACTERS. Licences offered as alternatives are joined by OR, others by AND; a notice that
    keeps all rights is PROPRIETARY.
    """
    head = content[:HEAD_CHARACTERS]
    lower = head.lower()
    if not any(hint in lower for hint in _HINTS):
        return None
    return _stated(_words(head))


def _words(text: str) -> str:
    return " ".join(text.lower().encode("ascii", "replace").translate(_WORDS).decode("ascii").split())


def _stated(words: str) -> str | None:
    free = _grants(words) | {name for name, phrase in _PHRASES if phrase in words}
    if not free and (named := _NAMED.search(words)):
        free = {_NAMED_IDS[kind] for kind, found in named.groupdict().items() if found}
    gnu = _gnu(words) if "general public" in words or "gpl" in words else set()
    found = free | gnu
    if not found and ("copyright" in words or "all rights" in words) and _MINE.search(words):
        return PROPRIETARY
    if len(found) > 1 and _EITHER.search(words):
        return canonical(" OR ".join(found))
    return all_of(found)


def _grants(words: str) -> set[str]:
    """The licences that are known by what they grant and on which conditions."""
    found = set()
    if _ANY_PERSON in words and "the rights to use copy modify merge publish" in words:
        found.add(_mit(words))
    if _BSD_GRANT.search(words):
        found.add(_bsd(words))
    if "altered source versions must be plainly marked as such" in words:
        found.add("Zlib")
    if grant := _FEE_GRANT.search(words):
        if grant["documented"]:
            found.add("PostgreSQL" if "without a written agreement" in words else "HPND")
        else:
            found.add("ISC" if "permission notice appear in all copies" in words else "0BSD")
    return found


def _mit(words: str) -> str:
    if "to deal with the software without restriction" in words:
        return "NCSA"
    if "except as contained in this notice" in words:
        return "X11"
    return "MIT" if "permission notice" in words else "MIT-0"


def _bsd(words: str) -> str:
    if "may not be called apache" in words or "may products derived from this software be called apache" in words:
        return "Apache-1.1"
    if "no express or implied licenses to any party s patent rights" in words:
        return "BSD-3-Clause-Clear"
    if "all advertising materials mentioning" in words:
        return "BSD-4-Clause"
    if "endorse or promote products" in words:
        return "BSD-3-Clause"
    return "BSD-2-Clause" if "redistributions in binary form" in words else "BSD-1-Clause"


def _gnu(words: str) -> set[str]:
    """The GNU licences that a notice names as its own, each once, with the first version that is said for it."""
    found: dict[str, str] = {}
    named = [
        (match["kind"].strip(), words[match.end() : match.end() + 200])
        for match in _GNU_NAME.finditer(words)
        if not _NOT_GRANTED.search(words, max(0, match.start() - 60), match.start())
    ]
    if not named and "llvm exception" not in words:  # that says what else may be linked
        named = [(match["kind"], match["rest"]) for match in _GNU_SHORT.finditer(words)]
    for kind, after in named:
        if version := _VERSION.search(after):
            number = f"{version[1]}.{version[2]}" if version[2] else version[1]
            found.setdefault(kind, gnu_id(kind, number, later=_LATER.search(after) is not None))
    for kind, _ in named:
        found.setdefault(kind, gnu_id(kind, None, later=True))
    return set(found.values())
