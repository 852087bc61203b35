"""SPDX licence expressions: their canonical form, the many ways of writing them, and which licences are permissive.

Owns the ratings (those of the Blue Oak Council's list, version 15, https://blueoakcouncil.org/list, which rates
permissive licences alone: one that is absent is not permissive) and the spellings found in package metadata. Knows no
package and no file. Expressions are parsed by the library license-expression.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import Any, Literal, get_args

from license_expression import (
    ExpressionError,
    LicenseSymbol,
    LicenseWithExceptionSymbol,
    get_spdx_licensing,
)

Rating = Literal["gold", "silver", "bronze", "lead"]  # from best to worst
RATINGS: tuple[Rating, ...] = get_args(Rating)

# The list's model licence is counted as gold. Ids that SPDX has since merged into others stand under those.
_RATED: dict[Rating, str] = {
    "gold": "BlueOak-1.0.0 BSD-2-Clause-Patent",
    "silver": """
        ADSL Apache-2.0 APAFML BSD-1-Clause BSD-2-Clause BSD-2-Clause-Views BSL-1.0 DSDP ECL-1.0 ECL-2.0 hdparm
        ImageMagick Intel-ACPI ISC Linux-OpenIB MIT MIT-Modern-Variant MIT-testregex MIT-Wu MS-PL MulanPSL-1.0 Mup
        PostgreSQL SHL-0.5 Spencer-99 UPL-1.0 Xerox Xfig
    """,
    "bronze": """
        0BSD AFL-1.1 AFL-1.2 AFL-2.0 AFL-2.1 AFL-3.0 AMDPLPA AML AMPAS ANTLR-PD ANTLR-PD-fallback Apache-1.0
        Apache-1.1 Artistic-2.0 Bahyph Barr bcrypt-Solar-Designer BSD-3-Clause BSD-3-Clause-Attribution
        BSD-3-Clause-Clear BSD-3-Clause-HP BSD-3-Clause-LBNL BSD-3-Clause-Modification
        BSD-3-Clause-No-Nuclear-License-2014 BSD-3-Clause-No-Nuclear-Warranty BSD-3-Clause-Open-MPI BSD-3-Clause-Sun
        BSD-4-Clause BSD-4-Clause-Shortened BSD-4-Clause-UC BSD-Source-Code bzip2-1.0.6 CC0-1.0 CFITSIO Clips
        CNRI-Jython CNRI-Python CNRI-Python-GPL-Compatible Cube curl eGenix Entessa FTL fwlw
        HPND-Fenneberg-Livingston HPND-sell-regexpr HTMLTIDY IBM-pibs ICU Info-ZIP Intel JasPer-2.0 Libpng
        libpng-2.0 libtiff LPPL-1.3c LZMA-SDK-9.22 MIT-0 MIT-advertising MIT-CMU MIT-enna MIT-feh MIT-open-group
        MITNFA MTLL MulanPSL-2.0 Multics Naumen NCSA NetCDF NICTA-1.0 NIST-Software NTP OGL-Canada-2.0 OLDAP-2.0
        OLDAP-2.0.1 OLDAP-2.1 OLDAP-2.2 OLDAP-2.2.1 OLDAP-2.2.2 OLDAP-2.3 OLDAP-2.4 OLDAP-2.5 OLDAP-2.6 OLDAP-2.7
        OLDAP-2.8 OML OpenSSL PHP-3.0 PHP-3.01 Plexus PSF-2.0 Python-2.0 Ruby Saxpath SGI-B-2.0 SMLNJ SunPro SWL
        Symlinks TCL TCP-wrappers UCAR Unicode-DFS-2015 Unicode-DFS-2016 UnixCrypt Unlicense VSL-1.0 W3C X11
        XFree86-1.1 xlock Xnet xpp Zlib zlib-acknowledgement ZPL-2.0 ZPL-2.1
    """,
    "lead": """
        AAL Adobe-2006 Afmparse Artistic-1.0 Artistic-1.0-cl8 Artistic-1.0-Perl Beerware blessing Borceux
        BSD-2-Clause-Darwin CECILL-B check-cvs ClArtistic Condor-1.1 Crossword CrystalStacker diffmark DOC EFL-1.0
        EFL-2.0 Fair FSFAP FSFUL FSFULLR Giftware GLWTPL HPND HPND-export-US IJG IJG-short Jam Kazlib Leptonica
        LPL-1.0 LPL-1.02 McPhee-slideshow MirOS mpich2 NAIST-2003 NASA-1.3 NBPL-1.0 Newsletr NLPL NRL NTP-0 OFFIS
        OGTSL OLDAP-1.1 OLDAP-1.2 OLDAP-1.3 OLDAP-1.4 psutils python-ldap Qhull Rdisc RSA-MD snprintf Spencer-86
        Spencer-94 SSH-short TU-Berlin-1.0 TU-Berlin-2.0 Vim W3C-19980720 W3C-20150513 Wsuipa WTFPL xinetd XSkat Zed
        Zend-2.0 ZPL-1.1
    """,
}

BSD = ("BSD-2-Clause", "BSD-3-Clause")  # what "BSD" without more may be

# spelling, in lower case and without "osi approved :: " or a leading "the " -> SPDX expression
_SPELLINGS: dict[str, str] = {
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache-2": "Apache-2.0",
    "apache2": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license v2.0": "Apache-2.0",
    "apache license version 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "apache software license 2.0": "Apache-2.0",
    "artistic": "Artistic-1.0-Perl",
    "artistic license": "Artistic-1.0-Perl",
    "artistic license 2.0": "Artistic-2.0",
    "boost": "BSL-1.0",
    "boost software license": "BSL-1.0",
    "boost software license 1.0": "BSL-1.0",
    "boost software license 1.0 (bsl-1.0)": "BSL-1.0",
    # a two-clause licence is taken for the stricter: which one it is, is not said
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "bsd-like": "BSD-3-Clause",
    "bsd-style": "BSD-3-Clause",
    "2-clause bsd": "BSD-2-Clause",
    "bsd (2 clause)": "BSD-2-Clause",
    "bsd 2-clause": "BSD-2-Clause",
    "bsd-2": "BSD-2-Clause",
    "freebsd license": "BSD-2-Clause",
    "simplified bsd": "BSD-2-Clause",
    "simplified bsd license": "BSD-2-Clause",
    "3-clause bsd": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "bsd (3 clause)": "BSD-3-Clause",
    "bsd (3-clause)": "BSD-3-Clause",
    "bsd 3 clause": "BSD-3-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "bsd-3": "BSD-3-Clause",
    "modified bsd": "BSD-3-Clause",
    "modified bsd license": "BSD-3-Clause",
    "new bsd": "BSD-3-Clause",
    "new bsd license": "BSD-3-Clause",
    "cc0": "CC0-1.0",
    "cc0 1.0 universal (cc0 1.0) public domain dedication": "CC0-1.0",
    "eclipse public license 1.0 (epl-1.0)": "EPL-1.0",
    "eclipse public license 2.0 (epl-2.0)": "EPL-2.0",
    "expat": "MIT",
    "mit license": "MIT",
    "mit licence": "MIT",
    "mit/expat": "MIT",
    "mit/x11": "MIT",
    "x11 mit": "MIT",
    "mit no attribution license (mit-0)": "MIT-0",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mpl 2.0": "MPL-2.0",
    "mozilla public license 1.1 (mpl 1.1)": "MPL-1.1",
    "mozilla public license 2.0": "MPL-2.0",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "perl": "Artistic-1.0-Perl OR GPL-1.0-or-later",
    "postgresql license": "PostgreSQL",
    "psf": "PSF-2.0",
    "psf license": "PSF-2.0",
    "psfl": "PSF-2.0",
    "python": "Python-2.0",
    "python software foundation license": "PSF-2.0",
    "public domain": "LicenseRef-scancode-public-domain",
    "public-domain": "LicenseRef-scancode-public-domain",
    "unlicense (unlicense)": "Unlicense",
    "universal permissive license (upl)": "UPL-1.0",
    "zlib/libpng": "Zlib",
    "zlib/libpng license": "Zlib",
    "zope public license": "ZPL-2.1",
}
_GNU = re.compile(
    r"(?:gnu )?(?P<kind>affero|lesser|library|a|l|)(?: or lesser)? ?(?:gpl|general public licen[cs]e)[ -]*"
    r"(?:(?:version|v) ?)?(?P<version>[1-3](?:\.[01])?)?(?:\.0)?"
    r"(?P<later>\+| ?or later| or \(at your option\) any later version)?"
    r"(?: \([al]?gpl ?(?:v?[0-9.]+)?(?P<plus>\+?)\))?"
)
_GNU_KINDS = {"": "GPL", "a": "AGPL", "affero": "AGPL", "l": "LGPL", "lesser": "LGPL", "library": "LGPL"}
_GNU_OLDEST = {"GPL": "1.0", "AGPL": "3.0", "LGPL": "2.0"}  # what a licence of any version may be taken under
_LONGEST = 300  # a longer name is a licence's text
_JOINTS = re.compile(r"(\(|\)|\s+and\s+|\s+or\s+|\s+with\s+|\s*[;,/&]\s*)", re.IGNORECASE)
_SIGNS = {"/": "OR", ",": "AND", ";": "AND", "&": "AND"}


@cache
def _licensing() -> Any:
    return get_spdx_licensing()


@cache
def ids_rated(least: Rating) -> frozenset[str]:
    """The SPDX ids rated `least` or better."""
    better = RATINGS[: RATINGS.index(least) + 1]
    return frozenset(name for rating in better for name in _RATED[rating].split())


@cache
def _known_names() -> dict[str, str]:
    return {name.lower(): name for name in ids_rated("lead")} | _SPELLINGS


@lru_cache(maxsize=8192)
def canonical(name: str) -> str | None:
    """The SPDX expression that a licence name or expression stands for, in one form; None where that is not known.

    Understands SPDX ids of any case, common spellings, Debian's short names, "A or B", "A and B", "A with E" and "A/B"
    (either). Names in a row, as "A, B", are all meant.
    """
    text = " ".join(name.split())
    if not text or len(text) > _LONGEST:
        return None
    return _simple(text) or _compound(text)


def _simple(text: str) -> str | None:
    spelled = text.lower().removeprefix("license :: ").removeprefix("osi approved :: ").removeprefix("the ")
    return _known_names().get(spelled) or _gnu(spelled)


def _gnu(spelled: str) -> str | None:
    """Such as "gpl-2+", "gnu lesser general public license v3 or later (lgplv3+)"."""
    if "gpl" not in spelled and "general public" not in spelled:
        return None
    found = _GNU.fullmatch(spelled)
    if found is None:
        return None
    return gnu_id(found["kind"], found["version"], later=bool(found["later"] or found["plus"]))


def gnu_id(kind: str, version: str | None, *, later: bool) -> str:
    """The SPDX id of a GNU licence: `kind` is "", "affero", "lesser", "library" or its letter; None: any version."""
    name = _GNU_KINDS[kind]
    number = version if version is None or "." in version else f"{version}.0"
    return f"{name}-{number or _GNU_OLDEST[name]}-{'or-later' if later or number is None else 'only'}"


def _compound(text: str) -> str | None:
    # Debian: a comma before "and" or "or" binds less than they do
    clauses = re.split(r",\s+(and|or)\s+", text, flags=re.IGNORECASE)
    if len(clauses) > 1 and "(" not in text:
        text = " ".join(part if number % 2 else f"({part})" for number, part in enumerate(clauses))
    parts = []
    for part in _JOINTS.split(text):
        sign = part.strip()
        if sign:
            parts.append(_SIGNS.get(sign) or (sign if sign.lower() in ("and", "or", "with") else _part(sign)))
    try:
        return str(_licensing().parse(" ".join(parts), validate=True).simplify())
    except (ExpressionError, AttributeError, RecursionError):  # AttributeError: an expression of nothing
        return None


def _part(sign: str) -> str:
    simple = None if sign in ("(", ")") else _simple(sign)
    return f"({simple})" if simple and " " in simple else simple or sign


@lru_cache(maxsize=8192)
def permitted_part(expression: str, allowed: frozenset[str]) -> str | None:
    """The part of a canonical expression that may be chosen: of "A OR B" what is allowed; None where nothing is.

    All of "A AND B" must be allowed. An exception only adds permissions: with the licence it is allowed, too; `allowed`
    may also name both, as in "GPL-2.0-only WITH Classpath-exception-2.0".
    """
    chosen = _choose(_licensing().parse(expression), allowed)
    return None if chosen is None else str(chosen.simplify())


def _choose(tree: Any, allowed: frozenset[str]) -> Any:
    licensing = _licensing()
    if isinstance(tree, LicenseWithExceptionSymbol):
        return tree if str(tree) in allowed or tree.license_symbol.key in allowed else None
    if isinstance(tree, LicenseSymbol):
        return tree if tree.key in allowed else None
    parts = [_choose(part, allowed) for part in tree.args]
    chosen = [part for part in parts if part is not None]
    if not chosen or (isinstance(tree, licensing.AND) and len(chosen) < len(parts)):
        return None
    return chosen[0] if len(chosen) == 1 else type(tree)(*chosen)


def all_of(expressions: Iterable[str]) -> str | None:
    """The canonical expression under which all of `expressions` hold at once; None where there is none."""
    parts = sorted(set(expressions))
    return canonical(" AND ".join(f"({part})" for part in parts)) if len(parts) > 1 else (parts[0] if parts else None)


def ids_in(expression: str) -> frozenset[str]:
    """The SPDX ids that a canonical expression names."""
    return frozenset(_licensing().license_keys(expression))
