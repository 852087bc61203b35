"""Says which language a file is in: by its name, its `#!` line or an editor's mode line, and by its content.

Goes in: a path and the file's text. Comes out: a `Detection`, with what is doubtful about it in words. Knows nothing of
where files come from or what becomes of them.

Most suffixes belong to one language and cost a look at the file's first characters; the table `_SHARED` has the others,
each with the signs that tell its languages apart, the first sign found deciding. Learnt classifiers (magika) agree with
the suffix on 98% of files, need a heavy runtime, and do some 50 files a second: too slow to look at every file.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from codechoir.languages import LANGUAGES, Language, language_of_path

_HEAD = 2048  # characters that tell a file's kind, where the suffix tells its language
_BODY = 64 * 1024  # characters that are searched for signs


@dataclass(frozen=True, slots=True)
class Detection:
    """What language a file is in, None where it is none of the table's.

    `doubt` is empty where name and content agree; else it says what is unclear, or what the file is instead.
    """

    language: Language | None
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class _Sign:
    """What only one language has: any of the patterns. `language` is an id, or the name of one outside the table."""

    language: str
    patterns: tuple[re.Pattern[str], ...]

    def is_in(self, lines: str) -> bool:
        """Whether it is there. `lines` begins with a newline, so that every line has one before it."""
        return any(pattern.search(lines) for pattern in self.patterns)


@dataclass(frozen=True, slots=True)
class _Shared:
    """A suffix of several languages: the first sign found decides; where there is none, `default` or the table's."""

    signs: tuple[_Sign, ...]
    default: str = ""  # an id
    is_usual: bool = False  # the default is so much the commonest that it needs no sign
    has_c_comments: bool = False  # which are passed over

    @property
    def languages(self) -> list[str]:
        """Those that have a sign, as it has them."""
        return list(dict.fromkeys(sign.language for sign in self.signs))


def _sign(language: str, *patterns: str, any_case: bool = False) -> _Sign:
    """A sign by regular expressions; one that begins with `^` is for a line's beginning, after blanks."""
    # A pattern with a literal first is searched many times faster: so each is for itself, and `^` becomes a newline.
    flags = re.MULTILINE | (re.IGNORECASE if any_case else 0)
    anchored = [r"\n[ \t]*" + pattern[1:] if pattern.startswith("^") else pattern for pattern in patterns]
    return _Sign(language, tuple(re.compile(pattern, flags) for pattern in anchored))


_OBJECTIVE_C = _sign(
    "Objective-C",
    r"^@(?:interface|protocol|class|property|end|implementation|import)\b",
    r"^#[ \t]*import\b",
    r"NS_(?:ASSUME_NONNULL|ENUM|OPTIONS)",
)
_CPP = _sign(
    "cpp",
    r"^(?:template[ \t]*<|(?:inline[ \t]+)?namespace\b|using[ \t]+\w|class[ \t]+[^;(){}=]{0,200}[;{]|enum[ \t]+class)",
    r"^(?:(?:public|private|protected)(?:[ \t]+\w+)?[ \t]*:|(?:virtual|explicit|friend|constexpr|typename)\b)",
    r"^#[ \t]*include[ \t]*(?:<\w+>|[<\"][\w./+-]+\.(?:hpp|hh|hxx|h\+\+|ipp)[>\"])",
    *(
        r"::~?\w",
        r"operator[ \t]*[-+*/%=<>!&|^~(\[]",
        "nullptr",
        "noexcept",
        r"[\s(,<]decltype\(",
        r"const[ \t]+\w+[ \t]*&[ \t]*\w",
    ),
    r"_cast[ \t]*<",
)
_C = _sign(
    "c",
    *("__cplusplus", "__BEGIN_DECLS", "G_BEGIN_DECLS", "EXTERN_C", r"extern[ \t]+\"C\"", r"\(void\)", "_Bool"),
    r"^(?:typedef|extern|static[ \t]+inline)\b",
    r"^(?:struct|union|enum)[ \t]+\w+[ \t\n]*\{",
    r"^#[ \t]*include[ \t]*<(?:std(?:io|lib|int|def|bool|arg)|string|errno|unistd|sys/\w+|linux/[\w/]+)\.h>",
    *(r"struct[ \t]+\w+[ \t]*\*", r"restrict\b"),
)
_PERL = _sign(
    "perl",
    r"^(?:use|no)[ \t]+(?:strict|warnings|utf8|lib|vars|base|parent|constant|v?5[.\d]*|[A-Z]\w*(?:::\w+)*)\b",
    r"^(?:package[ \t]+[\w:]+[ \t]*[;{]|sub[ \t]+\w+|(?:my|our|local)[ \t]*[\s($@%])",
    r"^(?:=(?:pod|head[1-4]|cut|encoding|over|item)\b|__(?:END|DATA)__$|BEGIN[ \t]*\{)",
)
_SIGILS = _sign("perl", r"[$@%]\w+[ \t]*(?:=|\[|\{|->|\)|;)", "=~")
_RAKU = _sign(
    "Raku", r"^(?:use[ \t]+v6|unit[ \t]+(?:module|class|role)|(?:multi|proto)[ \t]+(?:sub|method)|grammar[ \t]\w)"
)
_PROLOG = _sign(
    "Prolog", r"\n(?::-|\?-)", r"\n[a-z]\w*(?:\([^()\n]*(?:\([^()\n]*\)[^()\n]*)*\))?[ \t]*(?::-|-->|\.[ \t]*$)"
)
_FORTH = _sign("Forth", r"\n(?:: \S+(?:\s|$)|\\ |\( )")
_FORTRAN = _sign(
    "fortran",
    r"\n(?:[ \t]*\d+)?[ \t]*(?:program|subroutine|module|implicit|dimension|common|parameter|end|call|contains)\b",
    r"^(?:(?:real|integer|complex|logical|double[ \t]precision|character)\b|(?:pure|elemental|recursive)[ \t])",
    r"\n[c*!][ \t*c-]",
    any_case=True,
)
_ASSEMBLY = _sign(
    "assembly",
    r"^[.%]?(?:text|data|bss|rodata|globa?l|extern|section|segment|org|align|p2align|macro|equ|proc|model)\b",
    r"^\.(?:code|byte|word|long|quad|ascii|asciz|string|set|type|size|file|include|stack|cfi_\w+)\b",
    r"\n(?:[\w.$@?]+:)?[ \t]+(?:mov|lea|push|pop|add|sub|xor|and|or|cmp|jmp|j[a-z]{1,2}|call|ret|int|nop)[a-z]{0,2}\b",
    r"\n(?:[\w.$@?]+:)?[ \t]+(?:ld[axypr]?|st[axypr]?|lw|sw|jsr|rts|bl|bx|b|bne|beq|li|la|jal|j|jr|djnz)[ \t\n]",
    r"^(?:\w+:?[ \t]+)?(?:equ|db|dw|dd|dq|resb|resd)[ \t]",
    any_case=True,
)
_VISUAL_BASIC = _sign(
    "visual-basic",
    r"^(?:Attribute[ \t]+VB_|VERSION[ \t]+[\d.]+(?:[ \t]+CLASS)?[ \t\r]*$|Option[ \t]+(?:Explicit|Base|Compare)\b)",
    r"^(?:(?:Public|Private|Friend)[ \t]+)?(?:Sub|Function|Property[ \t]+(?:Get|Let|Set))[ \t]+\w+",
    r"^(?:On[ \t]+Error[ \t]+(?:Resume|GoTo)|MsgBox|Debug\.Print)\b",
    any_case=True,
)
_HTML = _sign("html", r"^<(?:!doctype|html|head|body|div|table|form|script|style|p|a|ul|h\d|!--)\b", any_case=True)

_SHARED: dict[str, _Shared] = {
    ".h": _Shared((_OBJECTIVE_C, _CPP, _C), has_c_comments=True),
    ".C": _Shared((_CPP, _C), default="cpp", has_c_comments=True),
    ".pl": _Shared((_RAKU, _PERL, _PROLOG, _SIGILS)),
    ".pm": _Shared((_sign("XPM", r"\A\n/\* XPM \*/"), _RAKU, _PERL, _SIGILS)),
    ".t": _Shared((_RAKU, _PERL, _sign("Roff", r"\n['.]\\\""), _sign("Cram", r"\n  \$ "), _SIGILS)),
    ".inc": _Shared(
        (
            *(_sign("php", r"<\?(?:php|=|\s)"), _HTML),
            _sign("Pascal", r"^(?:\{\$|procedure\b|function\b.*;$)"),
            _sign("makefile", r"\n[\w.-]+[ \t]*[:?+]?=.*\$[({]", r"\n(?:ifdef|ifeq|endif|\.PHONY)\b"),
            *(_CPP, _sign("c", r"^#(?:include|define|ifn?def|undef)\b", r"^(?:static|extern|typedef)\b")),
            *(_ASSEMBLY, _FORTRAN),
        ),
        has_c_comments=True,
    ),
    ".cls": _Shared(
        (
            _sign(
                "tex", r"^\\(?:NeedsTeXFormat|Provides\w*Class|LoadClass|RequirePackage|newcommand|[gex]?def)\b", r"\n%"
            ),
            _VISUAL_BASIC,
            _sign(
                "Apex",
                r"^(?:global|public|private)[ \t]+(?:(?:with|without|inherited)[ \t]+sharing|virtual|abstract)\b",
                r"^(?:(?:global|public|private)[ \t]+(?:class|interface|enum)|@isTest)\b",
                any_case=True,
            ),
            _sign("ObjectScript", r"\nClass[ \t]+[\w.%]+"),
        )
    ),
    ".bas": _Shared(
        (
            _sign("FreeBASIC", r"^#(?:include|define|ifdef|ifndef|lang|inclib)\b", any_case=True),
            _sign("BASIC", r"^\d+[ \t]+[A-Za-z]", r"^(?:DECLARE[ \t]+(?:SUB|FUNCTION)|SCREEN[ \t]+\d|CLS$)"),
            _VISUAL_BASIC,
        )
    ),
    ".frm": _Shared((_VISUAL_BASIC, _sign("FORM", r"^(?:Symbols?|Local|id|\.sort|\.end|#procedure)\b"))),
    ".f": _Shared((_FORTH, _FORTRAN)),
    ".for": _Shared((_FORTH, _FORTRAN)),
    ".s": _Shared((_ASSEMBLY,)),
    ".asm": _Shared((_ASSEMBLY,)),
    ".cs": _Shared(
        (_sign("Smalltalk", r"![\w ]+methodsFor: ", r"\n'From .*Squeak", r"\nObject subclass: #"),), is_usual=True
    ),
    ".md": _Shared(
        (_sign("GCC machine description", r"\n\(define_(?:insn|expand|attr|split|c?enum|mode)"),), is_usual=True
    ),
    ".jl": _Shared((_sign("Lisp", r"\A\s*(?:;;|\(def)"),), is_usual=True),
    ".cmd": _Shared((_sign("Rexx", r"\A\s*/\*"),), is_usual=True),
    ".rs": _Shared((_sign("RenderScript", r"\n#pragma[ \t]+(?:version|rs)\b"),), is_usual=True),
    ".sql": _Shared(
        (
            _sign(
                "sql",
                r"\b(?:select|insert|create|update|delete|alter|drop|grant|revoke|set|begin|declare|use|with|merge)\b",
                r"\b(?:call|exec(?:ute)?|truncate|replace|comment[ \t]+on|explain|pragma|vacuum|analyze)\b",
                r"\n(?:\\\w|@)",
                any_case=True,
            ),
        )
    ),
}

_NAMED_AFTER = {  # what comes before the first dot in names like Dockerfile.test
    "dockerfile": _sign("dockerfile", r"^(?:FROM|ARG)[ \t]+\S", any_case=True),
    "containerfile": _sign("dockerfile", r"^(?:FROM|ARG)[ \t]+\S", any_case=True),
    "makefile": _sign("makefile", r"\n[^\s#:=][^:=\n]*:(?!=)", r"^\w+[ \t]*[:?+]?="),
}
_SCRIPTS = (".cgi", ".fcgi")  # suffixes that say how a file is run, not in which language it is

_C_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)|//[^\n]*", re.DOTALL)
_FOR_CPP = re.compile(r"(\n[ \t]*#[ \t]*if.*__cplusplus.*)(?:\n.*)*?(?:\n[ \t]*#[ \t]*(?:else|elif|endif)|\Z)")
_JSON = re.compile(r"[\[{]\s*(?:[\"\[\]{}]|-?\d|true\b|false\b|null\b)")
_TEMPLATE = re.compile(r"\{%-?[ \t]*\w|\{\{|<\?(?:php|=)|<%")
_TEMPLATES = {"{%": "Jinja or Django", "{{": "Mustache or Angular", "<?": "PHP", "<%": "ERB, EJS or ASP"}
_TAG = re.compile(r"<[a-zA-Z!/?][^<]*>")
_PHP_PART = re.compile(r"<\?(?:php|=|\s).*?(?:\?>|\Z)", re.DOTALL)
_MOSTLY = 0.2  # share of PHP below which a PHP file is mostly something else
_MARKUP = ("html", "php", "markdown")  # files of these may begin with a tag

_EMACS = re.compile(r"-\*-([^\n]*?)-\*-")
_EMACS_MODE = re.compile(r"\bmode:[ \t]*([^\s;]+)", re.IGNORECASE)
_VIM = re.compile(r"\bvim?:[^\n]*?\b(?:ft|filetype)=([\w+#-]+)")
_EXEC = re.compile(r"^[^#\n]*\bexec[ \t]+(?:\S*/)?([\w.+-]+)[^\n]*\$\{?0", re.MULTILINE)
_INTERPRETERS = {name: entry.id for entry in LANGUAGES.values() for name in entry.interpreters}
_MODES = {
    name.lower(): entry.id for entry in LANGUAGES.values() for name in (entry.id, entry.stack_name)
} | _INTERPRETERS
_MODES |= {
    mode: language
    for language, modes in {
        "assembly": "asm nasm gas masm",
        "batchfile": "dosbatch",
        "csharp": "cs",
        "fortran": "f90",
        "javascript": "js js2 javascriptreact",
        "makefile": "makefile-gmake makefile-automake",
        "powershell": "ps1",
        "shell": "shell-script",
        "tex": "latex plaintex",
        "typescript": "ts typescriptreact",
        "visual-basic": "vb",
        "Forth": "forth",
        "Lisp": "lisp",
        "Objective-C": "objc",
        "Prolog": "prolog",
        "Raku": "raku perl6",
        "Roff": "nroff",
        "Tcl": "tcl",
    }.items()
    for mode in modes.split()
}


def detect(path: str, content: str) -> Detection:
    """The language of a file; `path` is used for its last part only."""
    name = path.rpartition("/")[2]
    suffix = _suffix(name)
    named = language_of_path(name)
    label = f"suffix {suffix}" if suffix else f"name {name}"
    head = content[:_HEAD]
    if "\0" in head:
        return Detection(None, f"{label}: holds NUL characters")
    if head.startswith("version https://git-lfs.github.com/spec/"):
        return Detection(None, f"{label}: a Git LFS pointer")
    shared = _SHARED.get(suffix)
    if named is None and shared is None:
        return _unnamed(name, suffix, content)
    other = _other_format(named.id if named else "", head, content)
    if other and not (shared and other in shared.languages):
        return Detection(LANGUAGES.get(other), f"{label}, but {_called(other)}")
    if shared:
        return _by_signs(shared, named, label, content)
    assert named is not None
    return _by_interpreter(named, label, content) or Detection(named, _doubt(named, label, content))


def candidates(path: str) -> frozenset[Language]:
    """The languages for which a file of this name is worth reading: what `detect` may find there, by its name."""
    name = path.rpartition("/")[2]
    suffix = _suffix(name)
    named = language_of_path(name)
    if shared := _SHARED.get(suffix):
        return frozenset(LANGUAGES[id] for id in _expected(shared, named) if id in LANGUAGES)
    if named:
        return frozenset({named})
    if "." not in name or suffix in _SCRIPTS:
        return frozenset(LANGUAGES.values())
    after = _NAMED_AFTER.get(name.partition(".")[0].lower())
    return frozenset({LANGUAGES[after.language]} if after else ())


def _suffix(name: str) -> str:
    dot = name.rfind(".")
    suffix = name[dot:] if dot > 0 else ""
    return suffix if suffix in _SHARED else suffix.lower()


def _called(language: str) -> str:
    return LANGUAGES[language].stack_name if language in LANGUAGES else language


def _expected(shared: _Shared, named: Language | None) -> set[str]:
    return {*shared.languages, shared.default, named.id if named else ""}


def _unnamed(name: str, suffix: str, content: str) -> Detection:
    """A file whose name says nothing: by its `#!` or mode line, or as a variant of a known name."""
    if not suffix or suffix in _SCRIPTS:
        return Detection(LANGUAGES.get(_declared(content)))
    after = _NAMED_AFTER.get(name.partition(".")[0].lower())
    if after and after.is_in("\n" + content[:_BODY]):
        return Detection(LANGUAGES[after.language])
    return Detection(None)


def _by_signs(shared: _Shared, named: Language | None, label: str, content: str) -> Detection:
    """A file whose suffix is shared: by what it says of itself, else by the first sign of a language."""
    found = _declared(content)
    if found and found not in _expected(shared, named):
        return Detection(LANGUAGES.get(found), f"{label}, but it says {_called(found)}")
    text = "\n" + content[:_BODY]
    if shared.has_c_comments and not found:
        text = _C_COMMENT.sub(" ", text)
        if "__cplusplus" in text:  # what only C++ compilers see says nothing: it stands in headers of both
            text = _FOR_CPP.sub(r"\1", text)
    found = found or next((sign.language for sign in shared.signs if sign.is_in(text)), "")
    if found:
        return Detection(LANGUAGES.get(found), "" if found in LANGUAGES else f"{label}: {found}")
    *others, last = map(_called, shared.languages)
    doubt = f"{label}: no sign of {', '.join(others)}{' or ' if others else ''}{last}"
    return Detection(LANGUAGES.get(shared.default, named), "" if shared.is_usual else doubt)


def _other_format(named: str, head: str, content: str) -> str:
    """What a file begins as, where no file of its language does: an id, XML or JSON; empty where all is well."""
    start = head.lstrip()
    tag = start[:64].lower()
    if tag.startswith(("<?xml", "<svg", "<!doctype", "<html")):
        is_page = "<html" in head.lower() or tag.startswith("<!doctype html")
        if named in _MARKUP:
            return "XML" if named == "html" and not is_page else ""
        return "html" if is_page else "XML"
    if named in _MARKUP:
        return ""
    if tag.startswith("<?php"):
        return "php"
    if _JSON.match(start):
        try:
            json.loads(content)
        except (ValueError, RecursionError):
            return ""
        return "JSON"
    return ""


def _by_interpreter(named: Language, label: str, content: str) -> Detection | None:
    """Where the `#!` line contradicts the name. Shells are no contradiction: scripts in many languages start as one."""
    interpreter = _interpreter(content)
    language = _INTERPRETERS.get(interpreter, "")
    if not interpreter or language in (named.id, "shell") or {language, named.id} == {"javascript", "typescript"}:
        return None
    return Detection(LANGUAGES.get(language, named), f"{label}, but #! names {interpreter}")


def _declared(content: str) -> str:
    """What a file says of itself, in its `#!` line or for an editor: an id or another language's name, or empty."""
    interpreter = _interpreter(content)
    if interpreter and (interpreter not in _INTERPRETERS or _INTERPRETERS[interpreter] != "shell"):
        return _INTERPRETERS.get(interpreter, interpreter)
    if mode := _mode(content):
        return mode
    return "shell" if interpreter else ""


def _mode(content: str) -> str:
    """The language of Emacs' or Vim's mode line, at the beginning or (Vim's) the end of a file; empty where unknown."""
    modes = [match[1] for part in (content[:500], content[-300:]) for match in _VIM.finditer(part)]
    if found := _EMACS.search(content[:500]):
        mode = _EMACS_MODE.search(found[1])
        modes.append(mode[1] if mode else found[1].strip())
    return next((_MODES[mode.lower()] for mode in modes if mode.lower() in _MODES), "")


def _interpreter(content: str) -> str:
    """The program that a `#!` line names, without folders and version; empty where there is no such line."""
    if not content.startswith("#!") or content.startswith("#!["):  # an attribute of Rust
        return ""
    words = [word.rpartition("/")[2] for word in content[2:_HEAD].partition("\n")[0].split()]
    if words and words[0] == "env":
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    name = re.sub(r"[-.\d]+$", "", words[0]) if words else ""
    if _INTERPRETERS.get(name) == "shell" and (hidden := _EXEC.search(content[:_HEAD])):
        name = re.sub(r"[-.\d]+$", "", hidden[1])  # a shell that hands the file on
    return name


def _doubt(named: Language, label: str, content: str) -> str:
    """What is unclear about a file whose language is not."""
    if named.id == "html":
        if not _TAG.search(content):
            return f"{label}: holds no tag"
        if template := _TEMPLATE.search(content):
            return f"{label}: a template ({_TEMPLATES[template[0][:2]]})"
    if named.id == "php":
        num_php = sum(len(part[0]) for part in _PHP_PART.finditer(content))
        if num_php < _MOSTLY * len(content):
            return f"{label}: mostly HTML or text, {num_php / len(content):.0%} PHP"
    return ""
