"""Planted secrets go, what only looks like one stays, and files parse as before: tree-sitter and ipaddress judge.

The planted files are `planted_secrets.py`'s. Lines here are cases of their own: [[...]] marks what must go.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.files.planted_secrets import Planted, planted

from codechoir.config import Config
from codechoir.data.config import SecretConfig
from codechoir.data.files.secret_kinds import KINDS
from codechoir.data.files.secret_values import is_dummy, is_placeholder, stand_in
from codechoir.data.files.secrets import Redaction, redact
from codechoir.data.files.syntax import num_syntax_errors
from codechoir.errors import ConfigError
from codechoir.languages import LANGUAGES, language

DEFAULTS = SecretConfig.model_validate({})
LONGEST_LEFT = 8  # characters of a secret that may be left in a row, unless these are all of it
PYTHON, JAVASCRIPT, CPP = language("python"), language("javascript"), language("cpp")


def configured(**values: object) -> SecretConfig:
    return SecretConfig.model_validate(values)


def redacted(content: str, name: str = "python") -> Redaction:
    return redact(content, language(name), DEFAULTS)


def is_left(secret: str, content: str) -> bool:
    num = LONGEST_LEFT + 1
    return any(secret[at : at + num] in content for at in range(max(1, len(secret) - num + 1)))


@dataclass(frozen=True)
class Case:
    file: Planted
    result: Redaction


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [Case(file, redacted(file.content, file.language)) for file in planted(seed=7, num_each=16)]


def test_no_planted_secret_is_left(cases: list[Case]) -> None:
    assert len(cases) >= 500
    assert len({case.file.kind for case in cases}) >= 20
    left = [case for case in cases if any(is_left(body, case.result.content) for body in case.file.bodies)]
    assert left == []


def test_files_with_planted_secrets_parse_as_before(cases: list[Case]) -> None:
    for case in cases:
        spoken = language(case.file.language)
        assert num_syntax_errors(case.file.content, spoken) == 0, case.file.content
        assert num_syntax_errors(case.result.content, spoken) == 0, case.result.content


def test_redacting_twice_changes_nothing_more(cases: list[Case]) -> None:
    for case in cases:
        assert redacted(case.result.content, case.file.language) == Redaction(case.result.content, ())


def test_nothing_but_the_findings_is_changed(cases: list[Case]) -> None:
    for case in cases:
        content, rebuilt, done = case.file.content, [], 0
        for finding in case.result.findings:
            assert done <= finding.start < finding.end
            assert finding.line == content[: finding.start].count("\n") + 1
            assert finding.kind in KINDS
            rebuilt += [content[done : finding.start], finding.replacement]
            done = finding.end
        assert "".join([*rebuilt, content[done:]]) == case.result.content


def test_summaries_show_no_secret(cases: list[Case]) -> None:
    for case in cases:
        summary = case.result.summary()
        assert "\n" not in summary
        assert not any(is_left(body, summary) for body in case.file.bodies)
        assert all(finding.kind in summary for finding in case.result.findings)


PLACES = r"""
jdbc:mysql://db.corp.net/app?user=root&password=[[hunter77]]
String url = "jdbc:postgresql://h/db?user=u&password=[[Zx9!kfp2]]&ssl=true";
conn = "Server=db;Database=x;User Id=sa;Password=[[P@ssw0rd!x9]];"
"Endpoint=sb://x.windows.net/;SharedAccessKeyName=Root;SharedAccessKey=[[kT9fQwE3zXcV7bN1mL5pO8iU2yT6rE4wQ0aSdFgHjKl=]]"
requests.get(url, auth=("bob", "[[Tr0ub4dor&3]]"))
curl -u bob:[[S3cr3tStuff9]] https://api.corp.net
# curl -H "Authorization: Bearer [[8f7a6b5c4d3e2f1a9b9c8d7e]]" https://x
headers = {"Authorization": "Basic [[Ym9iOmh1bnRlcjc3IQ==]]"}
headers["X-Api-Key"] = "[[a8F3kd92LxQ0pZ7v]]"
.setPassword("[[Winter2022!]]")
.password("[[hunter77]]")
.withPassword('[[kX9#mP2$vL5q]]')
<property name="password" value="[[s3cureDbPw9]]"/>
<connectionString password="[[s3cureDbPw9]]" />
<password>[[s3cureDbPw9]]</password>
ENV DB_PASSWORD=[[s3cureDbPw9]]
- POSTGRES_PASSWORD=[[s3cureDbPw9]]
export AWS_SECRET_ACCESS_KEY="[[wJ9rXUtnFEMIzK7MDENGabPxRfiCYzzq8WkLmNoP]]"
aws_access_key_id = [[AKIAQ7XW3ZP5LM2K9VTD]]
//registry.corp.net/:_authToken=[[7b3e9a52-1c4d-4f8a-9e6b-2d5f8c1a7e30]]
$password = '[[s3cureDbPw9]]';
define('DB_PASSWORD', '[[s3cureDbPw9]]');
let password = String::from("[[Kx83-mfpQ-29vL]]");
val apiKey: String = "[[a8F3kd92LxQ0pZ7v]]"
var password string = "[[hunter77]]"
char pw[32] = "[[hunter77]]";
mysql --password=[[hunter77]] -u root
psql "host=db user=app password=[[hunter77]] dbname=x"
"{\"token\":\"[[a8F3kd92LxQ0pZ7vB5nM1cX4]]\"}"
:password => '[[hunter77]]',
secret = "[[a8F3kd92LxQ0]]" + "[[pZ7vB5nM1cX4]]"
https://x.com/?api_key=[[a8F3kd92LxQ0pZ7vB5nM1cX4]]&y=1
https://[[ghp_a8F3kd92LxQ0pZ7vB5nM1cX4zL6kJ3hG9fDs]]@github.com/x/y.git
https://oauth2:[[glpat-x8F3kd92LxQ0pZ7vB5nM]]@gitlab.com/x/y.git
mongodb+srv://admin:[[M0ngoP4ss]]@cluster0.ab1cd.mongodb.net/test
smtp://[[jane.doe@corp.net]]:[[hunter77x]]@smtp.corp.net:587
Copyright (c) 2019 Jane Doe <[[jane.doe@corp.net]]>
__author__ = "[[jane@doe.name]]"
 * @author [[Jürgen.Müller@firma.de]]
mail = "\n[[jane.doe+spam@gmail.com]]\n"
mailto:[[jane.doe@corp.net]]?subject=x
ping [[54.201.33.7]]
http://[[54.201.33.7]]:8080/x
allowed = ["[[54.201.33.7]]", "[[91.7.200.31]]"]
{"ip": "[[3.15.8.21]]"}
http://[[[2a01:4f8:c17:b0f::2]]]:80/
boto3.client("s3", "[[AKIAQ7XW3ZP5LM2K9VTD]]", "[[wJ9rXUtnFEMIzK7MDENGabPxRfiCYzzq8WkLmNoP]]")
SECRET_KEY = '[[django-insecure-k8#v$0z!m3x@q5^w&7e*r9t(y1u)i2o_p4a-s6d=f8g]]'
SENTRY_DSN = "https://[[9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c]]@o1234.ingest.sentry.io/567"
# the password is [[hunter77]], do not tell
password == "[[hunter77]]"
private_key = "[[4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318]]"
const secret = Buffer.from("[[a8F3kd92LxQ0pZ7vB5nM1cX4]]", "hex");
PASSWORD = '[[correcthorsebatterystaple]]'
password = "[[letmein]]"
token = "[[ya29.a0AfH6SMBx8F3kd92LxQ0pZ7vB5nM1cX4zL6kJ3hG9fDs]]"
"""


@pytest.mark.parametrize("line", PLACES.strip().split("\n"))
def test_secrets_are_found_where_people_put_them(line: str) -> None:
    secrets = re.findall(r"\[\[(.*?)\]\]", line)
    plain = re.sub(r"\[\[(.*?)\]\]", r"\1", line)
    for spoken in (PYTHON, JAVASCRIPT, CPP):
        once = redact(plain, spoken, DEFAULTS)
        assert not [secret for secret in secrets if is_left(secret, once.content)], once.content
        assert redact(once.content, spoken, DEFAULTS).content == once.content


CONFIGURATION = "db.password=s3cureDbPw9\nspring.datasource.password: s3cureDbPw9\nTOKEN=a8F3kd92LxQ0pZ7v\n"


def test_values_without_quotes_are_taken_where_they_are_no_code() -> None:
    assert len(redacted(CONFIGURATION, "shell").findings) == 3
    assert len(redacted(f'text = """\n{CONFIGURATION}"""\n').findings) == 3
    code = "password = hunter2\nconnect(password=hunter2)\nself.password = other.hunter2\n"
    assert redacted(code).content == code


LOOK_ALIKES = r"""
version = "1.2.3.4"
[assembly: AssemblyVersion("4.0.0.0")]
VERSIONS = ["1.2.3.4", "2.10.0.1", "10.4.2.91"]
# since v8.31.2.77
UA = "Mozilla/5.0 (X11) AppleWebKit/537.36 Chrome/91.0.44.124 Safari/537.36"
requires = ["foo==52.1.2.3", "bar>=12.55.1.2"]
jar = "commons-52.1.44.3.jar"
oid = "1.3.6.1.4.1", "2.5.29.15", "1.3.101.112"
// see section 52.4.2.71 of the standard
sha1 = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
commit = "9fceb02d0ae598e95dc970b74767f19372d61af8"
sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
md5 = 'd41d8cd98f00b204e9800998ecf8427e'
"integrity": "sha512-t7XvcwKyXhN9vKm3q2yRrLp8sTz4wEuYbNf1oHcGdJjAxVkQ6iSgUhPlCmBnTeRfWvDzXyMoKqLsJpHtGrFcBw==",
"resolved": "https://registry.example.com/foo/-/foo-1.0.0.tgz#9fceb02d0ae598e95dc970b74767f19372d61af8"
id = "550e8400-e29b-41d4-a716-446655440000"; request_token = "6b29fc40-ca47-1067-b31d-00dd010662da"
api_key = "0000000000000000"
secret = "xxxxxxxxxxxxxxxxxxxx"
password = "changeme", password = "password", password = "xxxx", password = "secret", password = "test1234"
password = "********", password = "<password>", password = "your-password-here", password = "12345678"
api_key = "your-api-key-here"
API_KEY=YOUR_API_KEY
aws = "AKIAIOSFODNN7EXAMPLE"
aws_secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
mail = "user@example.com", "a.b@mail.example.org", "me@host.test", "x@y.invalid", "root@localhost"
hosts = ["127.0.0.1", "0.0.0.0", "255.255.255.0", "10.1.2.3", "172.16.4.4", "172.31.200.7", "192.168.1.77"]
hosts = ["169.254.3.4", "192.0.2.44", "198.51.100.7", "203.0.113.99", "224.0.0.251", "::1", "fe80::1", "2001:db8::17"]
network = "173.245.48.0/20"; server = "8.8.8.8"
password = get_password()
token = os.environ["TOKEN"]
password: str
password: Optional[str] = None
def f(password, token=None, secret=DEFAULT_SECRET): pass
token = self.tokens[i2]; secret = config.secret_v2; Ed25519PrivateKey = ed25519.Ed25519PrivateKey
a::b::c std::chrono::seconds(5) ::1 ::std::move
@property
@app.route("/x")
"foo\n@app.route('/x')"
npm i @angular/core@1.2.3 lodash@4.17.21 @types/node@18.11.9
git clone git@github.com:x/y.git
ssh user@host
at 12:30:45 and 2021-03-04T12:30:45.123Z
x = 3.14159265358979; y = 1e-10; z = 0x1234567890abcdef1234567890abcdef
secret = 0x9fceb02d0ae598e95dc970b74767f193
secretKeyFactoryBuilder = new SecretKeyFactoryBuilder()
"tokens": ("Deb822WhitespaceToken", token2), "token2wav_config": Qwen2_5OmniToken2WavConfig,
"password": "Passwort", "password": "Mot de passe", "password": "Contrase\u00f1a", 'password': 'wachtwoord'
"token": "token_type_hint", "token_type": "Bearer", "tokenUrl": "https://x.com/oauth2/v1/token"
{token: "keyword.operator.x2", regex: "abc1"}
<input type="password" name="password1" id="id_password2" placeholder="Password">
fields = ["password", "email2"]; raise ValueError('Cannot pass "callback=" here')
data = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
img = "logo@2x.png"
mac = "00:1A:2B:3C:4D:5E"; eui = "00:11:22:33:44:55:66:77"
y = x@self.weight.to(device)
postgres://user:password@localhost/db http://user:pass@host/ redis://:${PASS}@h amqp://guest:guest@localhost
f"http://{self.user}:{self.password}@{self.host}/" f"password={password!r}"
"redis://localhost:6379/0" "http://example.com:8080/a@b"
password = "%s" % pw; password = f"{user}123"; password = "${DB_PASSWORD1}"
password_hash = "5f4dcc3b5aa765d61d8327deb882cf99"
password = "$2b$12$KIXQj5z1a8dPqO2vW3rXeuZ9yT7mN4bL6cH8fG0jS1kD2lE3mR4tU"
"rules": {"password": "required|min:6|max:32"}
PASSWORD_REGEX = r"^(?=.*\d)(?=.*[a-z]).{8,}$"
raise ValueError("password must be 8 characters")
cache_key = "f3a9b2c1d4e5f60718293a4b5c6d7e8f"; primary_key = "id2"; foreign_key = "abc12345def"
public_key = "04a1b2c3d4e5f60718293a4b5c6d7e8f9a0b1c2d3e4f5061728394a5b6c7d8e9f0"
x[2000::2], a[::2], b[2024::5]
sk-fading-circle-delay-10 .sk-cube-grid-of-nine-2 task-sk-something-like-a-very-long-name2
hf_config_path_name_is_long_enough_to_be_seen_1
"-----BEGIN CERTIFICATE-----\nMIIDXTCCAkWgAwIBAgIJAJC1HiIAZAiIMA0GCSqGSIb3DQEBBQ\n-----END CERTIFICATE-----"
if line == "-----BEGIN RSA PRIVATE KEY-----": displayPublicKeyEncryptedPassphrasePrompt("-----END RSA PRIVATE KEY-----")
"-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----"
return this@MainActivity.name
SOME_VERY_LONG_CONSTANT_NAME_WITH_A_NUMBER_2_IN_IT_AND_MORE X509v3SubjectKeyIdentifierExtensionValueParser2
secret="abcdefghijklmnopqrstuvwxyz"; key = "0123456789abcdef0123456789abcdef"
{{ secrets.GITHUB_TOKEN }} ${{ secrets.API_KEY2 }}
kex = "curve25519-sha256@libssh.org"
"""


@pytest.mark.parametrize("line", LOOK_ALIKES.strip().split("\n"))
def test_what_only_looks_like_a_secret_stays(line: str) -> None:
    for spoken in (PYTHON, JAVASCRIPT, CPP):
        assert redact(line, spoken, DEFAULTS) == Redaction(line, ())


KEY = [base64.b64encode(bytes(range(at, at + 48))[::-1]).decode() for at in range(0, 96, 5)] + ["QwX9bGc="]


@pytest.mark.parametrize("kind", ["RSA PRIVATE KEY", "EC PRIVATE KEY", "PRIVATE KEY", "OPENSSH PRIVATE KEY"])
@pytest.mark.parametrize(
    ("joint", "around"),
    [
        ("\n", '"""'),
        ("\\n", '"'),
        ('\\n" +\n    "', '"'),
        ("\n# ", ""),
        ('");\nkey.append("', '"'),
        ("\r\n", "`"),
    ],
)
def test_a_private_key_goes_and_what_joins_its_lines_stays(kind: str, joint: str, around: str) -> None:
    content = f"{around}-----BEGIN {kind}-----{joint}{joint.join(KEY)}{joint}-----END {kind}-----{around}"
    once = redacted(content)
    assert {finding.kind for finding in once.findings} == {"private-key"}
    assert not [line for line in KEY if is_left(line, once.content)]
    assert once.content.count(joint) == content.count(joint)
    assert len(once.content) == len(content)
    assert redacted(once.content).content == once.content


def test_a_private_key_without_an_end_goes_and_code_below_stays() -> None:
    below = "\n" * 70 + "some_function_with_a_long_name_that_is_no_key_1 = 1\n"
    once = redacted("-----BEGIN PRIVATE KEY-----\n" + "\n".join(KEY) + below)
    assert not [line for line in KEY if is_left(line, once.content)]
    assert once.content.endswith(below)


def test_an_encoded_private_key_goes() -> None:
    lines = "\n".join(KEY)
    encoded = base64.b64encode(f"-----BEGIN PRIVATE KEY-----\n{lines}".encode()).decode()
    public = base64.b64encode(f"-----BEGIN PUBLIC KEY-----\n{lines}".encode()).decode()
    assert not is_left(encoded[14:], redacted(f"data: {encoded}\n").content)
    assert redacted(f"data: {public}\n").findings == ()


def only(content: str) -> str:
    (finding,) = redacted(content).findings
    return finding.replacement


def test_stand_ins_keep_the_shape() -> None:
    assert re.fullmatch(r"AKIA[A-Z0-9]{16}", only("k = 'AKIAQ7XW3ZP5LM2K9VTD'"))
    assert re.fullmatch(r"ghp_[A-Za-z0-9]{36}", only("k = 'ghp_a8F3kd92LxQ0pZ7vB5nM1cX4zL6kJ3hG9fDs'"))
    assert re.fullmatch(r"dop_v1_[0-9a-f]{64}", only(f"k = 'dop_v1_{'4c0883a69102937d' * 2}{'62318f6e5d4c3b2a' * 2}'"))
    assert re.fullmatch(r"[0-9a-f]{32}", only("api_key = '9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c'"))
    assert re.fullmatch(r"user\d{5}@example\.(com|org|net)", only("jane.doe@corp.net"))


def test_addresses_become_documentations_own() -> None:
    four, six = only('host = "54.201.33.7"'), only('host = "2a01:4f8:c17:b0f::2"')
    networks = [ipaddress.ip_network(one) for one in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")]
    assert any(ipaddress.ip_address(four) in network for network in networks)
    assert ipaddress.ip_address(six) in ipaddress.ip_network("2001:db8::/32")


def test_the_same_secret_has_the_same_stand_in_wherever_it_is() -> None:
    token = "ghp_a8F3kd92LxQ0pZ7vB5nM1cX4zL6kJ3hG9fDs"
    assert only(f"token = '{token}'") == only(f"# {token}") == only(f"https://{token}@github.com/x")
    assert only("hunter77@corp.net") == only("mail = 'Hunter77@corp.net'")
    assert only("host = '54.201.33.7'") == only("http://54.201.33.7:80/") != only("host = '54.201.33.8'")
    # written down, so that a later version that draws other stand-ins fails here
    assert only("jane.doe@corp.net") == "user23894@example.net"


def test_overlapping_finds_are_one() -> None:
    token = "ghp_a8F3kd92LxQ0pZ7vB5nM1cX4zL6kJ3hG9fDs"
    once = redacted(f'token = "x1-{token}-Zz9"')
    (finding,) = once.findings
    assert (finding.kind, finding.start, finding.end) == ("github-token", 9, 9 + len(token) + 7)
    assert not is_left(token[4:], once.content)


def test_a_key_keeps_its_name_in_the_table_of_kinds() -> None:
    assert [one.kind for one in redacted("token = 'ghp_a8F3kd92LxQ0pZ7vB5nM1cX4zL6kJ3hG9fDs'").findings] == [
        "github-token"
    ]
    assert len(KINDS) == len(set(KINDS)) >= 20


def test_the_summary_names_kinds_and_lines() -> None:
    content = (
        "# jane@corp.net\nx = 1\npassword = 'hunter77'  # bob@corp.net\n# al@corp.net\n# al@corp.net, bo@corp.net\n"
    )
    assert redacted(content).summary() == "6 replaced: email (lines 1, 3-5), password (line 3)"
    assert redacted("x = 1\n").summary() == "no secrets or personal data found"


def test_kinds_can_be_skipped_and_values_kept() -> None:
    content = "# jane@corp.net bob@corp.net\npassword = 'hunter77'\n"
    assert redact(content, PYTHON, configured(skip=["email", "password"])).content == content
    kept = redact(content, PYTHON, configured(keep=[r"jane@.*", r"hunter\d\d"]))
    assert [finding.kind for finding in kept.findings] == ["email"]
    assert "jane@corp.net bob" not in kept.content.replace("bob", "")
    # a pattern has to match the whole
    assert redact(content, PYTHON, configured(keep=["hunter"])).findings[-1].kind == "password"


@pytest.mark.parametrize(("key", "value"), [("skip", ["emails"]), ("keep", ["("])])
def test_an_unknown_kind_and_a_broken_pattern_are_refused(key: str, value: list[str]) -> None:
    kind: type[Config] = SecretConfig
    with pytest.raises(ConfigError, match=key):
        kind.parse({key: value}, "a test")


TEXT = st.text(st.characters(codec="utf-8"), max_size=60)
SCRAPS = (
    "password|token|api_key| = |: |\"|'|`|\\|\n|\\n|@|://|:|.|#|(|{|::|=|+|-|_|/|1|sk-|ü|😀|İ|Bearer |jane|corp.net"
    "|hunter77|a8F3kd92LxQ0pZ7v|9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c|54.201.33.7|2a01|AKIAQ7XW3ZP5LM2K9VTD|eyJhbGciOiJ9"
    "|ghp_a8F3kd92LxQ0pZ7vB5nM1cX4zL6kJ3hG9fDs|-----BEGIN PRIVATE KEY-----|-----END PRIVATE KEY-----"
)
PIECES = st.sampled_from([*SCRAPS.split("|"), *KEY[:2]])


@given(st.lists(PIECES, max_size=24).map("".join), st.sampled_from(sorted(LANGUAGES)))
def test_redacting_holds_its_promises_on_any_text(content: str, name: str) -> None:
    once = redact(content, LANGUAGES[name], DEFAULTS)
    assert redact(content, LANGUAGES[name], DEFAULTS) == once
    twice = redact(once.content, LANGUAGES[name], DEFAULTS)
    assert twice.content == once.content
    for character in "\"'`\\\n\r":
        assert once.content.count(character) <= content.count(character)
    done = 0
    for finding in once.findings:
        assert done <= finding.start < finding.end <= len(content)
        done = finding.end


@given(TEXT)
def test_any_text_is_taken(content: str) -> None:
    assert redacted(content, "shell").content.count("\n") == content.count("\n")


@given(TEXT, st.integers(0, 4))
def test_a_stand_in_is_a_dummy_and_brings_nothing_that_breaks_a_literal(text: str, keep: int) -> None:
    secret = text[keep:]
    replaced = stand_in(secret)
    assert is_dummy(replaced)
    assert is_placeholder(replaced)
    assert not set(replaced) & set("\"'`\\\n\r ")
    assert replaced.isascii()
    assert stand_in(text, keep).startswith(text[:keep])


@pytest.mark.parametrize(
    "piece", ["a", "@", "0.", ":", "-", "a@", "a:", "://a:", "eyJ", "a1", "=", '"', "é", ".a", "1_"]
)
def test_one_long_line_takes_no_time_that_grows_with_its_square(piece: str) -> None:
    content = piece * (300_000 // len(piece))  # minutes, if any search were quadratic
    assert redacted(content).content == content


@pytest.mark.parametrize("piece", ["BEGIN PRIVATE KEY-----\n", "password=", "token: ", "2001:", "bearer ", "curl -u "])
def test_many_beginnings_of_secrets_do_not_either(piece: str) -> None:
    content = piece * (100_000 // len(piece))
    assert redacted(content).content == content


@pytest.mark.parametrize(
    "body", ["A", "a", "aA", "Aa", "A1", "1", "password", "nono", ".", "a.", "a-", "a->", "|a", "{a", "\\"]
)
def test_no_value_is_judged_in_exponential_time(body: str) -> None:
    for end in ("", "!", "!1b", "_1", "}"):
        content = f'token = "{body * (500 // len(body))}{end}"\npassword = "{body * (60 // len(body))}{end}"\n'
        assert redacted(content).content.count("\n") == 2


@pytest.mark.parametrize(
    "content",
    [
        "://54.|2a01:4f8:1::2@gmail.com|",
        "auth=(+x}2a01curl -u password2a01:4f8:1::2}a8F3kd92LxQ0pZ7v",
        ",9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c`<-----BEGIN PRIVATE KEY-----9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c/*x/0@gmail.com",
    ],
)
def test_what_a_stand_in_makes_of_its_neighbours_is_replaced_with_it(content: str) -> None:
    once = redacted(content)
    assert once.findings
    assert redacted(once.content) == Redaction(once.content, ())
