"""Files that a program wrote: told by name, by the marker in their head, or by their shape.

Owns the tables of generators. Goes in: one file. Comes out: the kind and the evidence, or None. Knows no thresholds.

A marker counts where the file speaks of itself: in the leading run of comments (followed over licences, HEADER_LINES at
most) or in a comment of the first lines; never within a string, where a generator keeps its template, and not where a
sentence merely runs over the line's end. A shape is what only a generator writes, at the place where it writes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from codechoir.data.files.rejection import FileText

FIRST_LINES = 5  # always searched for a marker in a comment
HEADER_LINES = 100  # how far a leading run of comments is followed, so that a licence above hides no marker
DOCSTRING_LINES = 20  # the same in a docstring, which further down may explain a generator by what it writes
HEAD = 10_000  # characters in which those lines are looked for
LONG_LINE = 500  # characters; minified code has such lines and hardly a blank in them
LEAST_MEAN = 50  # characters in the mean line of a file that is looked at for such lines; ordinary code has about 30
MINIFIED_MEAN = 110  # characters in the mean line without comments (Linguist)
MINIFIED_BLANKS = 0.08  # share of blanks in minified code; of ordinary code it is 0.2 to 0.4


@dataclass(frozen=True, slots=True)
class Generated:
    """What wrote a file, and how that shows."""

    kind: str
    evidence: str


_COMMENT = re.compile(
    r"""\s*(?:\#|//|/\*|\*|--|<!--|;|%|!|'|\{-|\(\*|<\#|=begin\b|=pod\b|@?rem\b|dnl\b|\"\"\"|[ruRU]?'''|\.\.\s)""",
    re.IGNORECASE | re.VERBOSE,
)
_BLOCKS = (
    ("/*", "*/"),
    ('"""', '"""'),
    ("'''", "'''"),
    ("<!--", "-->"),
    ("{-", "-}"),
    ("=begin", "=end"),
    ("<#", "#>"),
)
_STRINGS = ('"""', "'''", "`")
_LATER_COMMENT = re.compile(r"//|/\*|#|--|<!--|;")

_AUTO = r"(?:(?:auto|automatically|machine)[- ]?generated|generated[ ]automatically)"
_NOUN = (
    r"(?:files?|codes?|class(?:es)?|modules?|sources?|headers?|parsers?|lexers?|scanners?|bindings?|scripts?|makefile)"
)
_MARKER = re.compile(
    rf"""
    ^(?:\W|coding:\s*\S+|note:|warning:|attention:|important:|please\s)*
      (?:{_AUTO}(?=\s*(?:$|[^\w\s]|\s(?:by|from|with|using|on|at|via|for)\b|\s(?:\w+\s)?files?\b
                      |\s(?:\w+\s)?{_NOUN}\s*(?:$|[^\w\s]|\sdo\b)))
      | {_NOUN}\s(?:{_AUTO}|generated)\s(?:by|from|with|using)\b
      | @generated\b(?!\s*\()
      | generated[ ](?:by|from|with|using)\b
      | do[ ]not[ ](?:edit|modify)\b.*\bgenerated\b
      | (?:the[ ]following[ ])?code[ ]generated\b.*\bdo[ ]not[ ]edit
      | generated[ ]code\b.*\bdo[ ]not[ ](?:edit|modify))
    | <auto-?generated\b
    | ^[^"'`]*\bgenerated[ ](?:by|from|with|using)\b.*\bdo[ ]not[ ](?:edit|modify)
    | \b(?:this|these|following)\b[^.]{{0,30}}\b{_NOUN}(?:\s+[-'"\w./()]+)?\s+
      (?:is|was|were|are|(?:has|have)\s+been)(?:\s+\(?\w+\)?)?\s+
      (?:{_AUTO}|(?:auto)?generated\s+(?:by|from|with|using)\b)
    | \bthis\s+(?:is\s+an?|file\s+contains)\s+(?:{_AUTO}|generated\s+(?:\w+\s+)?{_NOUN})\b
    """,
    re.IGNORECASE | re.VERBOSE,
)
_RUNS_ON = re.compile(
    r"[^\w@]*(?:auto|automatically|machine)?[- ]?generated\b"
)  # lower case: may be a sentence running on
_DIRECTIVE = re.compile(r"\s*#\s*(?:pragma|ifn?def|if|else|endif|define|include|undef)\b")

# How generators name themselves: within a marker's line, the one above or the three below
_MAKERS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        ("grpc", r"\bgrpc\b|protoc-gen-go-grpc|protoc-gen-grpc"),
        ("protobuf", r"protocol buffer|\bprotoc\b|protoc-gen|\bprotobuf"),
        ("thrift", r"\bthrift\b"),
        ("cython", r"\bcython\b"),
        ("flex", r"\bflex\b"),
        ("jflex", r"\bjflex\b"),
        ("bison", r"\bbison\b|\bgoyacc\b|\byacc\b"),
        ("qt-uic", r"reading ui file|user interface compiler|pyuic|PyQt\d UI"),
        ("qt-moc", r"meta object"),
        ("qt-rcc", r"resource compiler"),
        ("openapi", r"swagger|openapi"),
        ("antlr", r"\bantlr"),
        ("swig", r"\bswig\b"),
        ("django-migration", r"\bby django\b"),
        ("relay", r"signedsource|relay|graphql"),
        ("peg", r"\bpeg\.?js\b|\bpeggy\b"),
        ("parser-tables", r"parsetab|lextab|\bracc\b|tree-sitter|\bjison\b|\bnearley\b|javacc|\blemon\b"),
        ("haxe", r"\bhaxe\b"),
        ("coffeescript", r"coffee-?script|livescript"),
        ("autotools", r"autoconf|automake|aclocal|autoheader|config(?:ure|\.status)\b|libtool"),
        ("cmake", r"\bcmake\b|unix makefiles"),
        ("flatbuffers", r"flatbuffers"),
        ("avro", r"\bavro\b"),
        ("jaxb", r"\bjaxb\b|xml binding|\bwsdl"),
        ("bindgen", r"bindgen"),
        ("doxygen", r"doxygen|javadoc|\bsphinx\b"),
        ("go", r"^\W*code generated .* do not edit"),
    )
)

# Markers in words of their own, line by line in the head
_SELF_NAMED: tuple[tuple[str, str, re.Pattern[str]], ...] = tuple(
    (kind, needle, re.compile(pattern, re.IGNORECASE))
    for kind, needle, pattern in (
        ("bison", "bison", r"^\W*a bison parser, made (?:by gnu bison|from)"),
        ("bison", "bison", r"^\W*bison (?:interface|implementation) for yacc-like parsers"),
        ("flex", "lexical", r"^\W*a lexical scanner generated by flex"),
        ("qt-moc", "meta object code", r"^\W*meta object code from reading c\+\+ file"),
        ("qt-uic", "generated from reading ui", r"^\W*form (?:implementation )?generated from reading ui file"),
        ("qt-rcc", "resource object code", r"^\W*resource object code\W*$"),
        ("antlr", "$antlr", r"^\W*\$antlr [\d.]+"),
        ("autotools", "generated from", r"generated from \S+ by (?:autoheader|configure|config\.status)"),
        ("autotools", "automake", r"^\W*makefile\.in generated by automake"),
        ("autotools", "libtool", r"^\W*libtool \(gnu libtool\)|^\W*generated automatically by .*libtool"),
        ("f2c", "translated by", r"translated by f2c \(version"),
        ("midl", "midl", r"file created by midl compiler"),
        ("sql-dump", "dump", r"^\W*(?:mysql|mariadb) dump \d|^\W*postgresql database dump|^\W*phpmyadmin sql dump"),
        ("relay", "@relayhash", r"^\W*@relayhash\b"),
        ("jupyter", "jupytext", r"^\#\s+jupytext:\s*$"),
        ("jupyter", "databricks", r"^\W*databricks notebook source\s*$"),
        ("glad", "generated by glad", r"loader generated by glad"),
        ("docstrip", "docstrip", r"generated with the docstrip utility"),
        ("vala", "valac", r"generated by valac"),
    )
)

_SCRIPT = frozenset({"javascript", "typescript"})
_C = frozenset({"c", "cpp"})

# What only a generator writes: languages, a substring that every such file has, and the pattern, anywhere in the file
_SHAPES: tuple[tuple[str, frozenset[str], str, re.Pattern[str]], ...] = tuple(
    (kind, languages, needle, re.compile(pattern, re.MULTILINE))
    for kind, languages, needle, pattern in (
        ("protobuf", frozenset({"python"}), "DESCRIPTOR = _descriptor", r"^DESCRIPTOR = _descriptor(?:_pool\.|\.File)"),
        ("protobuf", frozenset({"go"}), "protoimpl.EnforceVersion(", r"^\s+_ = protoimpl\.EnforceVersion\(20 - "),
        (
            "protobuf",
            frozenset({"go"}),
            "proto.RegisterType(",
            r"^\tproto\.RegisterType\(\(\*\w+\)\(nil\), \"",
        ),
        (
            "protobuf",
            frozenset({"java"}),
            "internal_static_",
            r"^\s+internal_static_\w+_(?:descriptor|fieldAccessorTable);$",
        ),
        ("protobuf", _C, "PROTOBUF_VERSION", r"^#(?:el)?if (?:GOOGLE_)?PROTOBUF_VERSION (?:<|!=) \d"),
        ("protobuf", _SCRIPT, "jspb.Message", r"^goog\.exportSymbol\('proto\."),
        (
            "grpc",
            frozenset({"java"}),
            "by gRPC proto compiler",
            r"^\s+value = \"by gRPC proto compiler|^@.*Generated\(\s*value = \"by gRPC",
        ),
        ("cython", _C, "BEGIN: Cython Metadata", r"^/\* BEGIN: Cython Metadata"),
        ("bison", _C, "YYB", r"^#define YYBISON \d|^#define YYBYACC \d"),
        ("flex", _C, "FLEX_SCANNER", r"^#define\s+FLEX_SCANNER\s*$"),
        ("qt-moc", _C, "Q_MOC_OUTPUT_REVISION", r"^#(?:el)?if .*\bQ_MOC_OUTPUT_REVISION != \d"),
        (
            "parser-tables",
            _C,
            "STATE_COUNT",
            r"^#define STATE_COUNT \d+\n#define LARGE_STATE_COUNT|^#define LANGUAGE_VERSION \d+\n#define STATE_COUNT",
        ),
        ("parser-tables", frozenset({"python"}), "_lr_action_items", r"^_lr_action_items\s*=\s*\{'"),
        ("parser-tables", frozenset({"python"}), "_lexstatere", r"^_lexstatere\s*=\s*\{'"),
        ("parser-tables", frozenset({"ruby"}), "racc_action_table", r"^racc_action_table = \["),
        ("swig", _C, "SWIG", r"^#define SWIG(?:PYTHON|JAVA|RUBY|PERL|LUA|CSHARP|PHP|TCL|R|GO|JAVASCRIPT|OCTAVE)\s*$"),
        (
            "jupyter",
            frozenset({"python", "julia"}),
            "# In[",
            r"^# In\[[\d ]+\]:\n(?:.*\n)*?# In\[[\d ]+\]:\n"
            r"|\A(?:#.*\n)*?# (?:-\*- )?coding: utf-8.*\n(?:.*\n){0,40}?# In\[[\d ]+\]:\n",
        ),
        (
            "webpack",
            _SCRIPT,
            "webpack",
            r"^(?:return )?/\*{6}/ ?\(.*// webpackBootstrap\s*$",
        ),
        (
            "webpack",
            _SCRIPT,
            "webpack",
            r"^\(?(?:self|window|global|this)\[\"webpackChunk|^\(?(?:window\.)?webpackJsonp\(?\[",
        ),
        (
            "rollup",
            _SCRIPT,
            "(global, factory)",
            r"^\(function \(global, factory\) \{\n\s*typeof exports === 'object' && typeof module !== 'undefined' \?",
        ),
        (
            "browserify",
            _SCRIPT,
            "MODULE_NOT_FOUND",
            r"^\(function(?:\(\)\{function r\(e,n,t\)| e\(t,n,r\))\{function \w\(\w,\w\)",
        ),
        ("parcel", _SCRIPT, "parcelRequire", r"^(?:\(function|parcelRequire = \(function) ?\(modules, "),
        ("esbuild", _SCRIPT, "__commonJS", r"^var __commonJS = \(cb, mod\) =>"),
        ("typescript-output", _SCRIPT, "(this && this.__", r"^var __\w+ = \(this && this\.__\w+\) \|\| "),
        (
            "babel-output",
            _SCRIPT,
            "__esModule",
            r"^function _interopRequire(?:Default|Wildcard)\(\w+(?:, \w+)?\) \{ (?:return|if) ",
        ),
    )
)

_SHAPES_OF = {
    language: [(kind, needle, pattern) for kind, languages, needle, pattern in _SHAPES if language in languages]
    for language in {language for _, languages, _, _ in _SHAPES for language in languages}
}

_NAMES = re.compile(
    r"""(?P<lock>package-lock\.json|npm-shrinkwrap\.json|yarn\.lock|pnpm-lock\.yaml|bun\.lock|cargo\.lock|go\.sum
        |poetry\.lock|pipfile\.lock|uv\.lock|pdm\.lock|gemfile\.lock|composer\.lock|podfile\.lock|mix\.lock|flake\.lock
        |deno\.lock|gopkg\.lock|pubspec\.lock)
    | (?P<minified>.*[-.]min\.(?:js|mjs|cjs|css))
    | (?P<grpc>.*(?:_pb2_grpc\.pyi?|_grpc\.pb\.go|\.grpc\.pb\.(?:h|cc)|_grpc_pb\.(?:js|d\.ts)))
    | (?P<protobuf>.*(?:_pb2\.pyi?|\.pb\.go|\.pb\.(?:h|cc|hpp|cpp)|_pb\.(?:js|rb|d\.ts)))
    | (?P<sourcemap>.*\.(?:js|mjs|cjs|css|ts)\.map)
    | (?P<notebook>.*\.ipynb) | (?P<meta>.*\.meta) | (?P<ui>.*\.ui)
    | (?P<relay>.*\.graphql\.[jt]sx?)
    """,
    re.IGNORECASE | re.VERBOSE,
)
# What must also be in the file where the name alone could be anyone's
_NAMED: dict[str, tuple[str, re.Pattern[str] | None]] = {
    "lock": ("lock-file", None),
    "minified": ("minified", None),
    "grpc": ("grpc", re.compile(r"\bgrpc\b", re.IGNORECASE)),
    "protobuf": ("protobuf", re.compile(r"proto(?:buf|impl|c\b)|\bjspb\b|descriptor", re.IGNORECASE)),
    "sourcemap": ("source-map", re.compile(r"\"mappings\"\s*:")),
    "notebook": ("jupyter", re.compile(r"\"nbformat\"\s*:|\"cells\"\s*:")),
    "meta": ("unity-meta", re.compile(r"\A\ufeff?fileFormatVersion:\s*\d")),
    "ui": ("qt-ui", re.compile(r"<ui\b[^>]*\bversion=")),
    "relay": ("relay", re.compile(r"@generated|@relayHash|ConcreteRequest|kind: \"Document\"")),
}
_SOURCE_MAP_LINE = re.compile(r"\s*(?://|/\*)[#@]\s*sourceMappingURL=\S+(?:\s*\*/)?\s*$")
_SOURCE_MAP = re.compile(r"\s*(?:\)\]\}'?\s*)?\{\s*\"version\"\s*:\s*3\s*,.*\"mappings\"\s*:", re.DOTALL)
_META_HEAD = re.compile(r"\ufeff?fileFormatVersion:\s*\d+\s*\nguid:\s*[0-9a-f]{32}")
_YAML_UNITY = re.compile(r"%YAML 1\.1\s*\n%TAG !u! tag:unity3d\.com")
_STRIPPED = re.compile(r"/\*.*?(?:\*/|\Z)|^\s*//[^\n]*", re.DOTALL | re.MULTILINE)


def generated_kind(file: FileText) -> Generated | None:
    """What wrote a file, or None where nothing shows that a program did."""
    if named := _by_name(file):
        return named
    if marker := _marker(file.content):
        return Generated(marker.kind or _maker(marker), marker.evidence)
    return _by_shape(file)


def auto_generated_marker(content: str) -> str | None:
    """The line in a file's head that says it was generated ("line 3: ..."), or None."""
    found = _marker(content)
    return found.evidence if found else None


def _by_name(file: FileText) -> Generated | None:
    name = file.path.rpartition("/")[2]
    match = _NAMES.fullmatch(name)
    if match is None:
        return None
    kind, needed = _NAMED[match.lastgroup or ""]
    if needed is not None and not needed.search(file.content):
        return None
    if kind == "minified":
        kind = "minified-css" if name.lower().endswith(".css") else "minified-js"
    return Generated(kind, f"the name {name}")


@dataclass(frozen=True, slots=True)
class _Marker:
    """A line that says that its file was generated."""

    number: int
    line: str
    around: str  # with the lines of comment about it
    kind: str | None  # where the line is one that a single generator writes

    @property
    def evidence(self) -> str:
        return f"line {self.number}: {self.line.strip()[:120]}"


def _marker(content: str) -> _Marker | None:
    text = content[:HEAD]
    lowered = text.lower()
    own = [(kind, needle, pattern) for kind, needle, pattern in _SELF_NAMED if needle in lowered]
    if not own and "generat" not in lowered:
        return None
    lines = _head(text)
    above = (0, "")
    for number, line in lines:
        low = line.lower()
        previous = above[1] if above[0] == number - 1 and not _DIRECTIVE.match(above[1]) else ""
        kind = next((kind for kind, needle, pattern in own if needle in low and pattern.search(line)), None)
        if kind is not None or ("generat" in low and _says_generated(line, previous)):
            around = " ".join([above[1], line, *(other for _, other in islice(lines, 3))])
            return _Marker(number, line, around, kind)
        above = (number, line)
    return None


def _maker(marker: _Marker) -> str:
    """The generator that a marker names, or that is named beside it."""
    for text in (marker.line, marker.around):
        for kind, pattern in _MAKERS:
            if pattern.search(text):
                return kind
    return "marker"


def _says_generated(line: str, previous: str) -> bool:
    """Whether a comment's line says that its file was generated; it may be the end of a sentence begun above."""
    runs_on = _RUNS_ON.match(line) is not None and re.search(r"\w[\w,)\"'`]*\s*$", previous) is not None
    if not runs_on:
        return _MARKER.search(line) is not None
    joined = _MARKER.search(f"{previous.strip()} {line.strip(' */#;-%')}")
    return joined is not None and joined.start() > 0


def _head(text: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line of comment in a file's head: in the leading run, and in the first FIRST_LINES."""
    leading, closing, in_comment, since = True, "", False, 0
    for number, line in enumerate(text.splitlines()[:HEADER_LINES], 1):
        if number > FIRST_LINES and not leading:
            return
        if closing:
            if in_comment and (closing not in _STRINGS or number - since < DOCSTRING_LINES):
                yield number, line
            if closing in line:
                closing = ""
            continue
        bare = line.strip()
        if not bare:
            continue
        if _COMMENT.match(line):
            yield number, line
            closing, in_comment, since = _opened(bare), True, number
            continue
        leading = leading and (number == 1 and bare.startswith(("#!", "<?", "<!")))
        mark = _LATER_COMMENT.search(line)
        if mark is not None and not any(quote in line[: mark.start()] for quote in "\"'`"):
            yield number, line[mark.start() :]
            closing, in_comment, since = _opened(line[mark.start() :].strip()), True, number
        else:
            closing, in_comment = next((quote for quote in _STRINGS if line.count(quote) % 2), ""), False


def _opened(comment: str) -> str:
    """What ends the block that a line of comment leaves open; empty where it leaves none."""
    if comment.rfind("/*") > comment.rfind("*/") and not comment.startswith("//"):
        return "*/"
    for start, stop in _BLOCKS:
        if comment.startswith(start) and stop not in comment[len(start) :]:
            return stop
    return ""


def _by_shape(file: FileText) -> Generated | None:
    content, language = file.content, file.language.id
    for kind, needle, pattern in _SHAPES_OF.get(language, ()):
        if needle in content and (match := pattern.search(content)):
            line = content.count("\n", 0, match.start()) + 1
            return Generated(kind, f"line {line}: {match.group().strip().splitlines()[0][:120]}")
    if content.startswith("%YAML") and _YAML_UNITY.match(content):
        return Generated("unity-meta", "Unity's YAML tag")
    if content[:20].lstrip("\ufeff").startswith("fileFormatVersion:") and _META_HEAD.match(content):
        return Generated("unity-meta", "fileFormatVersion and guid")
    if content[:200].lstrip().startswith(("{", ")]}")) and '"mappings"' in content and _SOURCE_MAP.match(content):
        return Generated("source-map", "version 3 with mappings")
    if language in _SCRIPT or language == "css":
        return _source_mapped(content) or _minified(content, language)
    return None


def _source_mapped(content: str) -> Generated | None:
    """Code that ends by naming its source map was compiled from something else."""
    last = content[-400:].rstrip().rpartition("\n")[2]
    start = content.rfind("sourceMappingURL=data:") if "sourceMappingURL" not in last else -1
    if start >= 0 and "\n" not in content[start:].rstrip():  # the map itself is the last line
        last = content[content.rfind("\n", 0, start) + 1 :]
    if "sourceMappingURL" in last and _SOURCE_MAP_LINE.match(last):
        return Generated("source-map", f"it ends with {last.strip()[:80]}")
    return None


def _minified(content: str, language: str) -> Generated | None:
    if len(content) < LEAST_MEAN * (content.count("\n") + 1) or max(map(len, content.split("\n"))) <= LONG_LINE:
        return None
    code = _STRIPPED.sub("", content).strip()
    num_lines = code.count("\n") + 1
    num_blanks = len(code) - len("".join(code.split()))
    if len(code) <= MINIFIED_MEAN * num_lines or num_blanks > MINIFIED_BLANKS * len(code):
        return None
    kind = "minified-css" if language == "css" else "minified-js"
    return Generated(kind, f"mean line {len(code) / num_lines:.0f}, blanks {num_blanks / len(code):.3f}")
