"""Hostile programs: each is contained, judged as its header says, and changes nothing for the next program.

A program beside this file prints BREACH where an attack has worked. Its header names the verdicts that are right:
`passed` (it ran to its end), `left early` (exit code 0, but not to its end), `failed`, `killed`, `time`, `output`,
`memory`.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from codechoir.sandbox.cells import Cell
from codechoir.sandbox.isolation import Sandbox, open_sandbox
from codechoir.sandbox.jobs import Job, Step, StepLimits, StepResult

HERE = Path(__file__).parent
PROGRAMS = sorted(path for path in HERE.glob("*/*.*") if path.is_file() and path.name != "ruff.toml")
PYTHON = "/usr/bin/python3"
LIMITS = StepLimits(
    cpu_seconds=30, wall_seconds=90.0, memory_mib=128, memory_overhead=32, processes=16, file_mib=8, output_mib=1
)
CPU_LIMITS = replace(LIMITS, cpu_seconds=1)
# The JVM and V8 reserve far more than they use, and start many threads.
ROOMY = replace(LIMITS, memory_overhead=768, memory_limit="data", processes=64, cpu_seconds=60)
COMPILING = StepLimits(cpu_seconds=60, wall_seconds=120.0, memory_mib=1024, memory_limit="data", processes=64)


@dataclass(frozen=True)
class Language:
    source: str
    run: tuple[str, ...]
    trailer: str  # prints the marker
    compile: tuple[str, ...] = ()
    limits: StepLimits = LIMITS


LANGUAGES = {
    "python": Language("main.py", ("main.py",), "\nprint({!r})\n"),
    "shell": Language("main.sh", ("bash", "main.sh"), "\necho {}\n"),
    "perl": Language("main.pl", ("perl", "main.pl"), "\nprint '{}';\n"),
    "ruby": Language("main.rb", ("ruby", "--disable=gems", "main.rb"), "\nputs '{}'\n"),
    "php": Language("main.php", ("php", "main.php"), "\necho '{}';\n"),
    "lua": Language("main.lua", ("lua5.4", "main.lua"), "\nprint('{}')\n"),
    "javascript": Language("main.js", ("node", "main.js"), "\nconsole.log('{}');\n", limits=ROOMY),
    "cpp": Language(
        "main.cpp",
        ("./main",),
        '\n#include <cstdio>\nint main() {{\n    int code = attack();\n    puts("{}");\n    return code;\n}}\n',
        compile=("g++", "-w", "-O0", "-o", "main", "main.cpp"),
    ),
    "java": Language(
        "Main.java",
        ("java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", ".", "Main"),
        "\nclass Main {{\n    public static void main(String[] arguments) throws Exception {{\n"
        '        Attack.attack();\n        System.out.println("{}");\n    }}\n}}\n',
        compile=("javac", "-J-XX:TieredStopAtLevel=1", "-J-XX:+UseSerialGC", "-d", ".", "Main.java"),
        limits=ROOMY,
    ),
}


@dataclass(frozen=True)
class Surroundings:
    """What the host has that programs must neither see nor change."""

    sandbox: Sandbox
    cell: Cell
    secret: str
    folder: Path  # that anyone may write to
    environment: dict[str, str]
    server: socket.socket
    listener: socket.socket


@pytest.fixture(scope="module")
def host() -> Iterator[Surroundings]:
    secret = f"SECRET-{secrets.token_hex(16)}"
    sandbox = open_sandbox("bubblewrap")
    name = f"codechoir-{secrets.token_hex(8)}"
    with (
        tempfile.TemporaryDirectory() as top,
        tempfile.NamedTemporaryFile("w", dir=Path.home(), prefix=".planted-") as in_home,
        tempfile.NamedTemporaryFile(
            "w", dir=HERE if os.access(HERE, os.W_OK) else None, prefix=".planted-"
        ) as in_project,
        tempfile.NamedTemporaryFile("w", dir="/dev/shm", prefix="planted-") as in_memory,
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as listener,
        pytest.MonkeyPatch.context() as patch,
    ):
        Path(top).chmod(0o777)
        planted = Path(top) / "planted"
        planted.write_text(secret)
        for file in (in_home, in_project, in_memory):
            file.write(secret)
            file.flush()
            Path(file.name).chmod(0o666)
        patch.setenv("PLANTED_TOKEN", secret)
        listener.bind("\0" + name)
        listener.listen()
        for each in (server, listener):
            each.setblocking(False)
        paths = [str(planted), in_home.name, in_project.name, in_memory.name, str(HERE / "test_hostile.py")]
        environment = {
            "HOSTILE_PATHS": ":".join(paths),
            "HOSTILE_FOLDER": top,
            "HOSTILE_PORT": str(server.getsockname()[1]),
            "HOSTILE_ABSTRACT": name,
        }
        settings = tuple(str(path) for path in Path("/etc").glob("java-*-openjdk"))
        with Cell(sandbox, PYTHON, settings) as cell:
            yield Surroundings(sandbox, cell, secret, Path(top), environment, server, listener)


def job_of(language: Language, program: str, marker: str, limits: StepLimits, environment: dict[str, str]) -> Job:
    steps = [Step(name="compile", argv=language.compile, limits=COMPILING)] if language.compile else []
    run = Step(
        name="run",
        argv=language.run,
        limits=limits,
        environment=environment,
        removed=(language.source,) if language.compile else (),
        warm_python=language.source == "main.py",
    )
    source = program + language.trailer.format(marker)
    return Job(files={language.source: source.encode()}, steps=(*steps, run), marker=marker.encode())


def verdict(results: list[StepResult]) -> str:
    last = results[-1]
    assert last.name == "run", last
    if last.stopped:
        return last.stopped
    if last.signal:
        return "killed"
    if last.exit_code:
        return "failed"
    return "passed" if last.marker_seen else "left early"


def header(text: str, name: str) -> str:
    found = re.search(rf"^\W+{name}: (.*)$", text, re.MULTILINE)
    return found.group(1) if found else ""


@dataclass(frozen=True)
class Process:
    parent: int
    name: str
    user: int


def processes() -> dict[int, Process]:
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            name, rest = (path / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
            found[int(path.name)] = Process(int(rest.split()[1]), name, path.stat().st_uid)
        except OSError:
            continue
    return found


def survivors(sandbox: Sandbox) -> list[str]:
    """The processes that are not part of an idle cell: bubblewrap, the keeper, and a job's process 1 on its way out."""
    found = processes()
    ours = {pid for pid, each in found.items() if each.parent == os.getpid() and each.name == "bwrap"}
    keepers = {pid for pid, each in found.items() if each.parent in ours}
    leaving = {pid for pid, each in found.items() if each.parent in keepers}
    left = {pid for pid, each in found.items() if each.parent in leaving}
    if sandbox.user is not None:  # nobody else has it
        left |= {pid for pid, each in found.items() if each.user == sandbox.user} - ours - keepers - leaving
    return [found[pid].name for pid in left]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_is_contained(host: Surroundings, path: Path) -> None:
    language = LANGUAGES[path.parent.name]
    for command in (language.compile[:1], language.run[:1]):
        if command and command[0] not in ("main.py", "./main") and shutil.which(command[0]) is None:
            pytest.skip(f"no {command[0]}")
    text = path.read_text()
    # Something for it to find, of a program that ran before it.
    before = f"for folder in ('/tmp', '/dev/shm'):\n    open(folder + '/left', 'w').write({host.secret!r})"
    assert run_python(host, before) == "passed"
    limits = CPU_LIMITS if header(text, "limits") == "cpu" else language.limits
    expected = header(text, "expect").split(" or ")
    if expected == ["time"]:
        limits = replace(limits, wall_seconds=1.0)
    results = host.cell.run(job_of(language, text, secrets.token_hex(16), limits, host.environment))
    output = b"".join(result.output for result in results).decode(errors="replace")
    assert "BREACH" not in output
    assert host.secret not in output
    assert verdict(results) in expected, results
    # The next programs' verdicts are right, and by then nothing is left of this one.
    assert run_python(host, "assert sum([1, 2]) == 3") == "passed"
    assert run_python(host, "assert sum([1, 2]) == 4") == "failed"
    assert survivors(host.sandbox) == []
    assert [entry.name for entry in host.folder.iterdir()] == ["planted"]
    assert (host.folder / "planted").read_text() == host.secret
    for server in (host.server, host.listener):
        with pytest.raises(BlockingIOError):
            server.accept()


def run_python(host: Surroundings, program: str) -> str:
    return verdict(host.cell.run(job_of(LANGUAGES["python"], program, secrets.token_hex(16), LIMITS, {})))


def test_the_corpus_is_large_enough() -> None:
    assert len(PROGRAMS) >= 60 and len({path.parent for path in PROGRAMS}) >= 6


def test_after_all_of_it_no_process_is_left(host: Surroundings) -> None:
    host.cell.close()
    names = [each.name for each in processes().values() if each.parent == os.getpid()]
    assert "bwrap" not in names
    assert host.sandbox.user not in {each.user for each in processes().values()}
