"""What a piece of text may be: a dummy, a random token, a password that a person made up.

Judges text alone; what stands around it (the variable's name, the line) is judged by those that call. Owns the stand-in
that replaces a secret, too, as a stand-in has to be judged a dummy: `is_dummy(stand_in(x))` holds for every x, so
that what was replaced once is not found again.
"""

from __future__ import annotations

import hashlib
import re
import string

MARK, HEX_MARK = "example", "deadbeef"  # one of them is in every stand-in that has letters; others have zeros only

# words that dummies are made of; a value that is nothing but these, short numbers and punctuation is no secret
_DUMMY_WORDS = """
    a access account admin aes anonymous api app argon asdf auth bad bar base basic baz bcrypt bearer bla blank
    change char client code config confirm confirmation correct credential credentials current database db de
    default des disabled dummy eggs email empty enabled enter example expired fake false field fixme foo foobar
    forgot form format gen generated get goes guest hash header hello here hidden hint hmac host http https id
    identifier input insert int invalid is it key keys label local localhost login long lorem masked max md me
    message min missing mock mot must my name new nil no none not null number oauth of ok old on optional or other
    param pass passcode passe passphrase passwd password passwords passwort paste pbkdf phrase placeholder postgres
    private pw pwd quux qux qwerty random read redacted refresh removed repeat replace required reset root rsa salt
    sample scrypt secret secrets session set sha short show some something spam string strong super supersecret tbd
    temp temporary test tester testing text that the this title tmp to todo token tokens top true type uint
    undefined unknown unset update url user username utf v valid value var varchar variable weak whatever with word
    world write wrong xxx xxxx you your
"""
_DUMMY = re.compile(rf"(?:{'|'.join(sorted(_DUMMY_WORDS.split(), key=len, reverse=True))}|[\W_])+(?P<digits>\d*)[\W_]*")
_DUMMY_PART = re.compile(
    rf"{MARK}|{HEX_MARK}|2001:db8:|x{{5}}|\*{{3}}|\.{{3}}|0{{8}}|redacted|change.?me|placeholder|replace.?(?:me|with|this)"
    r"|insert.?(?:your|here)|dummy|your.?(?:own|api|app|key|secret|token|pass|access|client|auth|account|db|private)"
    r"|(?<![a-z])(?:fake|sample|lorem)(?![a-z])|goes.?here|qwerty(?=$|\d)|[\[<{]\s?[a-z_ -]{2,40}\s?[\]>}]"
)
_LONGEST_DUMMY = 64  # characters; longer text is not taken apart into words
_TEMPLATE = re.compile(  # something is put in when the program runs
    r"\$\{|\{\{|\$\(|#\{|<%|%\(|(?<![A-Za-z0-9])%[sdr](?![A-Za-z0-9])|\{\}|\{\d{1,2}\}|\{[A-Za-z_][^{}]{0,80}\}"
    r"|^\\?\$\w+$|^<.*>$|^%[\w.]+%$|^@\w+@$|^\*+$|^:\w+$|^&\w+;$"
)
_LONG_RUN = 16  # characters that could be taken for a secret of their own
_PARTS = re.compile(r"[A-Za-z0-9]+")
_WORDLIKE = re.compile(r"[A-Za-z]*[0-9]{0,4}[a-z]?|[0-9]+")
_CAMEL = re.compile(r"[0-9]{0,4}+[a-z]*+[0-9]{0,5}+(?:[A-Z]++[a-z]*+[0-9]{0,5}+[a-z]?+)*+")  # with numbers inside
_HUMP = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # of camel case
_CHANGE = re.compile(r"(?<=[a-z])[A-Z0-9]|(?<=[A-Z])[0-9]|(?<=[0-9])[A-Za-z]")
_HEX = re.compile(r"[0-9a-f-]{16,}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_CODE = re.compile(  # a dotted name, a path, a file, a selector, a rule
    r"[A-Za-z_][\w-]*(?:(?:\.|::|->|/|:|\|)[A-Za-z_][\w-]*)+ | [./#~]+[\w./-]* | [\w./-]*\.[a-z]{2,5}"
    r"| \w+(?:\|\w+(?::\w+)?)+ | [A-Za-z_.]+(?:=|[=!<>]=)\w+",
    re.VERBOSE,
)
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+[uUlLnN]{0,3}|[+-]?[0-9][0-9._eE+-]*[a-zA-Z]{0,2}")
_CRYPTED = re.compile(r"\$\w{1,8}\$.*|\{\w{1,12}\}.*|(?:pbkdf2|bcrypt|argon2|sha[0-9]*|md5|scrypt)\w*[$:].*", re.DOTALL)
_MANY_SYMBOLS = re.compile(r"(?=.*[0-9])[A-Za-z0-9!@#$%^&*()_=+-]{20,}")  # as Django draws its keys
_BLANK, _DIGIT, _LETTER = re.compile(r"\s"), re.compile(r"\d"), re.compile(r"[^\W\d_]")
_RULE = re.compile(r"[|<>{}()\[\]`]|^[:/.@]|[:?]$|^&")  # of validation; a selector, a label
_SYMBOLS = re.compile(r"[!#$%&*+@^~?=]")
_LEAKED = """
    baseball batman charlie dragon football freedom hottie iloveyou letmein liverpool login michael monkey mustang
    princess shadow starwars sunshine superman swordfish trustno
"""
_COMMON = frozenset(_LEAKED.split())


def is_dummy(text: str) -> bool:
    """Whether `text` is nobody's secret: a stand-in, a documented example, a sequence, words such as changeme."""
    low = text.lower()
    if is_placeholder(text) or _TEMPLATE.search(text) or _is_sequence(re.sub(r"[\W_]+", "", low)):
        return True
    words = _DUMMY.fullmatch(low) if len(low) <= _LONGEST_DUMMY else None
    return words is not None and (len(words["digits"]) <= 3 or _is_sequence(words["digits"]))


def is_placeholder(text: str) -> bool:
    """Whether `text` says that it is none, or hardly varies: enough to know where a prefix tells what would follow."""
    low = text.lower()
    plain = re.sub(r"[\W_]+", "", low)
    return len(set(plain)) <= (2 if len(plain) < 12 else 5) or _DUMMY_PART.search(low) is not None


def _is_sequence(plain: str) -> bool:
    """Whether most of the text counts up (or two interleaved ones do: a1b2c3), or repeats with a short period."""
    num, codes = len(plain), [ord(character) for character in plain[:_LONGEST_DUMMY]]
    for stride in (1, 2):
        steps = [after - before for before, after in zip(codes, codes[stride:], strict=False)]
        if len(steps) > 1 and steps.count(0) + steps.count(1) >= 0.7 * len(steps):
            return True
    return any(plain.startswith(plain[period:]) for period in range(1, min(num // 2, 10) + 1))


def is_uuid(text: str) -> bool:
    return _UUID.fullmatch(text) is not None


def is_wordlike(text: str) -> bool:
    """Whether all parts between punctuation are words, camel-case words, words with a number behind, or numbers."""
    parts = _PARTS.findall(text)
    letters, humps = sum(map(str.isalpha, text)), len(_HUMP.findall(text))
    if all(map(_WORDLIKE.fullmatch, parts)):
        return letters < 20 or humps * 4 <= letters
    return humps * 3.5 <= letters and all(map(_CAMEL.fullmatch, parts))


def is_random(text: str, shortest: int) -> bool:
    """Whether `text`, of at least `shortest` characters, looks drawn by a machine: classes of characters alternate."""
    if len(text) < shortest or _BLANK.search(text):
        return False
    if not (_MANY_SYMBOLS.fullmatch(text) and len(set(_PARTS.sub("", text))) >= 4):
        num = sum(map(len, _PARTS.findall(text)))
        if len(_CHANGE.findall(text)) * 7 < num or num < shortest * 0.6 or is_wordlike(text):
            return False
        if _NUMBER.fullmatch(text) or _CRYPTED.match(text):
            return False
    return not is_dummy(text)


def is_password(text: str) -> bool:
    """Whether `text`, the value of something called a password, is one: made up by a person, or random."""
    return 5 <= len(text) <= 128 and (is_random(text, 8) or (_is_made_up(text) and not is_dummy(text)))


def _is_made_up(text: str) -> bool:
    if text.isalpha():
        return text.lower() in _COMMON or (len(text) >= 20 and text.isascii() and text.islower())
    if text.isdigit():
        return len(text) >= 6
    if (
        _BLANK.search(text)
        or _CODE.fullmatch(text)
        or _NUMBER.fullmatch(text)
        or _CRYPTED.match(text)
        or _RULE.search(text)
    ):
        return False
    has_digit = _DIGIT.search(text) is not None
    return (
        (has_digit and _LETTER.search(text) is not None)
        or _SYMBOLS.search(text.rstrip("*")) is not None
        or _is_passphrase(text)
    )


def _is_passphrase(text: str) -> bool:
    """Whether words are strung together as people are told to: four or more, none of those that dummies are made of."""
    words = re.split(r"[-_.]", text)
    return len(words) >= 4 and all(word.isalpha() and not _DUMMY.fullmatch(word.lower()) for word in words)


def stand_in(text: str, keep: int = 0) -> str:
    """What replaces a secret: the first `keep` characters stay, the rest follows from a hash of the rest.

    Characters keep their class (digit, small letter, capital, hexadecimal digit) and their number, but for short texts.
    Punctuation stays, backslashes with what they escape go. Nothing outside ASCII is written.
    """
    head, body = text[:keep], text[keep:]
    body = re.sub(r"\\.?|[^!-~]|[@\"'`]", "_", body, flags=re.DOTALL)
    digest = hashlib.shake_256(text[keep:].encode("utf-8", "surrogatepass")).digest(len(body) + 2)
    if not any(map(str.isalnum, body)):
        return f"{head}{MARK}{digest[-2] % 100:02d}"
    if not any(map(str.isalpha, body)):
        return head + re.sub(r"\d", "0", body)
    masked = mask(body, digest, hexadecimal=_HEX.fullmatch(body) is not None)
    return head + _marked(masked, _HEX.fullmatch(body) is not None, digest)


def mask(text: str, digest: bytes, *, hexadecimal: bool = False) -> str:
    """Every ASCII letter and digit replaced by the one of its class that `digest`, as long as `text`, chooses."""
    out = []
    for character, byte in zip(text, digest, strict=False):
        if hexadecimal and character != "-":
            out.append(string.hexdigits[byte % 16])
        elif character.isdigit():
            out.append(string.digits[byte % 10])
        elif character.isalpha():
            letters = string.ascii_uppercase if character.isupper() else string.ascii_lowercase
            out.append(letters[byte % 26])
        else:
            out.append(character)
    return "".join(out)


def _marked(masked: str, hexadecimal: bool, digest: bytes) -> str:
    """`masked` with the mark at the start of every long run of letters and digits; a new text where none is long."""
    mark = HEX_MARK if hexadecimal else MARK
    longest = max(map(len, _PARTS.findall(masked)))
    if longest < len(mark):
        return f"{MARK}{digest[-2] % 100:02d}"

    def marked(run: re.Match[str]) -> str:
        if len(run[0]) < min(longest, _LONG_RUN):
            return run[0]
        is_small = hexadecimal or not any(map(str.isupper, run[0]))
        return (mark if is_small else mark.upper()) + run[0][len(mark) :]

    return _PARTS.sub(marked, masked)
