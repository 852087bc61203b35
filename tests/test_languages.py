"""The language table, against the published names of The Stack and MultiPL-E."""

from collections import Counter
from pathlib import PurePosixPath

import pytest

from codechoir.errors import ConfigError
from codechoir.languages import LANGUAGES, MEASURED_ONLY, language, language_of_path

# The 30 languages of The Stack v1 as its `lang` column spells them, with the extensions that its makers took for them.
PUBLISHED = {
    "Assembly": (".asm",),
    "Batchfile": (".bat", ".cmd"),
    "C": (".c",),
    "C#": (".cs",),
    "C++": (".cpp", ".hpp", ".c++", ".h++", ".cc", ".hh"),
    "CMake": (".cmake",),
    "CSS": (".css",),
    "Dockerfile": (".dockerfile", "Dockerfile"),
    "FORTRAN": (".f90", ".f", ".f03", ".f08", ".f77", ".f95", ".for", ".fpp"),
    "GO": (".go",),
    "Haskell": (".hs",),
    "HTML": (".html",),
    "Java": (".java",),
    "JavaScript": (".js",),
    "Julia": (".jl",),
    "Lua": (".lua",),
    "Makefile": ("Makefile",),
    "Markdown": (".md", ".markdown"),
    "PHP": (".php", ".php3", ".php4", ".php5", ".phps", ".phpt"),
    "Perl": (".pl", ".pm", ".pod", ".perl"),
    "PowerShell": (".ps1", ".psd1", ".psm1"),
    "Python": (".py",),
    "Ruby": (".rb",),
    "Rust": (".rs",),
    "SQL": (".sql",),
    "Scala": (".scala",),
    "Shell": (".sh", ".bash", ".command", ".zsh"),
    "TypeScript": (".ts", ".tsx"),
    "TeX": (".tex",),
    "Visual Basic": (".vb",),
}

# MultiPL-E's `language` field and `stop_tokens`, as published.
MULTIPL_E = {
    "python": ("py", ["\ndef", "\n#", "\nif", "\nclass"]),
    "java": ("java", ["\n    }\n"]),
    "javascript": ("js", ["\nfunction ", "\n/*", "\n//", "\nconsole.log"]),
    "typescript": ("ts", ["\nfunction ", "\n/*", "\n//", "\nclass"]),
    "cpp": ("cpp", ["\n}"]),
    "csharp": ("cs", ["\n    }\n"]),
    "go": ("go", ["\nfunc", "struct", "\n// "]),
    "rust": ("rs", ["\n}"]),
    "php": ("php", ["\nfunction", "\n?>", "\n//", "\n#"]),
    "ruby": ("rb", ["\nclass", "\ndef", "\n#", "\n\n"]),
    "perl": ("pl", ["\nsub", "\n#", "\n\n"]),
    "lua": ("lua", ["\nlocal", "\nfunction", "\n--", "\n\n"]),
    "shell": ("sh", ["\n}"]),
    "scala": ("scala", ["\n    }\n"]),
    "julia": ("jl", ["\nfunction", "\nmacro", "\n\n"]),
    "haskell": ("hs", ["\n\n", "\n{-", "\ntype", "\ndata", "\nnewtype"]),
    "r": ("r", ["\n#", "\n```"]),
    "racket": ("rkt", ["\n(define ", "\n#|", "\n;", "\n("]),
    "d": ("d", ["\n\n", "\nvoid", "\nbool", "\nint"]),
    "swift": ("swift", ["\n}"]),
}
ALL = LANGUAGES | MEASURED_ONLY


def test_the_table_is_the_stacks() -> None:
    assert {entry.stack_name for entry in LANGUAGES.values()} == set(PUBLISHED)
    assert len(LANGUAGES) == 30


def test_languages_that_are_only_measured_are_not_the_stacks() -> None:
    assert {entry.stack_name for entry in MEASURED_ONLY.values()} == {"D", "R", "Racket", "Swift"}
    assert not set(MEASURED_ONLY) & set(LANGUAGES)
    for entry in MEASURED_ONLY.values():
        assert [language_of_path(f"a{suffix}") for suffix in entry.suffixes] == [None]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_extensions(name: str) -> None:
    for suffix in PUBLISHED[name]:
        path = f"src/x{suffix}" if suffix.startswith(".") else f"src/{suffix}"
        assert language_of_path(path) is language(name), path


def test_published_codes_and_stop_tokens() -> None:
    told = {entry.id: (entry.multipl_e, list(entry.stop_tokens)) for entry in ALL.values() if entry.multipl_e}
    assert told == MULTIPL_E
    assert not any(entry.stop_tokens for entry in ALL.values() if not entry.multipl_e)


def test_each_language_answers_to_all_its_names() -> None:
    for key, entry in ALL.items():
        assert key == entry.id
        for name in (entry.id, entry.stack_name, *entry.aliases, *filter(None, [entry.multipl_e])):
            assert language(name) is entry


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Go", "go"), ("Fortran", "fortran"), ("Visual Basic .NET", "visual-basic"), ("c-sharp", "csharp"), ("C", "c")],
)
def test_spellings_of_others(name: str, expected: str) -> None:
    assert language(name).id == expected


def test_no_name_suffix_or_interpreter_means_two_languages() -> None:
    entries = ALL.values()
    names = [n for e in entries for n in {e.id, e.stack_name, *e.aliases, *filter(None, [e.multipl_e])}]
    suffixes = [suffix for entry in entries for suffix in entry.suffixes]
    file_names = [name for entry in entries for name in entry.file_names]
    interpreters = [name for entry in entries for name in entry.interpreters]
    for given in (names, suffixes, file_names, interpreters):
        assert max(Counter(given).values()) == 1
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in suffixes)
    assert all(name == name.lower() for name in (*file_names, *interpreters))


def test_every_language_can_be_commented() -> None:
    for entry in ALL.values():
        assert entry.line_comment or entry.block_comment, entry.id


@pytest.mark.parametrize("name", ["cobol", "PYTHON", "", "c "])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        language(name)
    assert "assembly, batchfile, c, csharp, cpp, " in str(caught.value)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("src/a.py", "python"),
        ("A.JAVA", "java"),
        ("dist/index.mjs", "javascript"),
        ("a.b/hash_set.hpp", "cpp"),
        ("util.h", "cpp"),
        ("types.d.ts", "typescript"),
        ("Makefile", "makefile"),
        ("sub/GNUmakefile", "makefile"),
        ("lib/CMakeLists.txt", "cmake"),
        ("Rakefile", "ruby"),
        ("home/.bashrc", "shell"),
        ("Makefile.PL", "perl"),
        ("notes.txt", None),
        ("Gemfile.lock", None),
        ("a.py/README", None),
        (".py", None),  # a hidden file without a suffix
        ("py", None),
        ("a.", None),
    ],
)
def test_language_of_a_path(path: str, expected: str | None) -> None:
    for found in (language_of_path(path), language_of_path(PurePosixPath(path))):
        assert (found.id if found else None) == expected
