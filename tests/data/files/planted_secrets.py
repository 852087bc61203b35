"""A seeded set of files with planted secrets: what each service's documents say its tokens look like, drawn anew.

Knows nothing of how secrets are found: no pattern, name or word is taken from the code under test.
"""

from __future__ import annotations

import base64
import json
import random
import string
import uuid
from collections.abc import Callable
from dataclasses import dataclass

ALNUM = string.ascii_letters + string.digits
URL_SAFE = ALNUM + "_-"
CAPITALS = string.ascii_uppercase + string.digits
HEX = "0123456789abcdef"


@dataclass(frozen=True)
class Planted:
    """One file, and the secrets that are in it."""

    kind: str
    language: str
    content: str
    bodies: tuple[str, ...]  # what must not be left, but for pieces of up to 8 characters


def draw(rng: random.Random, letters: str, num: int) -> str:
    """Some of `letters`, digits and capitals among them where `letters` have these."""
    while True:
        text = "".join(rng.choices(letters, k=num))
        wanted = [group for group in (string.digits, string.ascii_uppercase) if set(group) & set(letters)]
        if all(set(text) & set(group) for group in wanted) and text[0] not in "-_" and text[-1] not in "-_":
            return text


def jwt(rng: random.Random) -> str:
    def part(value: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return ".".join(
        (
            part({"alg": rng.choice(["HS256", "RS256"]), "typ": "JWT"}),
            part({"sub": str(rng.randrange(10**9)), "iat": rng.randrange(10**9)}),
            draw(rng, URL_SAFE, 43),
        )
    )


def human(rng: random.Random) -> str:
    """A password that someone made up."""
    word = rng.choice(
        [
            "hunter",
            "dragon",
            "Summer",
            "Winter",
            "panther",
            "Monkey",
            "sailing",
            "Berlin",
            "arsenal",
            "coffee",
            "tiger",
            "Phoenix",
        ]
    )
    number, year = rng.randrange(2, 99), rng.randrange(1980, 2026)
    symbol = rng.choice("!#$%&*+")
    return rng.choice(
        [
            f"{word}{number}",
            f"{word}{year}{symbol}",
            f"{word.replace('e', '3')}{symbol}{number}",
            f"{year}{word.title()}",
        ]
    )


def ipv4(rng: random.Random) -> str:
    first = rng.choice([24, 37, 52, 54, 66, 81, 91, 104, 151, 178, 185, 195, 212])
    return f"{first}.{rng.randrange(1, 255)}.{rng.randrange(1, 255)}.{rng.randrange(1, 255)}"


def ipv6(rng: random.Random) -> str:
    start = rng.choice(["2a01:4f8", "2600:1f18", "2a02:8108", "2003:e5", "2804:14c"])
    groups = [f"{rng.randrange(1, 2**16):x}" for _ in range(6)]
    return rng.choice(
        [f"{start}:{':'.join(groups)}", f"{start}:{groups[0]}::{groups[1]}", f"{start}:{groups[0]}:{groups[1]}::1"]
    )


def email(rng: random.Random) -> str:
    first = rng.choice(["jane", "maria", "oleg", "wei", "fatima", "john.q", "anna-lena", "t.okafor"])
    last = rng.choice(["doerksen", "silva", "petrov", "zhang", "hassan", "public", "vogel_w", "chukwu+git"])
    host = rng.choice(
        [
            "gmail.com",
            "acme-corp.io",
            "uni-bonn.de",
            "mail.co.uk",
            "kernel.org",
            "startup.dev",
            "ac-lyon.fr",
            "posteo.net",
        ]
    )
    return f"{first}.{last}@{host}"


TOKENS: dict[str, Callable[[random.Random], tuple[str, str]]] = {  # kind -> prefix and body
    "aws-access-key": lambda rng: (rng.choice(["AKIA", "ASIA"]), draw(rng, string.ascii_uppercase + "234567", 16)),
    "github": lambda rng: (rng.choice(["ghp_", "gho_", "ghu_", "ghs_", "ghr_"]), draw(rng, ALNUM, 36)),
    "github-pat": lambda rng: ("github_pat_", f"{draw(rng, ALNUM, 22)}_{draw(rng, ALNUM, 59)}"),
    "gitlab": lambda rng: ("glpat-", draw(rng, URL_SAFE, 20)),
    "slack": lambda rng: (
        rng.choice(["xoxb-", "xoxp-"]),
        f"{rng.randrange(10**10, 10**12)}-{rng.randrange(10**10, 10**12)}-{draw(rng, ALNUM, 24)}",
    ),
    "slack-webhook": lambda rng: (
        "https://hooks.slack.com/services/",
        f"T{draw(rng, CAPITALS, 8)}/B{draw(rng, CAPITALS, 8)}/{draw(rng, ALNUM, 24)}",
    ),
    "stripe": lambda rng: (rng.choice(["sk_live_", "rk_live_", "sk_test_"]), draw(rng, ALNUM, rng.choice([24, 99]))),
    "google-api": lambda rng: ("AIza", "Sy" + draw(rng, URL_SAFE, 33)),
    "google-oauth": lambda rng: ("GOCSPX-", draw(rng, URL_SAFE, 28)),
    "npm": lambda rng: ("npm_", draw(rng, ALNUM, 36)),
    "pypi": lambda rng: ("pypi-", "AgEIcHlwaS5vcmc" + draw(rng, URL_SAFE, 140)),
    "openai": lambda rng: ("sk-", draw(rng, ALNUM, 20) + "T3BlbkFJ" + draw(rng, ALNUM, 20)),
    "openai-project": lambda rng: ("sk-proj-", draw(rng, URL_SAFE, 120)),
    "anthropic": lambda rng: ("sk-ant-api03-", draw(rng, URL_SAFE, 93) + "AA"),
    "hugging-face": lambda rng: ("hf_", draw(rng, string.ascii_letters, 34)),
    "sendgrid": lambda rng: ("SG.", f"{draw(rng, URL_SAFE, 22)}.{draw(rng, URL_SAFE, 43)}"),
    "twilio": lambda rng: (rng.choice(["SK", "AC"]), draw(rng, HEX, 32)),
    "mailgun": lambda rng: ("key-", draw(rng, HEX, 32)),
    "telegram": lambda rng: ("", f"{rng.randrange(10**8, 10**10)}:AA{draw(rng, URL_SAFE, 33)}"),
    "discord": lambda rng: (
        "",
        f"{rng.choice('MN')}{draw(rng, ALNUM, 23)}.{draw(rng, ALNUM, 6)}.{draw(rng, URL_SAFE, 38)}",
    ),
    "azure": lambda rng: (
        "DefaultEndpointsProtocol=https;AccountName=store;AccountKey=",
        base64.b64encode(rng.randbytes(64)).decode(),
    ),
    "jwt": lambda rng: ("", jwt(rng)),
    "digitalocean": lambda rng: ("dop_v1_", draw(rng, HEX, 64)),
    "square": lambda rng: ("sq0atp-", draw(rng, URL_SAFE, 22)),
    "shopify": lambda rng: (rng.choice(["shpat_", "shpss_"]), draw(rng, HEX, 32)),
    "firebase": lambda rng: ("", f"AAAA{draw(rng, URL_SAFE, 7)}:APA91b{draw(rng, URL_SAFE, 134)}"),
    "email": lambda rng: ("", email(rng)),
    "ipv4": lambda rng: ("", ipv4(rng)),
    "ipv6": lambda rng: ("", ipv6(rng)),
    "url-password": lambda rng: (
        rng.choice(["postgres://app:", "mysql+pymysql://root:", "https://deploy:", "amqp://svc:", "redis://:"]),
        rng.choice([human(rng).replace("#", "").replace("%", ""), draw(rng, ALNUM, 16)]),
    ),
}
NAMED: dict[str, tuple[tuple[str, ...], Callable[[random.Random], str]]] = {  # kind -> names, and a value
    "password": (("password", "db_password", "userPasswd", "SMTP_PASS", "root_pwd", "admin_password"), human),
    "random-password": (("password", "DB_PASSWORD", "mysqlPassword"), lambda rng: draw(rng, ALNUM + "!#%+", 14)),
    "api-key": (("api_key", "API_KEY", "apiKey", "x-api-key", "datadog_api_key"), lambda rng: draw(rng, HEX, 32)),
    "secret": (("client_secret", "SECRET_KEY", "appSecret", "jwt_secret"), lambda rng: draw(rng, ALNUM, 32)),
    "aws-secret": (("aws_secret_access_key", "AWS_SECRET_ACCESS_KEY"), lambda rng: draw(rng, ALNUM + "+/", 40)),
    "token": (("auth_token", "ACCESS_TOKEN", "accessToken", "bot_token"), lambda rng: draw(rng, URL_SAFE, 40)),
    "heroku": (("HEROKU_API_KEY", "heroku_api_key"), lambda rng: str(uuid.UUID(int=rng.getrandbits(128), version=4))),
}

_LITERALS = {  # where a whole secret stands in a literal or comment; @ is the secret
    "python": (
        'CLIENT = connect("@", timeout=30)\n',
        "# see the ticket: @ has to go\nRETRIES = 3\n",
        'HEADERS = {\n    "x": 1,\n    "value": "@",\n}\n',
        'CONFIG = """\n[main]\nfirst = 1\nsecond = @\n"""\n',
        "def load():\n    '''Loads.\n\n    Ask @ for more.\n    '''\n    return b'@'\n",
        'print(f"{1 + 1}\\n@\\n")\n',
    ),
    "java": (
        'class A {\n    private static final String VALUE = "@";\n}\n',
        "/**\n * Talks to it.\n *\n * @author @\n */\nclass B { int x = 1; }\n",
        'class C {\n    void run() {\n        client.send(1, "first\\t@\\n" + name);\n    }\n}\n',
        "class D {\n    // was: @\n    int a;\n}\n",
    ),
    "javascript": (
        "const value = '@';\nmodule.exports = { value };\n",
        "fetch(`/x?y=1`, {\n  headers: { 'x-value': \"@\" },\n}).then(f);\n",
        "/* @ */\nlet a = [1, '@', 2];\n",
        "const text = `\nfirst: 1\nsecond: @\n`;\n",
    ),
    "cpp": (
        '#include <string>\nstatic const char* kValue = "@";\n',
        'int main() {\n  std::string v{"@"};\n  return run(a::b(v), "x");  // @\n}\n',
        'const char* text = R"(\nfirst=1\nsecond=@\n)";\n',
        '#define VALUE "@"\n/* @ */\nint x;\n',
    ),
    "go": (
        'package main\n\nconst value = "@"\n',
        "package main\n\n// Contact: @\nvar text = `\nfirst: 1\nsecond: @\n`\n",
        'package main\n\nfunc f() {\n\tcall(ctx, Options{Name: "x", Value: "@"})\n}\n',
    ),
}
_ASSIGNMENTS = {  # where a name is given a secret; NAME and @
    "python": (
        'NAME = "@"\n',
        "NAME: str = '@'\n",
        'settings = {"NAME": "@", "debug": True}\n',
        "client = connect(host, NAME='@')\n",
        'os.environ["NAME"] = "@"\n',
        'value = os.environ.get("NAME", "@")\n',
        'NAME = (\n    "@"\n)\n',
        'ENV = """\nexport NAME=@\n"""\n',
        "TEXT = '''\nmain:\n  NAME: @\n  other: 1\n'''\n",
        "# NAME=@\nx = 1\n",
        'line = "host=db NAME=@"\n',
        'if NAME == "@":\n    run()\n',
    ),
    "java": (
        'class A {\n    static final String NAME = "@";\n}\n',
        'class B {\n    void f() {\n        props.put("NAME", "@");\n    }\n}\n',
        'class C {\n    /* NAME: @ */\n    String s = "{\\"NAME\\": \\"@\\"}";\n}\n',
        'class D {\n    String NAME =\n        "@";\n}\n',
    ),
    "javascript": (
        "const NAME = '@';\n",
        "module.exports = {\n  'NAME': '@',\n};\n",
        'process.env["NAME"] = "@";\n',
        "const env = `\nNAME=@\n`;\n",
        'const value = process.env["NAME"] || "@";\n',
    ),
    "cpp": (
        'const std::string NAME = "@";\n',
        'std::string NAME{"@"};\n',
        '#define NAME "@"\n',
        'int main() {\n  setenv("NAME", "@", 1);\n  // NAME: @\n}\n',
    ),
    "go": (
        'package main\n\nvar NAME = "@"\n',
        'package main\n\nfunc f() {\n\tNAME := "@"\n\tuse(NAME)\n}\n',
        'package main\n\nvar m = map[string]string{\n\t"NAME": "@",\n}\n',
        "package main\n\nvar yaml = `\nNAME: @\n`\n",
    ),
}
_KEYS = ("RSA PRIVATE KEY", "EC PRIVATE KEY", "PRIVATE KEY", "OPENSSH PRIVATE KEY", "PGP PRIVATE KEY BLOCK")


def private_key(rng: random.Random) -> tuple[str, list[str]]:
    """The head of a PEM block's type, and its lines."""
    body = base64.b64encode(rng.randbytes(rng.randrange(110, 600))).decode()
    return rng.choice(_KEYS), [body[at : at + 64] for at in range(0, len(body), 64)]


def key_file(rng: random.Random, language: str) -> Planted:
    """A private key in a file: in a literal of many lines, escaped, joined of literals, or in a comment."""
    kind, lines = private_key(rng)
    whole = [f"-----BEGIN {kind}-----", *lines, f"-----END {kind}-----"]
    escaped = "\\n".join(whole)
    joined = " +\n    ".join(f'"{line}\\n"' for line in whole)
    side_by_side = "\n    ".join(f'"{line}\\n"' for line in whole)
    forms = {
        "python": [
            'KEY = """\n' + "\n".join(whole) + '\n"""\n',
            f'KEY = "{escaped}\\n"\n',
            f"KEY = (\n    {side_by_side}\n)\n",
        ],
        "java": [f"class A {{\n  String key = {joined};\n}}\n", f'class B {{ String key = "{escaped}"; }}\n'],
        "javascript": [
            "const key = `" + "\n".join(whole) + "`;\n",
            f"const key = {joined};\n",
            f"const k = '{escaped}';\n",
        ],
        "cpp": [f"const char* key =\n    {side_by_side};\n", "/*\n" + "\n".join(whole) + "\n*/\nint x;\n"],
        "go": ["package main\n\nvar key = `" + "\n".join(whole) + "`\n", f"package main\n\nvar key = {joined}\n"],
    }
    return Planted("private-key", language, rng.choice(forms[language]), tuple(line for line in lines if len(line) > 8))


def planted(seed: int, num_each: int) -> list[Planted]:
    """`num_each` files of every kind, each in a language and a place that chance picks."""
    rng = random.Random(seed)
    files = []
    languages = tuple(_LITERALS)
    for _ in range(num_each):
        for kind, token in TOKENS.items():
            language = rng.choice(languages)
            prefix, body = token(rng)
            tail = f"@db{rng.randrange(9)}.corp.net:5432/main" if kind == "url-password" else ""
            place = rng.choice(_LITERALS[language]).replace("@author @", "%author @")
            if kind in ("ipv4", "ipv6") and "VALUE" not in place:
                place = place.replace("@", rng.choice(["http://@/x", "@", "@"]) if kind == "ipv4" else "@")
            content = place.replace("@", prefix + body + tail).replace("%author", "@author")
            files.append(Planted(kind, language, content, (body,)))
        for kind, (names, value) in NAMED.items():
            language = rng.choice(languages)
            name, body = rng.choice(names), value(rng)
            place = rng.choice(_ASSIGNMENTS[language])
            name = name if f'"{"NAME"}"' in place or "'NAME'" in place else name.replace("-", "_")
            files.append(Planted(kind, language, place.replace("@", body).replace("NAME", name), (body,)))
        files.append(key_file(rng, rng.choice(languages)))
    return files
