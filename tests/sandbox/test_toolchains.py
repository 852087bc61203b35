"""The toolchains beside the plain way: each program in a process of its own, with MultiPL-E's commands and criteria.

Also what is found of them on a machine, and what is told of those that are not there.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from tests.sandbox.programs.endings import LANGUAGES

from codechoir.artifacts import cache_dir
from codechoir.errors import ConfigError, ToolMissingError
from codechoir.languages import LANGUAGES as STACK_LANGUAGES
from codechoir.languages import MEASURED_ONLY
from codechoir.records import Status
from codechoir.sandbox.isolation import SEARCH_PATH, open_sandbox
from codechoir.sandbox.programs import Limits, Runner
from codechoir.sandbox.toolchains import typescript
from codechoir.sandbox.toolchains.finding import find_program, missing_parts, toolchain_version, visible_paths
from codechoir.sandbox.toolchains.shared import shared_cache
from codechoir.sandbox.toolchains.table import TOOLCHAINS, toolchain_of

Done = subprocess.CompletedProcess[str]
JAVATUPLES = "/usr/share/java/javatuples.jar"


def exits_well(done: Done) -> bool:
    return done.returncode == 0


def says_nothing_else(done: Done) -> bool:
    return done.returncode == 0 and done.stderr == ""


# For each language: file name, commands, and what MultiPL-E takes for success of the last one.
PLAIN: dict[str, tuple[str, list[list[str]], Callable[[Done], bool]]] = {
    "python": ("a.py", [["python3", "a.py"]], exits_well),
    "cpp": ("a.cpp", [["g++", "a.cpp", "-o", "a", "-std=c++17"], ["./a"]], exits_well),
    "java": (
        "a.java",
        [
            ["javac", "-encoding", "UTF8", "-cp", JAVATUPLES, "-d", "out", "a.java"],
            ["java", "-ea", "-cp", f"out:{JAVATUPLES}", "Problem"],
        ],
        exits_well,
    ),
    "javascript": ("a.js", [["node", "a.js"]], exits_well),
    "typescript": ("a.ts", [["tsc", "--target", "esnext", "--strict", "false", "a.ts"], ["node", "a.js"]], exits_well),
    "go": ("a_test.go", [["go", "test", "a_test.go"]], lambda done: "FAIL" not in done.stdout and done.returncode == 0),
    "rust": ("a.rs", [["rustc", "a.rs", "-o", "a"], ["./a"]], exits_well),
    "php": ("a.php", [["php", "a.php"]], exits_well),
    "ruby": ("a.rb", [["ruby", "a.rb"]], exits_well),
    "perl": ("a.pl", [["perl", "a.pl"]], lambda done: exits_well(done) and "ERROR" not in done.stdout + done.stderr),
    "lua": ("a.lua", [["lua5.4", "a.lua"]], exits_well),
    "r": ("a.r", [["Rscript", "a.r"]], exits_well),
    "shell": ("a.sh", [["bash", "a.sh"]], exits_well),
    "racket": ("a.rkt", [["racket", "a.rkt"]], says_nothing_else),
    "csharp": (
        "a.cs",
        [["mcs", "-d:DEBUG", "-r:System.Numerics.dll", "a.cs", "-out:a.exe"], ["mono", "a.exe"]],
        lambda done: exits_well(done) and "DefaultTraceListener.Fail" not in done.stderr,
    ),
    "d": ("a.d", [["ldc2", "-unittest", "-main", "a.d", "-of=a"], ["./a"]], exits_well),
    "scala": ("a.scala", [["scalac", "-d", "out", "a.scala"], ["scala", "-cp", "out", "Problem"]], says_nothing_else),
}


def passes_plainly(language: str, program: str, folder: Path) -> bool:
    """Whether a program passes as MultiPL-E runs and judges it."""
    name, commands, well = PLAIN[language]
    (folder / "out").mkdir(parents=True)
    (folder / name).write_text(program, encoding="utf-8")
    environment = {"PATH": SEARCH_PATH, "HOME": str(folder), "LANG": "C.UTF-8", "MONO_TRACE_LISTENER": "Console.Error"}
    for command in commands:
        program_path = find_program(command[0]) or command[0]
        done = subprocess.run(
            [program_path, *command[1:]], cwd=folder, env=environment, capture_output=True, text=True, errors="replace"
        )
        if command is not commands[-1] and done.returncode != 0:
            return False
    return well(done)


@pytest.mark.parametrize("language", TOOLCHAINS)
def test_verdicts_are_those_of_plain_separate_processes(language: str, tmp_path: Path) -> None:
    toolchain = TOOLCHAINS[language]
    if missing := missing_parts(toolchain):
        pytest.skip(f"missing: {', '.join(missing)}")
    bodies = LANGUAGES[language]
    texts = [bodies.program(body) for body in (bodies.right, bodies.wrong, bodies.unparsable)]
    texts += toolchain.good
    with Runner(open_sandbox("bubblewrap"), cache_dir()) as runner:
        ours = [runner.run(language, text, Limits(cpu_seconds=120, wall_seconds=300.0)) for text in texts]
    folders = [tmp_path / str(number) for number in range(len(texts))]
    with ThreadPoolExecutor(2) as pool:
        plain = list(pool.map(lambda text, folder: passes_plainly(language, text, folder), texts, folders))
    assert [outcome.status is Status.PASSED for outcome in ours] == plain
    assert plain.count(True) == 1 + len(toolchain.good)


def test_every_toolchain_is_of_a_known_language_with_tests_of_multipl_e() -> None:
    known = STACK_LANGUAGES | MEASURED_ONLY
    assert len(TOOLCHAINS) == 17
    for name, toolchain in TOOLCHAINS.items():
        assert name == toolchain.language and known[name].multipl_e


@pytest.mark.parametrize("toolchain", TOOLCHAINS.values(), ids=TOOLCHAINS)
def test_every_toolchain_can_be_judged(toolchain) -> None:
    """It has a trailer with both halves of the marker, and known programs of every kind that it tells apart."""
    assert toolchain.trailer.count("{head}") == toolchain.trailer.count("{tail}") == 1
    assert "{head}{tail}" not in toolchain.trailer
    known = {one.status for one in toolchain.bad}
    assert {Status.FAILED_ASSERTION, Status.DOES_NOT_COMPILE} <= known and toolchain.good
    assert (Status.TYPE_ERROR in known) == bool(toolchain.compile)
    for failure in (*toolchain.failures, *toolchain.compile_failures):
        re.compile(failure.pattern)
    assert toolchain.packages and toolchain.install.startswith("apt-get install ")
    assert hash(toolchain) != hash(replace(toolchain, source="other"))


def test_an_unknown_language_has_none() -> None:
    assert toolchain_of("cpp") is TOOLCHAINS["cpp"]
    with pytest.raises(ConfigError, match="python, cpp, java"):
        toolchain_of("swift")


def test_missing_parts_are_programs_and_files() -> None:
    lacking = replace(TOOLCHAINS["python"], programs=("python3", "no-such"), files=("/usr", "/no/such.jar"))
    assert missing_parts(lacking) == ["no-such", "/no/such.jar"]
    assert missing_parts(TOOLCHAINS["python"]) == []


def test_versions_are_what_the_programs_say() -> None:
    said = subprocess.run(["/usr/bin/perl", "-e", "print $^V"], capture_output=True, text=True).stdout
    assert toolchain_version(TOOLCHAINS["perl"]) == f"perl {said}"
    assert toolchain_version(replace(TOOLCHAINS["perl"], version=("no-such", "--version"))) == ""
    assert toolchain_version(replace(TOOLCHAINS["perl"], version=("false",))) == ""
    assert toolchain_version(replace(TOOLCHAINS["perl"], version=("echo", "12.5"))) == "echo 12.5"


def test_only_what_exists_is_shown() -> None:
    shown = visible_paths(replace(TOOLCHAINS["perl"], visible=("/etc/pass*d", "/etc/no-such*")))
    assert shown == ("/etc/passwd",)


def test_what_a_sandbox_must_read_is_not_kept_where_it_cannot(tmp_path: Path) -> None:
    assert not shared_cache(tmp_path).is_relative_to("/tmp")
    assert shared_cache(Path("/var/cache/mine")) == Path("/var/cache/mine")
    if os.geteuid() == 0:
        assert shared_cache(Path("/root/.cache")) in (Path("/root/.cache"), Path("/var/cache/codechoir"))


@pytest.mark.network
def test_typescript_is_brought_once_and_can_be_read_by_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typescript, "_folders", lambda: [tmp_path / "own", tmp_path / "other"])
    assert typescript.find_typescript() is None
    folder = typescript.install_typescript()
    assert folder == tmp_path / "own" == typescript.find_typescript()
    assert typescript.install_typescript() == folder and [path.name for path in tmp_path.iterdir()] == ["own"]
    compiler = folder / "lib" / "tsc"
    assert compiler.stat().st_mode & 0o777 == 0o755
    assert subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout == "Version 7.0.2\n"
    folder.rename(tmp_path / "other")
    assert typescript.find_typescript() == tmp_path / "other"


def test_typescript_is_not_for_every_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typescript, "_folders", lambda: [tmp_path / "own"])
    monkeypatch.setattr("platform.machine", lambda: "vax")
    with pytest.raises(ToolMissingError, match="vax"):
        typescript.install_typescript()
