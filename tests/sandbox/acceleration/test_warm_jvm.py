"""The resident Java compiler: what it is asked, what it answers, and that it remembers nothing."""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.artifacts import cache_dir
from codechoir.records import Status
from codechoir.sandbox.acceleration.assets import BuildError
from codechoir.sandbox.acceleration.service import ServiceError
from codechoir.sandbox.acceleration.warm_jvm import parse_reply, request, split_command
from codechoir.sandbox.isolation import open_sandbox
from codechoir.sandbox.programs import Limits, Runner
from codechoir.sandbox.toolchains.finding import missing_parts
from codechoir.sandbox.toolchains.table import TOOLCHAINS

LIMITS = Limits(cpu_seconds=60, wall_seconds=120.0)
PROGRAM = """\
class Problem {
    public static void main(String[] args) {
        %s
    }
}
%s
"""


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    if missing := missing_parts(TOOLCHAINS["java"]):
        pytest.skip(f"missing: {missing}")
    with Runner(open_sandbox("bubblewrap"), cache_dir()) as runner:
        yield runner


def test_nothing_of_a_program_is_there_for_the_next(runner: Runner) -> None:
    uses = "if (Other.seven() != 7) { throw new RuntimeException(); }"
    brings = "class Other { static int seven() { return 7; } }"
    assert runner.run("java", PROGRAM % (uses, brings), LIMITS).status is Status.PASSED
    refused = runner.run("java", PROGRAM % (uses, ""), LIMITS)
    assert refused.status is Status.TYPE_ERROR
    assert "cannot find symbol" in refused.output
    assert runner.run("java", PROGRAM % (uses, brings.replace("7", "8")), LIMITS).status is Status.RUNTIME_ERROR


def test_what_the_compiler_says_is_what_the_command_says(runner: Runner) -> None:
    program = PROGRAM % ('int x = "text"; undefined();', "")
    with Runner(open_sandbox("bubblewrap"), cache_dir(), accelerate=False) as plain:
        expected = plain.run("java", program, LIMITS)
    found = runner.run("java", program, LIMITS)
    assert (found.status, found.exit_code, found.output) == (expected.status, expected.exit_code, expected.output)


def test_a_program_that_the_compiler_breaks_on_is_compiled_plainly(runner: Runner) -> None:
    deep = "int x = " + "(" * 20_000 + "1" + ")" * 20_000 + ";"
    with Runner(open_sandbox("bubblewrap"), cache_dir(), accelerate=False) as plain:
        expected = plain.run("java", PROGRAM % (deep, ""), LIMITS)
    assert runner.run("java", PROGRAM % (deep, ""), LIMITS).status is expected.status
    assert runner.run("java", PROGRAM % ("", ""), LIMITS).status is Status.PASSED


def test_commands_are_split_into_machine_and_compiler() -> None:
    java = split_command("java", ("/usr/bin/javac", "-J-Xmx512m", "-J-XX:+UseSerialGC", "-nowarn", "P.java"))
    assert (java.flags, java.arguments, java.class_path) == (("-Xmx512m",), ("-nowarn", "P.java"), ())
    assert java.machine.name == "java"
    scala = split_command(
        "scala", ("/usr/bin/java", "-Xss4m", "-cp", "a.jar:b.jar", "scala.tools.nsc.Main", "-d", ".", "p.scala")
    )
    assert (scala.flags, scala.arguments) == (("-Xss4m",), ("-d", ".", "p.scala"))
    assert scala.class_path == ("a.jar", "b.jar")
    for compiler, command in (("java", ("/usr/bin/ecj", "P.java")), ("scala", ("/usr/bin/scalac", "p.scala"))):
        with pytest.raises(BuildError):
            split_command(compiler, command)  # type: ignore[arg-type]


@given(st.lists(st.text()), st.dictionaries(st.text(min_size=1), st.binary()))
def test_a_request_holds_all_that_was_given(arguments: list[str], files: dict[str, bytes]) -> None:
    data = request(arguments, files)
    fields = [text.encode() for text in arguments] + [part for name in files for part in (name.encode(), files[name])]
    assert len(data) == 8 + sum(4 + len(field) for field in fields)
    at = 4
    for number, field in enumerate(fields):
        at += 4 if number == len(arguments) else 0  # the number of files
        (size,) = struct.unpack_from(">i", data, at)
        assert data[at + 4 : at + 4 + size] == field
        at += 4 + size


def test_a_reply_is_read_and_one_cut_short_is_refused() -> None:
    reply = struct.pack(">iq", 0, 1_500_000_000) + b"\0\0\0\2hi" + b"\0\0\0\1" + b"\0\0\0\7A.class" + b"\0\0\0\3\1\2\3"
    answer = parse_reply(reply)
    assert (answer.code, answer.cpu_seconds, answer.output) == (0, 1.5, b"hi")
    assert answer.files == {"A.class": b"\1\2\3"}
    for size in range(len(reply)):
        with pytest.raises((ServiceError, struct.error)):
            parse_reply(reply[:size])


def test_the_server_is_part_of_the_package() -> None:
    import codechoir.sandbox.acceleration as package

    assert (Path(package.__path__[0]) / "CompileServer.java").is_file()
