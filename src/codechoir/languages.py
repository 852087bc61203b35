"""THE language table: each language's names in The Stack and in MultiPL-E, suffixes, line comment and stop tokens.

Knows nothing of compilers: `sandbox/toolchains.py` says how a language's programs are run, keyed by `Language.id`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from codechoir.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Language:
    """One programming language; `id` names it in recipes, folders and records."""

    id: str
    stack_name: str  # The Stack's `lang` column
    multipl_e: str  # MultiPL-E's `language` field and file names
    suffixes: tuple[str, ...]
    line_comment: str
    stop_tokens: tuple[str, ...]  # MultiPL-E's, used when a problem brings none


LANGUAGES: dict[str, Language] = {
    language.id: language
    for language in (
        Language("python", "Python", "py", (".py",), "#", ("\ndef", "\n#", "\nif", "\nclass")),
        Language("java", "Java", "java", (".java",), "//", ("\n    }\n",)),
        Language(
            "javascript",
            "JavaScript",
            "js",
            (".js", ".mjs", ".cjs"),
            "//",
            ("\nfunction ", "\n/*", "\n//", "\nconsole.log"),
        ),
        Language("cpp", "C++", "cpp", (".cpp", ".cc", ".cxx", ".hpp", ".hh", ".hxx", ".h"), "//", ("\n}",)),
    )
}

_BY_SUFFIX = {suffix: language for language in LANGUAGES.values() for suffix in language.suffixes}
_BY_STACK_NAME = {language.stack_name: language for language in LANGUAGES.values()}
_BY_MULTIPL_E = {language.multipl_e: language for language in LANGUAGES.values()}


def language(name: str) -> Language:
    """The language called `name` by us, by The Stack or by MultiPL-E. Raises ConfigError for any other name."""
    found = LANGUAGES.get(name) or _BY_STACK_NAME.get(name) or _BY_MULTIPL_E.get(name)
    if found is None:
        raise ConfigError("unknown language", seen=name, allowed=", ".join(LANGUAGES))
    return found


def language_of_path(path: str | PurePath) -> Language | None:
    """The language of a file by its suffix, or None where the suffix tells nothing."""
    return _BY_SUFFIX.get(PurePath(path).suffix.lower())
