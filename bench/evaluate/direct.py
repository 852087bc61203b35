"""The baselines: each toolchain driven as MultiPL-E drives it, one program after the other and without a sandbox.

Owns MultiPL-E's commands per language and its two ways of waiting: `polled`, a look every 0.1 s that takes in at most
1 KiB (how it runs nearly everything), and `blocking`, the same commands with a plain wait. Measures nothing.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

SEARCH_PATH = "/usr/local/bin:/usr/bin:/bin"
JAVATUPLES = "/usr/share/java/javatuples.jar"
POLL_SECONDS = 0.1
CHUNK = 1024
SECONDS = 60

Run = Callable[[Sequence[str], Path], int]


@dataclass(frozen=True, slots=True)
class Driver:
    """One language: the program's file name, and its commands in that file's folder, up to the first that fails."""

    source: str
    commands: tuple[tuple[str, ...], ...]


def drivers(typescript: Path) -> Mapping[str, Driver]:
    """By language id. `typescript` is the compiler of TypeScript 5, which runs on node."""
    return {
        "python": Driver("p.py", (("python3", "p.py"),)),
        "javascript": Driver("p.js", (("node", "p.js"),)),
        "php": Driver("p.php", (("php", "p.php"),)),
        "ruby": Driver("p.rb", (("ruby", "p.rb"),)),
        "perl": Driver("p.pl", (("perl", "p.pl"),)),
        "lua": Driver("p.lua", (("lua", "p.lua"),)),
        "shell": Driver("p.sh", (("bash", "p.sh"),)),
        "cpp": Driver("p.cpp", (("g++", "p.cpp", "-o", "p", "-std=c++17"), ("./p",))),
        "rust": Driver("p.rs", (("rustc", "p.rs", "-o", "p"), ("./p",))),
        "go": Driver("p_test.go", (("go", "test", "p_test.go"),)),
        "java": Driver(
            "p.java",
            (
                ("javac", "-encoding", "UTF8", "-cp", JAVATUPLES, "-d", "out", "p.java"),
                ("java", "-ea", "-cp", f"out:{JAVATUPLES}", "Problem"),
            ),
        ),
        "typescript": Driver("p.ts", ((str(typescript), "--target", "esnext", "p.ts"), ("node", "p.js"))),
    }


def passes(driver: Driver, program: str, run: Run) -> bool:
    """Runs one program in a fresh folder; whether all commands end with 0, which is what MultiPL-E takes for a pass."""
    with TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        (folder / driver.source).write_text(program, encoding="utf-8")
        (folder / "out").mkdir()
        return all(run(command, folder) == 0 for command in driver.commands)


def blocking(command: Sequence[str], folder: Path) -> int:
    """A plain wait for the end."""
    done = subprocess.run(
        list(command),
        cwd=folder,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    return done.returncode


def polled(command: Sequence[str], folder: Path) -> int:
    """MultiPL-E's wait. Its Go evaluator alone does not poll."""
    if command[0] == "go":
        return blocking(command, folder)
    process = subprocess.Popen(
        list(command),
        cwd=folder,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        bufsize=CHUNK,
    )
    assert process.stdout is not None and process.stderr is not None
    with process:
        for pipe in (process.stdout, process.stderr):
            os.set_blocking(pipe.fileno(), False)
        for _ in range(round(SECONDS / POLL_SECONDS)):
            process.stdout.read(CHUNK)
            process.stderr.read(CHUNK)
            code = process.poll()
            if code is not None:
                return code
            time.sleep(POLL_SECONDS)
        process.kill()
        return -1


def _environment() -> dict[str, str]:
    return {"PATH": SEARCH_PATH, "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8"}
