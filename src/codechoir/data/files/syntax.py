"""Whether a file parses, and how much of it is comment: tree-sitter's verdict, by language.

Owns the table of grammars and what is done where a grammar alone would be unjust: JavaScript with Flow's types is read
with TypeScript's grammar, C++ as Objective-C++ too (headers share suffixes), and C and C++ once more with directives,
later branches and lines of macros blanked, since no parser knows what those hide. Python 2 parses: the grammar knows
`print x`, `exec`, `except E, e` and backticks, and nothing here tells it from Python 3. Knows no thresholds.

No verdict: batch files and Visual Basic (no grammar), SQL (one grammar fits no dialect), Markdown (any text is
Markdown), files that take more work than BUDGET. That counts steps, not seconds, so that every machine decides alike.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from tree_sitter import Language as Grammar
from tree_sitter import Node, Parser, Query, QueryCursor
from tree_sitter_language_pack import SupportedLanguage, get_language

from codechoir.languages import Language

# Language.id -> grammars, the usual one first; the others are tried where that one meets errors
GRAMMARS: dict[str, tuple[SupportedLanguage, ...]] = {
    "assembly": ("asm",),
    "c": ("c", "cpp", "objc"),
    "cmake": ("cmake",),
    "cpp": ("cpp", "objc"),
    "csharp": ("csharp",),
    "css": ("css",),
    "dockerfile": ("dockerfile",),
    "fortran": ("fortran",),
    "go": ("go",),
    "haskell": ("haskell",),
    "html": ("html",),
    "java": ("java",),
    "javascript": ("javascript", "tsx"),
    "julia": ("julia",),
    "lua": ("lua",),
    "makefile": ("make",),
    "perl": ("perl",),
    "php": ("php",),
    "powershell": ("powershell",),
    "python": ("python",),
    "ruby": ("ruby",),
    "rust": ("rust",),
    "scala": ("scala",),
    "shell": ("bash",),
    "tex": ("latex",),
    "typescript": ("typescript", "tsx"),
}
WELL_READ = frozenset({"java", "javascript", "python", "typescript"})  # no sound file of these ends in an error
BRACED = frozenset({"c", "cpp", "csharp", "css", "go", "php", "rust", "scala"})  # an open brace tells as much of these
CHUNK = 16_384  # bytes that the parser is given at a time
BUDGET = 20_000  # chunks, and hundreds of parser steps: 1 MB of ordinary code takes about 7,000 of these
TRIVIAL = 0.05  # share of errors up to which no better reading is looked for: no default threshold is lower

_DIRECTIVE = re.compile(rb"^[ \t]*#[ \t]*([a-z]*)[^\n\\]*(?:\\.[^\n\\]*)*", re.MULTILINE | re.DOTALL)
_MACRO_LINE = re.compile(rb"^[ \t]*[A-Z][A-Z0-9_]{2,}(?:\([^()\n;{}]*\))?[ \t]*;?[ \t]*$", re.MULTILINE)
_COMMENT_KIND = re.compile(r"(?:^|_)comments?(?:_environment)?$|^pod$|^haddock$")

_local = threading.local()  # parsers serve one thread each


class _TooCostlyError(Exception):
    """A parse has spent its budget."""


@dataclass(frozen=True, slots=True)
class Syntax:
    """How a file parses, in the reading that suits it best."""

    grammar: SupportedLanguage
    error_fraction: float  # share of the file's bytes, blanks around it left out; see _errors
    num_errors: int  # nodes that are wrong or missing, one within another counted once
    cut_off: bool  # the file ends within an error, or a block is left open
    root: Node
    size: int  # bytes, blanks around the file left out

    def comment_fraction(self) -> float:
        """The share of bytes in comments; of Python also in strings that stand alone, which are docstrings mostly."""
        query = _comment_query(self.grammar)
        if query is None or self.size == 0:
            return 0.0
        found = [node for nodes in QueryCursor(query).captures(self.root).values() for node in nodes]
        covered = end = 0
        for start, stop in sorted((node.start_byte, node.end_byte) for node in found):
            covered += max(0, stop - max(start, end))  # a comment's parts may be comments to the grammar, too
            end = max(end, stop)
        return min(1.0, covered / self.size)


@dataclass(frozen=True, slots=True)
class _Errors:
    num: int
    fraction: float
    at_end: bool
    num_open: int  # opening braces left without their closing one
    widest: float  # share of the file within errors, well-formed parts of them included


def parse(content: str, language: Language) -> Syntax | None:
    """The best reading of a file, or None where there is no verdict (see the module)."""
    data = content.encode()
    size = len(data.strip())
    best: Syntax | None = None
    try:
        for grammar, text in _readings(language, data):
            root = _tree(grammar, text)
            errors = _errors(root, len(data.rstrip()), size)
            syntax = Syntax(grammar, errors.fraction, errors.num, _is_cut_off(errors, language), root, size)
            if best is None or (syntax.cut_off, syntax.error_fraction) < (best.cut_off, best.error_fraction):
                best = syntax
            if not best.cut_off and best.error_fraction <= TRIVIAL:
                break
    except _TooCostlyError:
        return None
    return best


def _is_cut_off(errors: _Errors, language: Language) -> bool:
    if language.id in WELL_READ:
        return errors.at_end
    return language.id in BRACED and errors.num_open > 0 and errors.widest > 0.1


def num_syntax_errors(content: str, language: Language) -> int | None:
    """The number of wrong or missing nodes in the usual reading, to compare two texts of one file; None: no verdict."""
    grammars = GRAMMARS.get(language.id)
    if grammars is None:
        return None
    data = content.encode()
    try:
        return _errors(_tree(grammars[0], data), len(data), len(data)).num
    except _TooCostlyError:
        return None


def conflict_line(content: str) -> int | None:
    """The line on which an unresolved merge begins, or None. A text may also quote one, so ask for errors, too."""
    if "\n>>>>>>> " not in content:
        return None
    text = "\n" + content
    start = text.find("\n<<<<<<< ")
    middle = text.find("\n=======", start) if start >= 0 else -1
    if middle < 0 or text.find("\n>>>>>>> ", middle) < 0:
        return None
    return text.count("\n", 0, start) + 1


def estimated_comment_fraction(content: str, language: Language) -> float:
    """About the share of characters in comments, without a parse: marks within strings are taken for comments."""
    pattern = _comment_pattern(language)
    size = len(content.strip())
    if pattern is None or size == 0:
        return 0.0
    return min(1.0, sum(map(len, pattern.findall(content))) / size)


def _readings(language: Language, data: bytes) -> Iterator[tuple[SupportedLanguage, bytes]]:
    """The texts to parse and the grammars to do it with, the likeliest first."""
    without = b""
    for grammar in GRAMMARS.get(language.id, ()):
        yield grammar, data
        if language.id in ("c", "cpp"):
            without = without or _MACRO_LINE.sub(lambda match: _blank(match.group()), _one_branch(data))
            yield grammar, without


def _one_branch(data: bytes) -> bytes:
    """C without directives and without the `#else` and `#elif` branches, which would close a block a second time."""
    parts, done, depth, hidden = [], 0, 0, 0  # hidden: the depth at which a later branch began; 0 outside of such
    for match in _DIRECTIVE.finditer(data):
        word = match.group(1)
        text = data[done : match.start()]
        parts += [_blank(text) if hidden else text, _blank(match.group())]
        done = match.end()
        if word in (b"else", b"elif"):
            hidden = hidden or depth
        elif word == b"endif":
            hidden = 0 if hidden >= depth else hidden
            depth = max(0, depth - 1)
        elif word.startswith(b"if"):
            depth += 1
    return b"".join((*parts, data[done:]))


def _blank(text: bytes) -> bytes:
    return re.sub(rb"[^\n]", b" ", text)


def _tree(grammar: SupportedLanguage, data: bytes) -> Node:
    """The root of the parsed text. Raises _TooCostlyError where the budget is spent."""
    parsers: dict[str, Parser] = _local.__dict__.setdefault("parsers", {})
    parser = parsers.get(grammar) or parsers.setdefault(grammar, Parser(_grammar(grammar)))
    num_reads = num_steps = 0

    def read(offset: int, _point: object) -> bytes:
        nonlocal num_reads
        num_reads += 1
        return data[offset : offset + CHUNK]

    def stop(_offset: int, _has_error: bool) -> bool:
        nonlocal num_steps
        num_steps += 1
        return num_steps > BUDGET or num_reads > BUDGET

    try:
        return parser.parse(read, encoding="utf8", progress_callback=stop).root_node
    except ValueError:  # what py-tree-sitter raises when it was told to stop
        parser.reset()
        raise _TooCostlyError from None


def _errors(root: Node, end: int, size: int) -> _Errors:
    """The errors below `root`; `end` is where the file's last word ends.

    One unknown macro may put a thousand sound lines into one error, so well-formed constructs within an error (children
    that have parts of their own and no error) do not count as wrong.
    """
    if not root.has_error:
        return _Errors(0, 0.0, False, 0, 0.0)
    num = wrong = widest = num_open = 0
    at_end = False
    nodes = [root]
    while nodes:
        node = nodes.pop()
        if node.is_missing:
            num += 1
            num_open += node.type == "}"
            at_end = at_end or node.end_byte >= end
        elif node.is_error:
            num += 1
            at_end = at_end or node.end_byte >= end
            children = node.children
            sound = sum(c.end_byte - c.start_byte for c in children if c.named_child_count and not c.has_error)
            widest += node.end_byte - node.start_byte
            wrong += node.end_byte - node.start_byte - sound
            num_open += sum((child.type == "{") - (child.type == "}") for child in children)
        else:
            nodes.extend(child for child in node.children if child.has_error or child.is_missing)
    return _Errors(num, min(1.0, wrong / max(1, size)), at_end, num_open, min(1.0, widest / max(1, size)))


@cache
def _grammar(name: SupportedLanguage) -> Grammar:
    return get_language(name)


@cache
def _comment_query(name: SupportedLanguage) -> Query | None:
    """Finds every kind of node that the grammar calls a comment; None where it has none."""
    grammar = _grammar(name)
    ids = [index for index in range(grammar.node_kind_count) if grammar.node_kind_is_named(index)]
    kinds = {grammar.node_kind_for_id(index) or "" for index in ids if grammar.node_kind_is_visible(index)}
    patterns = [f"({kind})" for kind in sorted(kinds) if _COMMENT_KIND.search(kind)]
    if name == "python":
        patterns += ["(module (string) @text)", "(block (string) @text)"]
    return Query(grammar, " ".join(p if "@" in p else f"{p} @text" for p in patterns)) if patterns else None


@cache
def _comment_pattern(language: Language) -> re.Pattern[str] | None:
    blocks = [('"""', '"""'), ("'''", "'''")] if language.id == "python" else []
    blocks += [language.block_comment] if language.block_comment else []
    parts = [rf"{re.escape(start)}.*?(?:{re.escape(stop)}|\Z)" for start, stop in blocks]
    if language.line_comment:
        word = r"\b" if language.line_comment[-1].isalpha() else ""
        parts.append(rf"{word}{re.escape(language.line_comment)}{word}[^\n]*")
    return re.compile("|".join(parts), re.DOTALL | re.IGNORECASE) if parts else None
