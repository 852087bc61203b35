"""Finds secrets by what they are given to: a name such as `db_password`, the user part of a URL, an HTTP header.

Owns which names promise a secret, and the ways of giving one a value in code, in configuration and in prose. Whether
the value is a secret is told by `secret_values.py`. In: the text, and the same as ASCII bytes of equal length ("?" for
others); out: spans.

Names are searched in lower case from their rarest letter (k of token and key, c of secret and credential, p of
password, h of auth): most of the text is then passed over without trying.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from codechoir.data.files.secret_kinds import Span
from codechoir.data.files.secret_values import is_dummy, is_password, is_random, is_uuid, is_wordlike
from codechoir.languages import Language

_NAME = re.compile(
    rb"""k(?: (?<=tok)ens? | ey s? )
       | c(?: (?<=sec)rets? | redentials? )
       | p(?: ass(?: w(?:or[dt]s?|d) | phrase | code )
            | ass (?= [_\-"'`\]=:>\[({\\] | [ ]{1,20}[=:"'] )
            | wd? (?= [_\-"'`\]=:>\[({\\),\ ] ) )
       | h(?<=auth)(?!or|en)
    """,
    re.VERBOSE,
)
_BEFORE = re.compile(rb"[A-Za-z0-9_.$-]{0,40}\Z")
_KEY_OF = re.compile(
    r"(?:api|app|application|access|secret|private|priv|auth|authentication|encrypt|encryption|decryption|account|sign"
    r"|signing|signature|master|shared|storage|service|client|consumer|license|licence|subscription|server|admin|ssh|aes"
    r"|hmac|crypto|session|webhook|deploy|secure|instrumentation|write|ingestion|wallet|jwt|host|root)[_. -]?\Z"
)
_NO_SECRET_BEFORE = re.compile(
    r"public|pub[_-]?$|csrf|xsrf|page[_-]?$|cursor|continuation|idempoten|cancel|sort[_-]?$|hash"
)
_NO_SECRET_AFTER = re.compile(
    r"[_-]?(?:ur[il]|path|file|dir|folder|field|name|label|type|len|size|regex|pattern|hint|placeholder|message|msg"
    r"|error|title|text|prefix|suffix|hash|digest|sha|md5|expir|ttl|count|num|min|max|policy|reset|column|param|header"
    r"|env|var|class|selector|input|algo|strength|valid|requir|format|index|idx|kind|status|state|scope|list|store"
    r"|manager|provider|factory|helper|ids?$|arn|ref|link|page|form|button|help|desc|docs?$|rule|check|version|uuid"
    r"|salt|source|timeout|lifetime|age|days|hours|attempt|change)"
)
_NO_SECRET_END = re.compile(
    r"(?:id|url|uri|path|name|file|type|size|length|count|class|config|model|element|start|end|date|time)$"
)

_AFTER = re.compile(
    rb"""(?P<tail> (?:[Kk]ey|[Vv]alue|[Tt]oken|[Ss]tring|[Cc]ode)? (?![a-z]) [A-Za-z0-9_-]{0,40}+ )
    (?P<closed> \\?["'`]?+ \]?+ \)?+ )
    (?: \[ [0-9]{0,5} \] )?+
    [ \t]{0,40}+
    (?: [?!]? : [ ]{0,4} (?!:) [&'A-Za-z_][A-Za-z0-9_.<>\[\]|&', ]{0,40}? [ ]{0,4} (?= =[^=>] ) )?  # its type
    (?: [*&A-Za-z\[\]]{2,20}+ [ ]{1,4} (?= =[^=>] ) )?  # the same in Go
    (?P<op> => | := | [=!]={1,2} | = | \|\| | \?\? | \?: | : (?!:) | ,[ ]?(?:default[ ]?=)?+ | \( | \{ | > | <<
          | \bor\b | \b(?:is|was)\b | )
    [ \t]{0,40}+ (?: \\?+ \r?+ \n [ \t]{0,80}+ )?+ [(\[{]?+ (?: \r?+ \n [ \t]{0,80}+ )?+
    (?P<call> (?:new[ ])?+ [A-Za-z_][A-Za-z0-9_.:]{0,60}+ \( )?+
    """,
    re.VERBOSE,
)
_VALUE_ATTRIBUTE = re.compile(rb"""\\?["']\s{1,4}value\s?=\s?""")
_QUOTED = re.compile(
    rb"""[A-Za-z@$]{0,2} (?P<quote> \\?(?:"{3}|'{3}|["'`]) ) [(]?+
    (?P<value> (?: (?!(?P=quote)) (?:[^\n\\]|\\.) ){3,600} ) (?P=quote)
    """,
    re.VERBOSE,
)
_NEXT_PIECE = re.compile(rb"""\s{0,4}(?:[+.]|\\)?\s{0,80}(?P<quote>["'])(?P<value>[^"'\\\n]{3,200})(?P=quote)""")
_BARE = re.compile(  # & may be a password's, or part parameters
    rb"""(?P<value>(?:[^\s"'`,;&<>(){}\[\]\\|]|&(?![A-Za-z_]\w{0,30}=)){5,400}+)(?P<after>[(\[{])?"""
)
_BARE_OPS = ("=", ":", ">", "=>", "is", "was", "")
_SYMBOL = re.compile(r"[!#$%&*+@^~?=]")
_FREE = (b"", *(bytes([code]) for code in b" \t\r\n\"'`?&;,:([<|/*#"), b"\\")
_DOCUMENTED = (("scott", "tiger"), ("Aladdin", "open sesame"))  # Oracle's and RFC 7617's examples
_ADDRESS = re.compile(r"[\w.+-]{3,}@[\w.-]{3,}\.(?:com|org|net|edu)|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f.]{0,15}){2,7}")
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_ESCAPED = re.compile(r"\\(?:u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}|U[0-9A-Fa-f]{8}|[\\\"'])")  # a character
_NEAR = 2000  # how far before a place its line and a comment's start are looked for
_ENV_LINE = re.compile(rb"(?:^|\s)[A-Z][A-Z0-9_]{3,60}=\Z")
_BACKTICKS = ("javascript", "typescript", "go")  # where literals of many lines stand in them
_NO_CODE = """
    shell dockerfile makefile batchfile powershell markdown tex html css yaml json toml ini properties xml text
"""
_CONFIGURATION = frozenset(_NO_CODE.split())
_COMMENT = re.compile(rb"\s*(?:#|//|/?\*|--|;|<!--|rem\b|%)", re.IGNORECASE)

_URL = re.compile(rb"""://(?P<user>[^\s/:"'`<>\\]{0,80}+):(?P<password>[^\s/"'`<>\\,]{1,128})@(?=[\w\[{$%])""")
_PORT = re.compile(r"\d{1,5}(?:[?#]|$)")
_URL_USER = re.compile(rb"""://(?:(?<=http://)|(?<=https://))(?P<user>[A-Za-z0-9_-]{16,100}+)@(?=\w)""")
_BEARER = re.compile(rb"""bearer[ ]{1,3}(?P<value>[A-Za-z0-9._~+/-]{12,600}+=*+)""", re.IGNORECASE)
_BASIC = re.compile(rb"""basic[ ]{1,3}(?P<value>[A-Za-z0-9+/]{8,300}+={0,2}+)(?![A-Za-z0-9])""", re.IGNORECASE)
_PAIR = re.compile(
    rb"""auth[a-z]{0,12}[ ]?=?[ ]?\(\s?["'][^"'\n]{1,60}["'],\s?["'](?P<value>[^"'\n\\]{4,80})["']""", re.IGNORECASE
)
_CURL = re.compile(
    rb"""curl\b[^\n]{0,300}?\s(?:-u|--user)[ =]?["']?(?P<user>[\w.@-]{1,60}+):(?P<value>[^\s"'\\]{3,80}+)"""
)


@dataclass(frozen=True, slots=True)
class _Name:
    """What a name promises, and how it stands."""

    of_password: bool  # else of a key or a token, drawn by a machine
    weak: bool  # such as `auth`, to which much else is given
    takes_uuid: bool
    is_verb: bool  # "pass" alone
    is_option: bool  # --password
    is_parameter: bool  # in a query or a connection string: ?password=
    is_free: bool  # behind a blank, a quote or what else parts a name from what is before
    is_argument: bool  # the quoted first argument of a call


def find_named(text: str, data: bytes, language: Language) -> Iterator[Span]:
    """Values of names that promise a secret: quoted anywhere, bare where they cannot be code."""
    lowered = data.lower()
    literals = _Literals(data, language)
    done = 0
    for match in _NAME.finditer(lowered):
        after = _AFTER.match(data, match.end()) if match.start() >= done else None
        name = _name(lowered, match, after) if after else None
        if after is None or name is None:
            continue
        for start, end in _value(text, data, name, after, literals):
            done = end
            yield Span("password" if name.of_password else "secret", start, end)


def _name(lowered: bytes, match: re.Match[bytes], after: re.Match[bytes]) -> _Name | None:
    """What the name around `match` promises; None where it is no secret, but a secret's length or the user's label."""
    before = _BEFORE.search(lowered, max(0, match.start() - 40), match.start())
    assert before is not None
    head, word, tail = before[0].decode(), match[0].decode(), after["tail"].decode()
    if word.startswith("key") and not _KEY_OF.search(head):
        return None
    if word.startswith(("pw", "pass")) and len(word) < 5 and head[-1:].isalpha() and word != "pwd":
        return None
    if _NO_SECRET_AFTER.match(tail.lower()) or _NO_SECRET_END.search(tail.lower()) or _NO_SECRET_BEFORE.search(head):
        return None
    whole = head + word + tail.lower()
    return _Name(
        is_verb=whole == "pass",
        is_option=head.startswith("--"),
        is_parameter=lowered[max(0, before.start() - 1) : before.start()] in (b"?", b"&", b";"),
        is_free=lowered[max(0, before.start() - 1) : before.start()] in _FREE,
        is_argument=re.search(rb"\w\([\"']\Z", lowered[max(0, before.start() - 3) : before.start()]) is not None,
        of_password=word.startswith("p"),
        weak=word.startswith("h"),
        takes_uuid=re.search(r"api|secret|auth|access|passw|bearer|heroku|client", whole) is not None,
    )


def _value(
    text: str, data: bytes, name: _Name, after: re.Match[bytes], literals: _Literals
) -> Iterator[tuple[int, int]]:
    """Where the secret value of `name` stands; several places where a literal is joined of pieces."""
    op, at = after["op"].decode(), after.end()
    attribute = _VALUE_ATTRIBUTE.match(data, after.start("closed")) if after["closed"] else None
    if attribute is not None:
        op, at = "=", attribute.end()
    quoted = _QUOTED.match(data, at)
    if quoted is None:
        yield from _bare_value(text, data, name, after, literals)
        return
    listed, closed, called = op.startswith(",") and "=" not in op, bool(after["closed"]), after["call"] is not None
    if listed:  # `"name", "value"` gives a value, `name, "value"` does not
        if not closed or called or b"\n" in after[0]:
            return
    elif not op and (closed or name.is_verb or at == after.end("closed")):  # `name "value"` does, parted by a blank
        return
    pieces = _pieces(data, quoted)
    value = "".join(text[start:end] for start, end in pieces)
    if _is_secret(name, value, weak=called or (listed and not name.is_argument)):
        yield from pieces


def _bare_value(
    text: str, data: bytes, name: _Name, after: re.Match[bytes], literals: _Literals
) -> Iterator[tuple[int, int]]:
    """Where the value stands that no quotes are around: on the name's line, and no call."""
    op, start = after["op"].decode(), after.end()
    bare = _BARE.match(data, start) if name.is_free and op in _BARE_OPS and after["call"] is None else None
    if bare is None or bare["after"] is not None or b"\n" in after[0] or after[0].endswith(b"{"):
        return
    value = text[start : bare.end("value")]
    if value[-1] in ".:?!" and (op in ("is", "was") or literals.is_prose(start)):
        value = value.rstrip(".:?!")
    end = start + len(value)
    if (op == ">" and not data.startswith(b"</", end)) or (not op and not name.is_option):
        return
    if _is_bare_secret(name, value, op, start, literals):
        yield start, end


def _pieces(data: bytes, first: re.Match[bytes]) -> list[tuple[int, int]]:
    """The literal and those that are joined to it: by +, over lines, side by side."""
    pieces, end = [first.span("value")], first.end()
    while len(first["quote"]) == 1 and len(pieces) < 20:
        piece = _NEXT_PIECE.match(data, end)
        if piece is None:
            break
        pieces.append(piece.span("value"))
        end = piece.end()
    return pieces


def _is_secret(name: _Name, value: str, *, weak: bool) -> bool:
    """Whether a literal's text is a secret for its name; `weak` where much else may be given in this way."""
    value = _ESCAPED.sub("a", value)
    if "://" in value or (";" in value and "=" in value) or _ADDRESS.fullmatch(value):  # others see to these
        return False
    if is_uuid(value):
        return name.takes_uuid and not is_dummy(value)
    if is_random(value, 16 if name.weak else 12 if weak else 10):
        return True
    if name.weak or not is_password(value):
        return False
    has_both = any(map(str.isdigit, value)) and _SYMBOL.search(value) is not None
    if name.of_password:
        return not weak or has_both
    return not weak and len(value) >= 8 and has_both and not is_wordlike(value)


def _is_bare_secret(name: _Name, value: str, op: str, at: int, literals: _Literals) -> bool:
    """Whether text without quotes is a secret: where it may be code, only if no one would name a variable so."""
    if not _is_secret(name, value, weak=False) or (op in ("is", "was") and not any(map(str.isdigit, value))):
        return False
    if not _DOTTED.fullmatch(value) and is_random(value, 16):
        return True
    return op == ">" or name.is_option or name.is_parameter or literals.is_literal(at)


class _Literals:
    """Where a file's text is no code: in comments, strings, and files of configuration. Asked from front to back."""

    def __init__(self, data: bytes, language: Language) -> None:
        self._data = data
        self._language = language
        self._comment = language.line_comment.encode()
        self._counted = 0
        self._open = dict.fromkeys((b'"""', b"'''", b"`"), False)

    def is_literal(self, at: int) -> bool:
        if self._language.id in _CONFIGURATION or self.is_prose(at):
            return True
        for quote in self._open:
            self._open[quote] ^= self._data.count(quote, self._counted, at) % 2 == 1
        self._counted = at
        if self._open[b'"""'] or self._open[b"'''"] or (self._open[b"`"] and self._language.id in _BACKTICKS):
            return True
        raw = self._data.rfind(b'R"', max(0, at - _NEAR), at)
        if raw >= 0 and self._data.find(b')"', raw, at) < 0 and self._data.find(b"(", raw, at) >= 0:
            return True
        line = self._line(at).replace(b'\\"', b"").replace(b"\\'", b"")
        return line.count(b'"') % 2 == 1 or line.count(b"'") % 2 == 1 or _ENV_LINE.search(line[-64:]) is not None

    def is_prose(self, at: int) -> bool:
        """Whether a comment is open at `at`, as far as its line and the text near before tell."""
        line = self._line(at)
        if _COMMENT.match(line) or (self._comment and b" " + self._comment + b" " in line):
            return True
        block = self._data.rfind(b"/*", max(0, at - _NEAR), at)
        return block >= 0 and self._data.find(b"*/", block, at) < 0

    def _line(self, at: int) -> bytes:
        start = max(0, at - _NEAR)
        return self._data[max(start, self._data.rfind(b"\n", start, at) + 1) : at]


def find_url_passwords(text: str, data: bytes) -> Iterator[Span]:
    """The password in `scheme://user:password@host`, and a token in the user's place; a user's name stays."""
    if b"://" not in data:
        return
    for match in _URL.finditer(data):
        user, password = text[slice(*match.span("user"))], text[slice(*match.span("password"))]
        if _is_url_password(user, password):
            yield Span("url-password", *match.span("password"))
            if is_random(user, 16):
                yield Span("url-password", *match.span("user"))
    for match in _URL_USER.finditer(data):
        if is_random(match["user"].decode(), 16):
            yield Span("url-password", *match.span("user"))


def _is_url_password(user: str, password: str) -> bool:
    if len(password) < (6 if password.isalpha() else 4) or _PORT.match(password):
        return False
    return password != user and (user, password) not in _DOCUMENTED and not is_dummy(unquote(password))


def find_authorization(data: bytes) -> Iterator[Span]:
    """Credentials of HTTP headers, of `auth=(user, password)` and of curl's -u."""
    lowered = data.lower()
    if b"bearer " in lowered:
        for match in _BEARER.finditer(data):
            if is_random(match["value"].decode(), 16):
                yield Span("authorization", *match.span("value"))
    if b"basic " in lowered:
        for match in _BASIC.finditer(data):
            if _is_basic(match["value"].decode()):
                yield Span("authorization", *match.span("value"))
    if b"auth" in lowered:
        for match in _PAIR.finditer(data):
            if is_password(match["value"].decode()):
                yield Span("authorization", *match.span("value"))
    if b"curl" in lowered:
        for match in _CURL.finditer(data):
            if not is_dummy(match["value"].decode()):
                yield Span("authorization", *match.span("value"))


def _is_basic(value: str) -> bool:
    """Whether `value` is base64 of "user:password", no dummy."""
    try:
        user, colon, password = base64.b64decode(value + "=" * (-len(value) % 4)).decode("ascii").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return False
    return (
        bool(colon)
        and (user + password).isprintable()
        and (user, password) not in _DOCUMENTED
        and not is_dummy(password)
    )
