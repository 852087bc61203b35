"""How each language's programs are compiled and run, keyed by `Language.id`, and what its failures look like.

Owns the table of toolchains: file name, commands, memory policy, Debian package, and a probe of one good and one bad
program. Knows nothing of sandboxes: the commands are run by `programs.run_program`.

A program passes when it *ran to its end* and nothing failed. Exit code 0 alone, which MultiPL-E goes by, does not say
so: a completion that calls `exit()` would pass with its tests unrun. So each toolchain adds a trailer after the tests,
which turns the regular end, and only that, into the exit code `RAN_TO_END`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from codechoir.errors import ConfigError
from codechoir.records import Status
from codechoir.sandbox.isolation import ENVIRONMENT, SEARCH_PATH

RAN_TO_END = 113
_JAVATUPLES = "/usr/share/java/javatuples.jar"
_VERSION_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Toolchain:
    """One language's commands. `{memory}` in a command stands for the MiB that the program may use."""

    language: str  # Language.id
    programs: tuple[str, ...]  # needed on the search path; the first one's version is recorded
    files: tuple[str, ...]  # needed besides
    packages: tuple[str, ...]  # Debian's
    source: str  # the program's file name
    trailer: str  # after the tests; makes the regular end exit with RAN_TO_END
    compile: tuple[str, ...]  # empty: not compiled
    run: tuple[str, ...]
    memory_limit: Literal["address-space", "data"]  # the JVM and V8 reserve far more address space than they use
    memory_overhead: int  # MiB that the runtime itself needs
    processes: int  # threads included
    failures: tuple[tuple[str, Status], ...]  # regular expressions on the output of a program that failed; first wins
    good: str  # a program that passes, without the trailer
    bad: str  # a program whose assertion fails


TOOLCHAINS: dict[str, Toolchain] = {
    toolchain.language: toolchain
    for toolchain in (
        Toolchain(
            language="python",
            programs=("python3",),
            files=(),
            packages=("python3",),
            source="main.py",
            trailer="\nraise SystemExit(113)\n",
            compile=(),
            run=("python3", "-B", "main.py"),
            memory_limit="address-space",
            memory_overhead=64,
            processes=32,
            failures=(
                (r"(?m)^AssertionError\b", Status.FAILED_ASSERTION),
                (r"(?m)^MemoryError\b", Status.OUT_OF_MEMORY),
                # An error in the file itself has no traceback; one in text that the program evaluates has.
                (r"(?ms)\A(?!.*^Traceback).*^(SyntaxError|IndentationError|TabError): ", Status.DOES_NOT_COMPILE),
            ),
            good="from typing import List\nassert sum([1, 2]) == 3\n",
            bad="assert sum([1, 2]) == 4\n",
        ),
        Toolchain(
            language="java",
            programs=("java", "javac"),
            files=(_JAVATUPLES,),
            packages=("default-jdk-headless", "libjavatuples-java"),
            source="Problem.java",
            trailer=(
                "\nclass RanToEnd {\n    public static void main(String[] arguments) throws Throwable {\n"
                "        Problem.main(arguments);\n        System.exit(113);\n    }\n}\n"
            ),
            compile=(
                *("javac", "-J-Xmx512m", "-J-XX:+UseSerialGC", "-J-XX:TieredStopAtLevel=1", "-J-XX:-UsePerfData"),
                *("-nowarn", "-proc:none", "-encoding", "UTF-8", "-cp", _JAVATUPLES, "-d", ".", "Problem.java"),
            ),
            run=(
                *("java", "-ea", "-Xmx{memory}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"),
                *("-cp", f".:{_JAVATUPLES}", "RanToEnd"),
            ),
            memory_limit="data",
            memory_overhead=768,
            processes=128,
            failures=(
                (r'(?m)^Exception in thread "main" java\.lang\.AssertionError', Status.FAILED_ASSERTION),
                (r"java\.lang\.OutOfMemoryError", Status.OUT_OF_MEMORY),
            ),
            good=(
                "import org.javatuples.*;\nclass Problem {\n    public static void main(String[] args) {\n"
                "        assert(Pair.with(1, 2).equals(Pair.with(1, 2)));\n    }\n}\n"
            ),
            bad="class Problem {\n    public static void main(String[] args) {\n        assert(1 == 2);\n    }\n}\n",
        ),
        Toolchain(
            language="javascript",
            programs=("node",),
            files=(),
            packages=("nodejs",),
            source="main.js",
            trailer="\n;process.exitCode = 113;\n",
            compile=(),
            run=("node", "--max-old-space-size={memory}", "main.js"),
            memory_limit="data",
            memory_overhead=768,
            processes=64,
            failures=(
                (r"(?m)^AssertionError\b", Status.FAILED_ASSERTION),
                (r"JavaScript heap out of memory|RangeError: Array buffer allocation failed", Status.OUT_OF_MEMORY),
                # `wrapSafe` is where node compiles the main file.
                (r"(?ms)^SyntaxError: .*^    at (Object\.compileFunction|wrapSafe)\b", Status.DOES_NOT_COMPILE),
            ),
            good="const assert = require('node:assert');\nassert.deepEqual([1, 2], [1, 2]);\n",
            bad="const assert = require('node:assert');\nassert.deepEqual([1, 2], [2, 1]);\n",
        ),
        Toolchain(
            language="cpp",
            programs=("g++",),
            files=(),
            packages=("g++",),
            source="main.cpp",
            # The linker's --wrap sends the start-up code to this main in place of the program's.
            trailer=(
                '\nextern "C" int __real_main(int, char **);\n'
                'extern "C" int __wrap_main(int count, char **arguments) {\n'
                "    int code = __real_main(count, arguments);\n    return code ? code : 113;\n}\n"
            ),
            compile=("g++", "-std=c++17", "-w", "-Wl,--wrap=main", "-o", "main", "main.cpp"),
            run=("./main",),
            memory_limit="address-space",
            memory_overhead=64,
            processes=32,
            failures=(
                (r"(?m)^main: main\.cpp:\d+: .*: Assertion `.*' failed\.$", Status.FAILED_ASSERTION),
                (r"std::bad_alloc", Status.OUT_OF_MEMORY),
            ),
            good="#include <assert.h>\n#include <bits/stdc++.h>\nint main() { assert(std::max(1, 2) == 2); }\n",
            bad="#include <assert.h>\nint main() { assert(1 == 2); }\n",
        ),
    )
}


def toolchain_of(language: str) -> Toolchain:
    """The toolchain of a language id. Raises ConfigError where there is none."""
    found = TOOLCHAINS.get(language)
    if found is None:
        raise ConfigError("no toolchain for this language", seen=language, allowed=", ".join(TOOLCHAINS))
    return found


def missing_parts(toolchain: Toolchain) -> list[str]:
    """The programs and files that this machine lacks for the toolchain."""
    programs = [name for name in toolchain.programs if find_program(name) is None]
    return programs + [name for name in toolchain.files if not Path(name).exists()]


@cache
def find_program(name: str) -> str | None:
    """A program's path, from the system's folders only: a sandbox sees no other. Python may be the one that runs us."""
    found = shutil.which(name, path=SEARCH_PATH)
    if found is None and name == "python3":
        own = Path(sys.base_prefix) / "bin" / "python3"
        found = str(own) if own.exists() else None
    return found


def visible_folders(toolchain: Toolchain) -> tuple[str, ...]:
    """The folders outside the system's that a sandbox must show for the toolchain's programs to work."""
    outside = [name for name in toolchain.programs if shutil.which(name, path=SEARCH_PATH) is None]
    return (sys.base_prefix,) if "python3" in outside else ()


@cache
def toolchain_version(language: str) -> str:
    """What the toolchain says of itself, such as `g++ (Debian 12.2.0-14) 12.2.0`; empty where it cannot."""
    name = toolchain_of(language).programs[0]
    program = find_program(name)
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, "--version"],
            capture_output=True,
            text=True,
            timeout=_VERSION_SECONDS,
            env=ENVIRONMENT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    line = (done.stdout.strip().splitlines() or [""])[0]
    return line if re.match(r"[A-Za-z+]{2}", line) else f"{name} {line}"
