"""The language table, against the published names of The Stack and MultiPL-E."""

from collections import Counter
from pathlib import PurePosixPath

import pytest

from codechoir.errors import ConfigError
from codechoir.languages import LANGUAGES, language, language_of_path

# The Stack's `lang` column, MultiPL-E's `language` field and MultiPL-E's `stop_tokens`, as published.
PUBLISHED = {
    "python": ("Python", "py", ["\ndef", "\n#", "\nif", "\nclass"]),
    "java": ("Java", "java", ["\n    }\n"]),
    "javascript": ("JavaScript", "js", ["\nfunction ", "\n/*", "\n//", "\nconsole.log"]),
    "cpp": ("C++", "cpp", ["\n}"]),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_names_and_stop_tokens(name: str) -> None:
    entry = LANGUAGES[name]
    assert (entry.stack_name, entry.multipl_e, list(entry.stop_tokens)) == PUBLISHED[name]
    assert entry.id == name


def test_each_language_answers_to_all_its_names() -> None:
    for entry in LANGUAGES.values():
        assert language(entry.id) is language(entry.stack_name) is language(entry.multipl_e) is entry


def test_no_name_or_suffix_means_two_languages() -> None:
    names = [name for entry in LANGUAGES.values() for name in {entry.id, entry.stack_name, entry.multipl_e}]
    suffixes = [suffix for entry in LANGUAGES.values() for suffix in entry.suffixes]
    assert max(Counter(names).values()) == max(Counter(suffixes).values()) == 1
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in suffixes)


@pytest.mark.parametrize("name", ["cobol", "PYTHON", "", "c"])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        language(name)
    assert "python, java, javascript, cpp" in str(caught.value)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("src/a.py", "python"),
        ("A.JAVA", "java"),
        ("dist/index.mjs", "javascript"),
        ("a.b/hash_set.hpp", "cpp"),
        ("util.h", "cpp"),
        ("types.d.ts", None),
        ("Makefile", None),
        (".py", None),  # a hidden file without a suffix
        ("py", None),
    ],
)
def test_language_of_a_path(path: str, expected: str | None) -> None:
    for found in (language_of_path(path), language_of_path(PurePosixPath(path))):
        assert (found.id if found else None) == expected
