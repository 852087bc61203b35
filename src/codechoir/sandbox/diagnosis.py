"""What of the sandbox and the toolchains works on this machine, for `codechoir doctor`. Installs nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

from codechoir.artifacts import cache_dir
from codechoir.errors import ToolMissingError
from codechoir.sandbox.isolation import Sandbox, open_sandbox
from codechoir.sandbox.programs import Limits, Runner, check_toolchain
from codechoir.sandbox.toolchains.finding import missing_parts, toolchain_version
from codechoir.sandbox.toolchains.table import TOOLCHAINS, toolchain_of
from codechoir.sandbox.toolchains.toolchain import Toolchain

State = Literal["works", "broken", "missing"]

_WORKERS = 2
# Tells from inside, as an untrusted program would find it, which walls are there.
_LOOK_AROUND = """
import json, os, socket
own = dict(line.strip("\\n").split(":\\t", 1) for line in open("/proc/self/status"))
def fails(attempt):
    try:
        attempt()
    except OSError:
        return True
    return False
print(json.dumps({
    "an unprivileged user": os.getuid() != 0 and fails(lambda: os.setuid(0)),
    "no capabilities": int(own["CapEff"], 16) == int(own["CapBnd"], 16) == 0,
    "no new privileges": own["NoNewPrivs"] == "1",
    "a system call filter": own["Seccomp"] == "2",
    "no network": fails(lambda: socket.create_connection(("192.0.2.1", 80), 1)),
    "no other processes": all(int(name) <= os.getpid() for name in os.listdir("/proc") if name.isdigit()),
    "no home folders": not any(os.path.isdir(path) and os.listdir(path) for path in ("/root", "/home")),
    "a read-only system": fails(lambda: open("/usr/codechoir", "w")) and fails(lambda: open("/etc/codechoir", "w")),
}))
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One part of the machine and its state."""

    part: str  # "sandbox", or a Language.id
    state: State
    version: str  # empty where unknown
    packages: tuple[str, ...]  # Debian packages that bring it
    detail: str  # what was seen; empty where it works
    install: str = ""  # how to get it
    walls: Mapping[str, bool] = field(default_factory=dict)  # the sandbox's, and whether each holds here


def diagnose(languages: Iterable[str] = tuple(TOOLCHAINS)) -> list[Finding]:
    """The sandbox, then the languages' toolchains, each tried on programs whose ending is known.

    Where the sandbox does not work, toolchains are tried without it: the programs are ours.
    """
    try:
        sandbox = open_sandbox("bubblewrap")
        first = _sandbox_finding(sandbox)
    except ToolMissingError as error:
        sandbox = Sandbox("unsafe-no-sandbox", "none")
        state: State = "missing" if error.seen is None else "broken"
        first = Finding("sandbox", state, "", ("bubblewrap",), _detail(error), error.next_step)
    with ThreadPoolExecutor(_WORKERS) as pool:
        return [first, *pool.map(lambda name: _toolchain_finding(sandbox, toolchain_of(name)), languages)]


def _sandbox_finding(sandbox: Sandbox) -> Finding:
    with Runner(sandbox, cache_dir(), accelerate=False) as runner:
        outcome = runner.run("python", _LOOK_AROUND, Limits())
    try:
        walls = json.loads(outcome.output)
    except ValueError:
        seen = f"a program in it ended with {outcome.status}: {outcome.output.strip()}"
        return Finding("sandbox", "broken", sandbox.description, ("bubblewrap",), seen)
    walls["limits on all processes of a program together"] = sandbox.groups is not None
    return Finding("sandbox", "works", sandbox.description, ("bubblewrap",), "", walls=walls)


def _toolchain_finding(sandbox: Sandbox, toolchain: Toolchain) -> Finding:
    try:
        version = check_toolchain(sandbox, toolchain)
    except ToolMissingError as error:
        state: State = "missing" if missing_parts(toolchain) else "broken"
        version = toolchain_version(toolchain)
        detail = _detail(error)
        return Finding(toolchain.language, state, version, toolchain.packages, detail, toolchain.install)
    return Finding(toolchain.language, "works", version, toolchain.packages, "", toolchain.install)


def _detail(error: ToolMissingError) -> str:
    return error.what if error.seen is None else f"{error.what}: {error.seen}"
