"""THE table of kinds of secrets, and the finders of those that are known by their own shape: tokens, private keys.

Knows nothing of replacing, and nothing of names: what is a secret for the name it is given to is found by
`secret_names.py`, personal data by `personal_data.py`. In: a file as ASCII bytes, one for each character ("?" for those
outside ASCII), so that offsets are the text's own. Out: spans.

A token begins at a word, with a prefix that stays when it is replaced, and has a body that does not. All have at least
RUN letters, digits, _ or - in one run, which is how they are found quickly.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from codechoir.data.files.secret_values import is_placeholder

RUN = 20

_MIXED = r"(?=[A-Za-z_-]{0,80}[0-9])(?=[a-z0-9_-]{0,80}[A-Z])"  # a digit and a capital: no name in kebab or snake case
_END = r"(?![A-Za-z0-9_-])"
_HEX32 = r"[0-9a-f]{32}(?![A-Za-z0-9])"

_SERVICES = (  # those whose tokens have a prefix of their own, and nothing else to tell
    r"(?:pul|lin_api|rubygems|sbp|sntry[su]|figd|r8|gsk|xai|pplx|NRAK|tfp|shippo_live|shippo_test|EZAK|EZTK|duffel_live"
    r"|duffel_test|dp\.pt|dp\.st|sl\.B|CFPAT|lsv2_pt|lsv2_sk|fo1|phc|phx|nvapi|ctx7sk|pat-[a-z]{2}1|key_live|key_test"
    r"|live_sk|test_sk|secret|ntn|patp|cio|tvly|pscale_tkn|pscale_pw|napi)[_.-]"
)

# kind, prefix, body
_TOKENS: tuple[tuple[str, str, str], ...] = (
    ("aws-access-key-id", r"A(?:KIA|SIA|BIA|CCA)", r"[A-Z0-9]{16}(?![A-Za-z0-9])"),
    ("github-token", r"gh[pousr]_", r"[A-Za-z0-9]{30,255}"),
    ("github-token", r"github_pat_", r"[A-Za-z0-9_]{36,255}"),
    ("gitlab-token", r"gl(?:pat|dt|rt|cbt|ptt|ft|soat|agent|oas|imt)-", r"[A-Za-z0-9_=.-]{20,300}"),
    ("gitlab-token", r"GR1348941", r"[A-Za-z0-9_-]{20}"),
    ("slack-token", r"xox(?:e\.xox)?[abeoprs]-(?:[0-9]-)?", r"[A-Za-z0-9-]{10,250}"),
    ("slack-token", r"xapp-", r"[0-9]-[A-Za-z0-9-]{20,250}"),
    ("slack-webhook", r"hooks\.slack\.com/(?:services|workflows|triggers)/", r"\w{6,20}/[\w/]{16,90}"),
    ("discord-webhook", r"discord(?:app)?\.com/api/webhooks/", r"[0-9]{15,22}/[A-Za-z0-9_-]{50,90}"),
    ("teams-webhook", r"webhook\.office\.com/webhookb2/", r"[A-Za-z0-9@/-]{80,300}"),
    ("stripe-key", r"[srp]k_(?:live|test|prod)_", r"[A-Za-z0-9]{10,250}"),
    ("stripe-key", r"whsec_", r"[A-Za-z0-9+/=]{24,250}"),
    ("google-api-key", r"AIza", rf"[A-Za-z0-9_-]{{35}}{_END}"),
    ("google-oauth-secret", r"GOCSPX-", r"[A-Za-z0-9_-]{20,60}"),
    ("google-oauth-secret", r"(?:ya29\.|1//0)", rf"{_MIXED}[A-Za-z0-9_.-]{{30,300}}"),
    ("firebase-key", r"(?=AAAA[A-Za-z0-9_-]{7}:)", r"AAAA[A-Za-z0-9_-]{7}:[A-Za-z0-9_-]{130,180}"),
    ("npm-token", r"npm_", r"[A-Za-z0-9]{36}(?![A-Za-z0-9])"),
    ("pypi-token", r"pypi-", r"(?:AgE[A-Za-z0-9_-]{30,300}|(?=[A-Za-z_-]{0,80}[0-9])[A-Za-z0-9_-]{50,300})"),
    ("anthropic-key", r"sk-ant-", r"(?:(?:api|admin|oat)[0-9]{2}-)?[A-Za-z0-9_-]{20,300}"),
    ("openai-key", r"sk-(?<![_-]sk-)(?:proj-|svcacct-|admin-|None-|or-v1-)?", rf"{_MIXED}[A-Za-z0-9_-]{{20,300}}"),
    ("openai-key", r"sk-or-v1-", r"[0-9a-f]{64}"),
    ("hugging-face-token", r"(?:hf_|api_org_)", r"(?=[a-z0-9]{0,80}[A-Z])[A-Za-z0-9]{30,60}"),
    ("sendgrid-key", r"SG\.", r"[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16,64}"),
    ("twilio-key", r"[AS][CK](?<=AC|SK)", _HEX32),
    ("mailgun-key", r"key-(?<![_-]key-)", _HEX32),
    ("mailgun-key", r"(?=[0-9a-f]{32}-)", r"[0-9a-f]{32}-[0-9a-f]{8}-[0-9a-f]{8}(?![A-Za-z0-9-])"),
    ("mailchimp-key", r"(?=[0-9a-f]{32}-us)", r"[0-9a-f]{32}-us[0-9]{1,2}(?![A-Za-z0-9-])"),
    ("telegram-token", r"(?=[0-9]{8,10}:)", rf"[0-9]{{8,10}}:(?=[A-Za-z_-]{{0,34}}[0-9])[A-Za-z0-9_-]{{35}}{_END}"),
    ("discord-token", r"(?=[MNO][\w-]{22,27}\.)", rf"[MNO][\w-]{{22,27}}\.[\w-]{{6,7}}\.{_MIXED}[\w-]{{27,45}}{_END}"),
    ("azure-key", r"[AS](?:ccount|haredAccess)Key=", r"[A-Za-z0-9+/%]{40,120}={0,2}"),
    ("azure-key", r"(?=[A-Za-z0-9_.~-]{3}[0-9]Q~)", rf"[A-Za-z0-9_.~-]{{3}}[0-9]Q~[A-Za-z0-9_.~-]{{31,34}}{_END}"),
    ("azure-key", r"sig=(?<=[?&;]sig=)", r"[A-Za-z0-9%+/]{40,100}={0,2}"),
    ("jwt", r"eyJ", r"[A-Za-z0-9_-]{10,2000}\.[A-Za-z0-9_-]{10,8000}(?:\.[A-Za-z0-9_-]{0,4000}){0,3}"),
    ("heroku-key", r"HRKU-", r"[A-Za-z0-9_-]{36,80}"),
    ("digitalocean-token", r"do[opr]_v1_", r"[0-9a-f]{64}"),
    ("square-token", r"sq0[a-z]{3}-", r"[A-Za-z0-9_-]{22,50}"),
    ("square-token", r"EAAA(?<![+/]EAAA)", r"(?=[A-Za-z_-]{0,59}[0-9])(?!\w{0,56}AAAA)[\w-]{60}(?![\w+/=-])"),
    ("shopify-token", r"shp[a-z]{2}_", r"[0-9a-fA-F]{32}"),
    ("databricks-token", r"dapi", r"[0-9a-f]{32}(?:-[0-9])?(?![A-Za-z0-9])"),
    ("vault-token", r"hv[sbr]\.", r"[A-Za-z0-9_-]{24,250}"),
    ("postman-key", r"PMAK-", r"[0-9a-f]{24}-[0-9a-f]{34}"),
    ("grafana-token", r"gl(?:sa|c)_", r"[A-Za-z0-9+/=]{32,200}(?:_[0-9a-f]{8})?"),
    ("docker-token", r"dckr_(?:pat|oat)_", r"[A-Za-z0-9_-]{27,60}"),
    ("atlassian-token", r"AT[A-Z]TT3", r"[A-Za-z0-9_=-]{40,300}"),
    ("alibaba-key-id", r"LTAI", r"(?=[A-Za-z]{0,20}[0-9])[A-Za-z0-9]{16,20}(?![A-Za-z0-9])"),
    ("brevo-key", r"x(?:keysib|smtpsib)-", r"[0-9a-f]{64}-[A-Za-z0-9]{16}"),
    ("nuget-key", r"oy2", r"(?=[a-z]{0,42}[0-9])[a-z0-9]{43}(?![A-Za-z0-9])"),
    ("age-key", r"AGE-SECRET-KEY-1", r"[A-Z0-9]{58}"),
    ("service-token", _SERVICES, rf"(?:{_MIXED}[A-Za-z0-9-]{{24,200}}|[0-9a-f]{{32,128}}){_END}"),
)  # fmt: skip

KINDS: tuple[str, ...] = (  # from the most telling: of overlapping finds, the first kind names the whole
    "private-key",
    *dict.fromkeys(kind for kind, _, _ in _TOKENS),
    "aws-secret-key",
    "url-password",
    "authorization",
    "password",
    "secret",
    "email",
    "ipv4",
    "ipv6",
)

# a word's start: also behind an escape in a string literal, whose letter is not part of the word
_START = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf0])|(?<=\\x[0-9a-fA-F]{2})|(?<=\\u[0-9a-fA-F]{4})|(?<=%[0-9A-F]{2}))"
# Prefixes without groups: an alternative whose first character does not fit is passed over at once.
_PREFIX = re.compile(f"{_START}(?:{'|'.join(prefix for _, prefix, _ in _TOKENS)})".encode())
_EACH = tuple((kind, re.compile(f"({prefix}){body}".encode())) for kind, prefix, body in _TOKENS)
_INSIDE_PREFIX = tuple(bytes([code]) for code in b"./:=~@%")
_BEFORE_RUN = 64  # how far before the run of characters a token's prefix may begin

_SHAPES = bytes(ord("a") if (chr(code).isalnum() and code < 128) or code in b"_-" else ord(" ") for code in range(256))
_DIGIT = re.compile(rb"[0-9]|hf_|api_org_")
_WORD = r"[0-9]{0,3}(?:[A-Z]{0,12}+|[A-Z]?[a-z]{0,12}+)[0-9]{0,4}"
_NAME = re.compile(rf"(?:{_WORD}[_-]+)*+{_WORD}|[0-9]+(?:[eE]-?[0-9]*)?[fFlL]?".encode())  # or a number

_AWS_SECRET = re.compile(
    rb"(?<![A-Za-z0-9+/=_-])(?=[A-Za-z+/]{0,39}[0-9])(?=[^A-Z]{0,39}[A-Z])[A-Za-z0-9+/]{40}(?![A-Za-z0-9+/=_-])"
)
_AWS_NEAR = 300  # a secret key without a name is looked for this far around a key id

_KEY_HEAD = re.compile(rb"BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?[ ]?-{4,5}|Private-Lines: [0-9]{1,3}")
_KEY_TAIL = re.compile(rb"-{4,5} ?(?:BEGIN|END) |Private-MAC")
_KEY_RUN = re.compile(rb"(?:\\[nrt]|\\u000[ad]|\\x0[ad])|[A-Za-z0-9+/=]+")
_EDGES = (b"", *(bytes([code]) for code in b"\"'`\n\r"))
_LEADERS = (b"#", b"*", b"/", b">", b";")  # of a comment's line
_JOINS = tuple(bytes([code]) for code in b"_.,:(-")
_MIXTURE = re.compile(rb"[0-9+/]")
_KEY_LONGEST = 20_000  # characters of a key's block
_ENCODED_KEY = re.compile(rb"LS0tLS1CRUdJTi[A-Za-z0-9+/=]{64,20000}")  # base64 of "-----BEGIN "


@dataclass(frozen=True, slots=True)
class Span:
    """A secret's place: characters start to end, of which the first `keep` tell its kind only."""

    kind: str
    start: int
    end: int
    keep: int = 0
    shapeless: bool = False  # whether a stand-in of the secret's shape would be taken for a secret itself


def find_tokens(data: bytes) -> Iterator[Span]:
    """Tokens known by their shape, and AWS secret keys near an AWS key id."""
    shapes = data.translate(_SHAPES)
    longest_run, at, done = b"a" * RUN, 0, 0
    while (at := shapes.find(longest_run, at)) >= 0:
        end = shapes.find(b" ", at)
        end = len(data) if end < 0 else end
        if end > done and _DIGIT.search(data, at, end) and not _is_name(data, at, end):
            start = at - _BEFORE_RUN if data[at - 1 : at] in _INSIDE_PREFIX else at - 1
            for span in _tokens_around(data, max(done, start, 0), end):
                done = span.end
                yield span
                if span.kind == "aws-access-key-id":
                    yield from _aws_secrets_near(data, span)
        at = end


def _tokens_around(data: bytes, start: int, end: int) -> Iterator[Span]:
    """The tokens that begin from `start` on and before `end`; they may go on behind."""
    while (near := _PREFIX.search(data, start, end + 3)) is not None and near.start() < end:
        start = near.start() + 1
        for kind, pattern in _EACH:
            match = pattern.match(data, near.start())
            if match is not None:
                start = match.end()
                if not is_placeholder(data[match.end(1) : match.end()].decode()):
                    yield Span(kind, match.start(), match.end(), match.end(1) - match.start())
                break


def _is_name(data: bytes, start: int, end: int) -> bool:
    return _NAME.fullmatch(data, start, end) is not None and not data.startswith((b"hf_", b"api_org_"), start)


def _aws_secrets_near(data: bytes, key_id: Span) -> Iterator[Span]:
    for match in _AWS_SECRET.finditer(data, max(0, key_id.start - _AWS_NEAR), key_id.end + _AWS_NEAR):
        if not is_placeholder(match[0].decode()):
            yield Span("aws-secret-key", match.start(), match.end())


def find_private_keys(data: bytes) -> Iterator[Span]:
    """The lines of private keys, in text or in string literals; certificates and public keys are no secrets."""
    heads = list(_KEY_HEAD.finditer(data)) if b"PRIVATE KEY" in data or b"Private-Lines" in data else []
    for head, follower in itertools.zip_longest(heads, heads[1:]):
        limit = min(head.end() + _KEY_LONGEST, follower.start() if follower else len(data))
        tail = _KEY_TAIL.search(data, head.end(), limit)
        for start, end in _key_pieces(data, head.end(), tail.start() if tail else limit, closed=tail is not None):
            if not is_placeholder(data[start:end].decode()):
                yield Span("private-key", start, end)
    if b"LS0tLS1CRUdJTi" in data:
        for match in _ENCODED_KEY.finditer(data):
            try:
                text = base64.b64decode(match[0][:64])
            except binascii.Error:
                continue
            if b"PRIVATE KEY" in text:
                yield Span("private-key", match.start(), match.end())


def _key_pieces(data: bytes, start: int, end: int, *, closed: bool) -> list[tuple[int, int]]:
    """The runs of base64 between a key's first and last line, from the first long one.

    Short runs are the key's only where they fill a line or a literal: others are code between the literals. Without a
    last line, the key ends where something longer than code around literals comes.
    """
    runs = [match.span() for match in _KEY_RUN.finditer(data, start, end) if match[0][:1] != b"\\"]
    first = next((index for index, (a, b) in enumerate(runs) if _begins_key(data, a, b, start)), None)
    if first is None:
        return []
    pieces: list[tuple[int, int]] = []
    others = 0
    for a, b in runs[first:]:
        if not closed and pieces and a - pieces[-1][1] > 60:
            break
        before, after = data[max(0, a - 2) : a].rstrip(b" \t"), data[b : b + 1]
        alone = before[-1:] in (*_EDGES, *_LEADERS) or before[-2:] in (b"\\n", b"\\r") or not before
        if b - a >= 16 or (alone and (after in _EDGES or after == b"\\" or b == end)):
            pieces.append((a, b))
        else:
            others += b - a
    return pieces if sum(b - a for a, b in pieces) >= max(40, 3 * others) else []


def _begins_key(data: bytes, a: int, b: int, start: int) -> bool:
    """Whether a run is long and mixed as base64 is, and the first word where it stands."""
    return b - a >= 32 and _MIXTURE.search(data, a, b) is not None and (a == start or data[a - 1 : a] not in _JOINS)
