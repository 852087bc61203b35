"""THE language table: the 30 languages of The Stack v1, what others call them, and how files are named in them.

Beside it the languages that MultiPL-E has and The Stack v1 has not: models can be measured in them, but there is no
corpus to train an expert on.

Knows nothing of compilers (`sandbox/toolchains` says how a language's programs are run, keyed by `Language.id`) and
nothing of content (`data/sources/detection.py` decides where a name does not).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from codechoir.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """One language; `id` names it in recipes, folders and records."""

    id: str
    stack_name: str  # The Stack v1's `lang` column; of MEASURED_ONLY The Stack v2's `language`
    aliases: tuple[str, ...] = ()  # other names: The Stack's folders, The Stack v2's `language`, MultiPL-E's variants
    suffixes: tuple[str, ...] = ()  # lower case; no two languages share one
    file_names: tuple[str, ...] = ()  # whole names, lower case
    interpreters: tuple[str, ...] = ()  # in `#!` lines, without version
    line_comment: str = ""  # what begins one; empty where only blocks can be commented
    block_comment: tuple[str, str] | None = None  # what begins and ends one
    multipl_e: str = ""  # MultiPL-E's code in its `language` field and file names; empty where it has no translation
    stop_tokens: tuple[str, ...] = ()  # MultiPL-E's, used when a problem brings none


GENERALIST = "generalist"  # among experts: of no language, the base's own feed-forward

_C_BLOCK = ("/*", "*/")
_MARKUP_BLOCK = ("<!--", "-->")

LANGUAGES: dict[str, Language] = {
    language.id: language
    for language in (
        Language(
            id="assembly",
            stack_name="Assembly",
            aliases=("Unix Assembly",),
            suffixes=(".asm", ".s", ".nasm"),
            line_comment=";",
        ),
        Language(
            id="batchfile",
            stack_name="Batchfile",
            suffixes=(".bat", ".cmd"),
            line_comment="REM",
        ),
        Language(
            id="c",
            stack_name="C",
            suffixes=(".c",),
            interpreters=("tcc",),
            line_comment="//",
            block_comment=_C_BLOCK,
        ),
        Language(
            id="csharp",
            stack_name="C#",
            aliases=("c-sharp",),
            suffixes=(".cs", ".csx"),
            interpreters=("dotnet-script",),
            line_comment="//",
            block_comment=_C_BLOCK,
            multipl_e="cs",
            stop_tokens=("\n    }\n",),
        ),
        Language(
            id="cpp",
            stack_name="C++",
            aliases=("c++",),
            suffixes=(
                *(".cpp", ".cc", ".cxx", ".c++", ".cppm", ".ixx"),
                *(".hpp", ".hh", ".hxx", ".h++", ".h", ".inl", ".ipp", ".tcc", ".tpp", ".txx"),
            ),
            line_comment="//",
            block_comment=_C_BLOCK,
            multipl_e="cpp",
            stop_tokens=("\n}",),
        ),
        Language(
            id="cmake",
            stack_name="CMake",
            suffixes=(".cmake",),
            file_names=("cmakelists.txt",),
            interpreters=("cmake",),
            line_comment="#",
            block_comment=("#[[", "]]"),
        ),
        Language(
            id="css",
            stack_name="CSS",
            suffixes=(".css",),
            block_comment=_C_BLOCK,
        ),
        Language(
            id="dockerfile",
            stack_name="Dockerfile",
            suffixes=(".dockerfile", ".containerfile"),
            file_names=("dockerfile", "containerfile"),
            line_comment="#",
        ),
        Language(
            id="fortran",
            stack_name="FORTRAN",
            aliases=("Fortran", "Fortran Free Form"),
            suffixes=(".f", ".f77", ".for", ".fpp", ".ftn", ".f90", ".f95", ".f03", ".f08"),
            line_comment="!",
        ),
        Language(
            id="go",
            stack_name="GO",
            aliases=("Go", "go_test.go"),
            suffixes=(".go",),
            line_comment="//",
            block_comment=_C_BLOCK,
            multipl_e="go",
            stop_tokens=("\nfunc", "struct", "\n// "),
        ),
        Language(
            id="haskell",
            stack_name="Haskell",
            suffixes=(".hs", ".hs-boot", ".hsc"),
            interpreters=("runhaskell", "runghc", "stack"),
            line_comment="--",
            block_comment=("{-", "-}"),
            multipl_e="hs",
            stop_tokens=("\n\n", "\n{-", "\ntype", "\ndata", "\nnewtype"),
        ),
        Language(
            id="html",
            stack_name="HTML",
            suffixes=(".html", ".htm", ".xhtml"),
            block_comment=_MARKUP_BLOCK,
        ),
        Language(
            id="java",
            stack_name="Java",
            suffixes=(".java",),
            interpreters=("java",),
            line_comment="//",
            block_comment=_C_BLOCK,
            multipl_e="java",
            stop_tokens=("\n    }\n",),
        ),
        Language(
            id="javascript",
            stack_name="JavaScript",
            suffixes=(".js", ".mjs", ".cjs", ".jsx"),
            file_names=("jakefile",),
            interpreters=("node", "nodejs", "bun", "deno"),
            line_comment="//",
            block_comment=_C_BLOCK,
            multipl_e="js",
            stop_tokens=("\nfunction ", "\n/*", "\n//", "\nconsole.log"),
        ),
        Language(
            id="julia",
            stack_name="Julia",
            suffixes=(".jl",),
            interpreters=("julia",),
            line_comment="#",
            block_comment=("#=", "=#"),
            multipl_e="jl",
            stop_tokens=("\nfunction", "\nmacro", "\n\n"),
        ),
        Language(
            id="lua",
            stack_name="Lua",
            suffixes=(".lua", ".rockspec", ".wlua"),
            interpreters=("lua", "luajit", "texlua"),
            line_comment="--",
            block_comment=("--[[", "]]"),
            multipl_e="lua",
            stop_tokens=("\nlocal", "\nfunction", "\n--", "\n\n"),
        ),
        Language(
            id="makefile",
            stack_name="Makefile",
            suffixes=(".mk", ".mak", ".make"),
            file_names=(
                "makefile",
                "gnumakefile",
                "bsdmakefile",
                "makefile.am",
                "makefile.in",
                "makefile.inc",
                "kbuild",
            ),
            interpreters=("make", "gmake"),
            line_comment="#",
        ),
        Language(
            id="markdown",
            stack_name="Markdown",
            suffixes=(".md", ".markdown", ".mdown", ".mkd", ".mkdn"),
            block_comment=_MARKUP_BLOCK,
        ),
        Language(
            id="perl",
            stack_name="Perl",
            suffixes=(".pl", ".pm", ".perl", ".plx", ".pod", ".psgi"),
            file_names=("cpanfile",),
            interpreters=("perl", "cperl"),
            line_comment="#",
            multipl_e="pl",
            stop_tokens=("\nsub", "\n#", "\n\n"),
        ),
        Language(
            id="php",
            stack_name="PHP",
            suffixes=(".php", ".php3", ".php4", ".php5", ".phps", ".phpt", ".phtml"),
            interpreters=("php",),
            line_comment="//",
            block_comment=_C_BLOCK,
            multipl_e="php",
            stop_tokens=("\nfunction", "\n?>", "\n//", "\n#"),
        ),
        Language(
            id="powershell",
            stack_name="PowerShell",
            suffixes=(".ps1", ".psd1", ".psm1"),
            interpreters=("pwsh", "powershell"),
            line_comment="#",
            block_comment=("<#", "#>"),
        ),
        Language(
            id="python",
            stack_name="Python",
            suffixes=(".py", ".pyi", ".pyw", ".wsgi"),
            file_names=("sconstruct", "sconscript", "wscript"),
            interpreters=("python", "pypy", "uv"),
            line_comment="#",
            multipl_e="py",
            stop_tokens=("\ndef", "\n#", "\nif", "\nclass"),
        ),
        Language(
            id="ruby",
            stack_name="Ruby",
            suffixes=(".rb", ".rake", ".gemspec", ".ru", ".rbw", ".podspec"),
            file_names=(
                *("rakefile", "gemfile", "guardfile", "vagrantfile", "podfile", "capfile", "thorfile", "berksfile"),
                *("brewfile", "fastfile", "dangerfile"),
            ),
            interpreters=("ruby", "jruby", "rake"),
            line_comment="#",
            block_comment=("=begin", "=end"),
            multipl_e="rb",
            stop_tokens=("\nclass", "\ndef", "\n#", "\n\n"),
        ),
        Language(
            id="rust",
            stack_name="Rust",
            suffixes=(".rs",),
            interpreters=("rust-script",),
            line_comment="//",
            block_comment=_C_BLOCK,
            multipl_e="rs",
            stop_tokens=("\n}",),
        ),
        Language(
            id="scala",
            stack_name="Scala",
            suffixes=(".scala", ".sbt"),
            interpreters=("scala", "amm"),
            line_comment="//",
            block_comment=_C_BLOCK,
            multipl_e="scala",
            stop_tokens=("\n    }\n",),
        ),
        Language(
            id="shell",
            stack_name="Shell",
            suffixes=(".sh", ".bash", ".zsh", ".ksh", ".command", ".bats"),
            file_names=(
                *(".bashrc", ".bash_profile", ".bash_aliases", ".bash_logout", ".profile", ".zshrc", ".zshenv"),
                *(".zprofile", ".envrc", "pkgbuild", "apkbuild"),
            ),
            interpreters=("sh", "bash", "zsh", "ksh", "mksh", "dash", "ash", "bats"),
            line_comment="#",
            multipl_e="sh",
            stop_tokens=("\n}",),
        ),
        Language(
            id="sql",
            stack_name="SQL",
            suffixes=(".sql",),
            line_comment="--",
            block_comment=_C_BLOCK,
        ),
        Language(
            id="tex",
            stack_name="TeX",
            suffixes=(".tex", ".sty", ".cls", ".ltx", ".dtx"),
            line_comment="%",
        ),
        Language(
            id="typescript",
            stack_name="TypeScript",
            aliases=("TSX",),
            suffixes=(".ts", ".tsx", ".mts", ".cts"),
            interpreters=("ts-node", "tsx"),
            line_comment="//",
            block_comment=_C_BLOCK,
            multipl_e="ts",
            stop_tokens=("\nfunction ", "\n/*", "\n//", "\nclass"),
        ),
        Language(
            id="visual-basic",
            stack_name="Visual Basic",
            aliases=("Visual Basic .NET", "Visual Basic 6.0", "VBA", "VBScript"),
            suffixes=(".vb", ".bas", ".frm", ".vba", ".vbs"),
            line_comment="'",
        ),
    )
}

MEASURED_ONLY: dict[str, Language] = {
    language.id: language
    for language in (
        Language(
            id="d",
            stack_name="D",
            suffixes=(".d",),
            line_comment="//",
            block_comment=_C_BLOCK,
            multipl_e="d",
            stop_tokens=("\n\n", "\nvoid", "\nbool", "\nint"),
        ),
        Language(
            id="r",
            stack_name="R",
            suffixes=(".r",),
            interpreters=("rscript",),
            line_comment="#",
            multipl_e="r",
            stop_tokens=("\n#", "\n```"),
        ),
        Language(
            id="racket",
            stack_name="Racket",
            suffixes=(".rkt",),
            interpreters=("racket",),
            line_comment=";",
            block_comment=("#|", "|#"),
            multipl_e="rkt",
            stop_tokens=("\n(define ", "\n#|", "\n;", "\n("),
        ),
        Language(
            id="swift",
            stack_name="Swift",
            suffixes=(".swift",),
            interpreters=("swift",),
            line_comment="//",
            block_comment=_C_BLOCK,
            multipl_e="swift",
            stop_tokens=("\n}",),
        ),
    )
}

_BY_NAME = {
    name: language
    for language in (*LANGUAGES.values(), *MEASURED_ONLY.values())
    for name in (language.id, language.stack_name, *language.aliases, language.multipl_e)
    if name
}
_BY_SUFFIX = {suffix: language for language in LANGUAGES.values() for suffix in language.suffixes}
_BY_FILE_NAME = {name: language for language in LANGUAGES.values() for name in language.file_names}


def language(name: str) -> Language:
    """The language called `name` by us, by The Stack (v1 or v2) or by MultiPL-E. Raises ConfigError for any other."""
    found = _BY_NAME.get(name)
    if found is None:
        raise ConfigError("unknown language", seen=name, allowed=", ".join((*LANGUAGES, *MEASURED_ONLY)))
    return found


def language_of_path(path: str | PurePath) -> Language | None:
    """The language of a file by its name or suffix alone, or None where they tell nothing; never of MEASURED_ONLY.

    A suffix that languages share stands for its commonest use, so `.h` for C++.
    """
    name = str(path).rpartition("/")[2].lower()
    dot = name.rfind(".")
    return _BY_FILE_NAME.get(name) or (_BY_SUFFIX.get(name[dot:]) if dot > 0 else None)
