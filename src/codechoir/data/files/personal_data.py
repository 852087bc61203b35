"""Finds e-mail addresses and IP addresses of real people and machines.

Owns what an address of nobody is: reserved names and networks (RFC 2606, RFC 5737, RFC 3849, IANA's special-purpose
registries), and what looks like an address and is none: version numbers, object identifiers, scopes, decorators.
In: the text, and the same as ASCII bytes of equal length ("?" for others); out: spans.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from codechoir.data.files.secret_kinds import Span

# Country codes and the generic domains that people have addresses at. A list, as `logo@2x.png` and `x@self.weight` have
# the shape of an address too.
_TOP_LEVEL = """
    ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bv bw by bz ca
    cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu fi fj fk fm fo fr
    ga gb gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm
    jo jp ke kg kh ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq
    mr ms mt mu mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa
    re ro rs ru rw sa sb sc sd se sg sh si sj sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th tj tk tl tm tn
    to tr tt tv tw tz ua ug uk us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw com org net edu gov mil int info
    biz name pro aero coop museum mobi asia cat jobs tel travel post academy agency app art bank blog build business
    cafe capital care center chat church city cloud club coach codes community company computer consulting cool
    credit date design dev digital direct domains education email energy engineer engineering enterprises events
    exchange expert express family farm fashion finance financial fit foundation fun fund gallery games gmbh global
    gold group guide guru health healthcare help holdings host hosting house inc industries ink institute
    international investments kim land law legal life limited live llc loan ltd management market marketing media
    money monster network news ngo ninja one online ong ooo page partners parts photo photography photos pics place
    plus press productions properties pub quest review reviews rocks run sale school science services shop show site
    social software solutions space store studio style support systems team tech technology tips today tools top
    tours town toys trade training university ventures video vip watch web website wiki wine win work works world
    wtf xyz zone berlin london nyc paris tokyo amsterdam hamburg koeln wien bayern swiss eus gal scot wales quebec
    google apple microsoft amazon
"""
_DOMAINS = frozenset(_TOP_LEVEL.split())
_EMAIL = re.compile(
    rb"@(?<=[A-Za-z0-9_?+-]@)(?:[A-Za-z0-9?](?:[A-Za-z0-9?-]{0,61}[A-Za-z0-9?])?\.){1,8}(?P<top>[A-Za-z]{2,24})"
    rb"(?![A-Za-z0-9_(-])"
)
_LOCAL = re.compile(r"[\w.!#$%&*+/=^{|}~'-]{1,64}\Z")
_LOCAL_START = re.compile(r".*[\s:;,<>()\[\]\"'`=/|{}!#$&*^]|\\[nrtbfv0]|%[0-9A-F]{2}|-{2,}|\.+|^[-'%+~]+")
_RESERVED = re.compile(r"(?:^|\.)(?:example(?:\.[a-z]{2,3})?\.[a-z]+|(?:test|invalid|localhost|example|local))$")
_PROTOCOLS = ("openssh.com", "libssh.org", "lysator.liu.se")  # SSH's names of ciphers end in one of them
_NO_PERSON = ("git", "hg", "svn", "cvs", "ssh", "this", "self", "super", "return", "break", "continue")
_PLACEHOLDER = re.compile(
    r"(?:foo|bar|baz|test|tester|user|username|users?\d|name|you|your|yourname|youremail|your\.?email|your\.?name|me"
    r"|someone|somebody|nobody|email|mail|address|a|b|c|x|y|xxx|abc|aaa|foobar|first\.?last|firstname\.lastname|local"
    r"|dummy|fake)@(?:foo|bar|baz|qux|test|domain|yourdomain|your-?domain|mydomain|some-?domain|host|hostname|email|mail"
    r"|company|yourcompany|site|your-?site|server|a|b|c|x|y|xxx|abc|aaa|foobar|address|dummy|fake)"
    r"\.(?:com|org|net|co|io|de|uk)"
)

_IPV4 = re.compile(rb"\.(?<=[0-9]\.)[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9A-Za-z_]|\.[0-9])")
_FIRST = re.compile(rb"(?:(?<![\w.])|(?<=\\[nrtbfv0]))[0-9]{1,3}\Z")
_IPV6 = re.compile(
    rb":(?<=[0-9A-Fa-f]{3}:)(?:[0-9A-Fa-f]{0,4}:){1,7}(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]{1,4})"
    rb"(?!\w|:[\w:]|\.[0-9])"
)
_FIRST_SIX = re.compile(rb"(?:(?<![\w:.])|(?<=\\[nrtbfv0]))[0-9A-Fa-f]{3,4}\Z")
_NAME_SERVERS = """
    8.8.8.8 8.8.4.4 1.1.1.1 1.0.0.1 9.9.9.9 149.112.112.112 208.67.222.222 208.67.220.220 4.2.2.1 4.2.2.2 1.2.3.4
    2001:4860:4860::8888 2001:4860:4860::8844 2606:4700:4700::1111 2606:4700:4700::1001 2620:fe::fe
"""
_PUBLIC_DNS = frozenset(_NAME_SERVERS.split())
_CONTEXT = re.compile(  # the last one before the number tells what it is
    r"(?P<version>version|release|revision|assembly|section|chapter|clause|appendix|paragraph|upgrad|firmware"
    r"|(?:spec|specification|oid|chrome|chromium|firefox|safari|opera|webkit|sdk|java|python|kernel|driver|schema|patch"
    r"|package)(?![a-z])|(?<![a-z])(?:ver|rev|sec|rfc|build|tag|since|require[sd]?|jdk|jre|fig|figure"
    r"|table|step|item)(?![a-z])|§|(?<![a-z])v[.]?\s?$|[=<>~^!]=\s?$|[~^]\s?$|[a-z]/$|[a-z0-9]-$)"
    r"|(?P<machine>addr(?:ess(?:es)?)?|host|server|client|remote|gateway|network|proxy|endpoint|subnet|peer|listen|bind"
    r"|connect|ping|dns|(?<![a-z])(?:ips?|ipv4|inet|ssh|node|from|cidr|whitelist|blacklist|allow|deny|block|ban(?:ned)?"
    r"|login)(?![a-z])|(?<=[a-z])ip(?![a-z])|://)"
)
_LINE = 80  # how far before a number on its line a word on its meaning is looked for


def find_emails(text: str, data: bytes) -> Iterator[Span]:
    """Addresses of people, those in a URL's user part left to `find_url_passwords`."""
    if b"@" not in data:
        return
    for match in _EMAIL.finditer(data):
        top = match["top"].decode()
        if top.lower() not in _DOMAINS or not (top.islower() or top.isupper()):
            continue
        local = _local(text, match.start())
        start = match.start() - len(local)
        domain = text[match.start() + 1 : match.end()].lower()
        if local and not _is_nobody(local.lower(), domain) and not _is_in_url(text, start, match.end()):
            yield Span("email", start, match.end())


def _is_nobody(local: str, domain: str) -> bool:
    """Whether an address is reserved, made up, or no address: a repository's, a cipher's, a scope's."""
    if local in _NO_PERSON or domain in _PROTOCOLS or _RESERVED.search(domain):
        return True
    return _PLACEHOLDER.fullmatch(f"{local}@{domain}") is not None


def _local(text: str, at: int) -> str:
    """The part before the @ at `at`, from behind the last thing that may stand before an address."""
    match = _LOCAL.search(text, max(0, at - 64), at)
    local = match[0] if match else ""
    while True:
        start = _LOCAL_START.match(local)
        before = text[at - len(local) - 1 : at - len(local)]
        if start is not None:
            local = local[start.end() :]
        elif before == "\\" and local[:1] in "nrtbfv0":
            local = local[1:]
        else:
            return local


def _is_in_url(text: str, start: int, end: int) -> bool:
    """Whether the text is `user@host` or the end of `user:password@host` in a URL (an address may be the user)."""
    if text.startswith("//", start - 2) and start >= 2:
        return re.compile(r":[^\s/@]{1,128}@").match(text, end) is None
    return re.search(r"://[^\s/:]{0,80}:[^\s/]{0,80}\Z", text[max(0, start - 170) : start]) is not None


def find_ip_addresses(text: str, data: bytes) -> Iterator[Span]:
    """Public addresses of single machines, where the line does not make them a version, a section, an identifier."""
    for match in _IPV4.finditer(data):
        first = _FIRST.search(data, max(0, match.start() - 5), match.start())
        if first is not None and _is_ipv4(text, first.start(), match.end()):
            yield Span("ipv4", first.start(), match.end())
    for match in _IPV6.finditer(data):
        first = _FIRST_SIX.search(data, max(0, match.start() - 6), match.start())
        if first is not None and _is_ipv6(text, first.start(), match.end()):
            yield Span("ipv6", first.start(), match.end())


def _is_ipv4(text: str, start: int, end: int) -> bool:
    number = text[start:end]
    try:
        address = ipaddress.IPv4Address(number)
    except ValueError:
        return False
    if not address.is_global or address.is_multicast or number.startswith("192.0.0."):
        return False
    if number in _PUBLIC_DNS or _names_network(text, number, end):
        return False
    if re.compile(r"\.[a-z*]|[-+_]\w*[a-z]", re.IGNORECASE).match(text, end):  # a file's suffix, -beta, .x
        return False
    line = text[max(0, start - _LINE, text.rfind("\n", 0, start) + 1) : start].lower()
    told = list(_CONTEXT.finditer(line))
    if told and told[-1].lastgroup == "version":
        return False
    octets = address.packed
    near = line.endswith("://") or re.compile(r":\d{2,5}\b").match(text, end) is not None
    if (octets[0] < 3 and octets[1] < 40) or len(set(octets)) == 1:  # an object identifier; a dummy
        return near and len(set(octets)) > 1
    if octets[1:] == b"\0\0\0" or (octets[0] < 24 and octets[1] < 32 and octets[2] < 100):  # small, as versions are
        return near or (bool(told) and not any(map(str.isalpha, line[told[-1].end() :])))
    return True


def _is_ipv6(text: str, start: int, end: int) -> bool:
    number = text[start:end]
    try:
        address = ipaddress.IPv6Address(number)
    except ValueError:
        return False
    if (
        not address.is_global
        or address.is_multicast
        or str(address) in _PUBLIC_DNS
        or _names_network(text, number, end)
    ):
        return False
    if "::" not in number:
        return True  # eight groups, the first of three digits at least: neither a hardware address nor a time
    groups = [group for group in number.split(":") if group]
    if address not in ipaddress.IPv6Network("2000::/3"):
        return False
    return len(groups) >= 3 or (not number.replace(":", "").isdigit() or text[start - 1 : start] in ("'", '"', "/"))


def _names_network(text: str, number: str, end: int) -> bool:
    """Whether a prefix length follows that leaves no bits for a machine: a network is nobody's."""
    prefix = re.compile(r"/\d{1,3}(?!\d)").match(text, end)
    if prefix is None:
        return False
    try:
        return ipaddress.ip_network(number + prefix[0]).num_addresses > 2
    except ValueError:
        return False
