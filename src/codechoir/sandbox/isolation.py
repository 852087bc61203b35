"""The outer walls around untrusted programs: which files, users, processes and networks they can see.

Owns the bubblewrap command line, the choice of an unprivileged user, and the check that all of it works here.
In goes a command and the files that it is started with; out comes the command that runs it inside. Knows nothing of
languages, jobs or verdicts; `keeper` puts inner walls around each program.

Inside: namespaces of its own (user, process, network, IPC, host name, control group), /usr and the few parts of /etc
that toolchains need, read-only, a private /tmp of limited size, no home, a minimal environment. The command is process
1, so when it ends or is killed the kernel kills whatever is left running. As root the whole runs as a user id that
nobody else has, since the kernel does not hold root to its limit on processes. The command keeps the privilege to make
namespaces inside its own one, for the sake of the inner walls.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from codechoir.errors import ToolMissingError
from codechoir.sandbox.groups import GroupParent, find_groups
from codechoir.sandbox.seccomp import system_call_filter

SandboxKind = Literal["bubblewrap", "unsafe-no-sandbox"]
SEARCH_PATH = "/usr/local/bin:/usr/bin:/bin"
ENVIRONMENT = {"PATH": SEARCH_PATH, "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}
FOLDER = "/tmp/program"  # inside: where the command starts, and where programs live

_TMP_BYTES = 256 * 2**20  # for the command itself; each job has a /tmp of its own
_FIRST_USER = 64321  # no system hands out ids from here on by itself
_PROBE_SECONDS = 30
_UNSAFE_STEP = (
    "or, on a machine that you can afford to lose, --unsafe-no-sandbox (in a recipe evaluate.sandbox=unsafe-no-sandbox)"
)
_SETTINGS = ("alternatives", "ld.so.cache", "localtime")  # what all programs read beside /usr
_DEVICES = ("null", "zero", "full", "random", "urandom")


@dataclass(frozen=True, slots=True)
class Inherited:
    """Descriptors that a command inside is started with."""

    files: Mapping[str, int]  # path inside, below /tmp -> a file that becomes it
    information: int | None = None  # a pipe to which bubblewrap tells the command's process id
    system_calls: int | None = None  # a file with the filter that the command itself gets


@dataclass(frozen=True)
class Sandbox:
    """A way to start untrusted programs. Make one with `open_sandbox`."""

    kind: SandboxKind
    description: str  # "bubblewrap 0.8.0, seccomp, control groups v2", or "none"
    user: int | None = None  # to become before anything else; None where this process has no power to
    groups: GroupParent | None = None  # None where only limits on each process can be had
    system_calls: bytes = b""  # the filter for programs

    def enclosed(
        self,
        command: Sequence[str],
        visible: Sequence[str] = (),
        inherited: Inherited | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> tuple[str, ...]:
        """What runs `command` inside as process 1, in an empty folder, with `visible` folders beside the system's."""
        inherited = inherited or Inherited({})
        parts = [*self._walls]
        for path in visible:
            parts += ["--ro-bind", path, path]
        for path, number in inherited.files.items():
            parts += ["--file", str(number), path]
        if inherited.information is not None:
            parts += ["--info-fd", str(inherited.information)]
        if inherited.system_calls is not None:
            parts += ["--seccomp", str(inherited.system_calls)]
        for name, value in (environment or {}).items():
            parts += ["--setenv", name, value]
        return (*parts, "--chdir", FOLDER, "--remount-ro", "/", "--", *command)

    @cached_property
    def _walls(self) -> tuple[str, ...]:
        return (*_become(self.user), *_BUBBLEWRAP, *_environment(), *_system_files(), *_own_files())


def open_sandbox(kind: SandboxKind) -> Sandbox:
    """A sandbox that has been seen to start a program. Raises ToolMissingError where this machine cannot."""
    if kind == "unsafe-no-sandbox":
        return Sandbox(kind, "none")
    for program, package in (("bwrap", "bubblewrap"), ("setpriv", "util-linux"), ("choom", "util-linux")):
        if shutil.which(program, path=SEARCH_PATH) is None:
            raise ToolMissingError(
                f"{package} is needed to run untrusted programs", next_step=f"apt-get install {package}, {_UNSAFE_STEP}"
            )
    system_calls = system_call_filter()
    groups = find_groups()
    limits = "per-process limits only" if groups is None else f"control groups v{groups.version}"
    version = _version()
    user = _free_user() if os.geteuid() == 0 else None
    sandbox = Sandbox(kind, f"{version}, seccomp, {limits}", user, groups, system_calls)
    if seen := _probe(sandbox):
        raise ToolMissingError(
            "bubblewrap cannot make a sandbox here",
            seen=f"{version}: {seen}",
            next_step=f"allow unprivileged user namespaces (sysctl user.max_user_namespaces), {_UNSAFE_STEP}",
        )
    return sandbox


def _probe(sandbox: Sandbox) -> str:
    """What goes wrong when namespaces and a /proc are made inside the sandbox; empty where nothing does."""
    inner = ("unshare", "--pid", "--fork", "--mount", "--ipc", "--net", "--mount-proc", "echo", "works")
    try:
        done = subprocess.run(
            sandbox.enclosed(inner),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            env=ENVIRONMENT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.stdout == "works\n" else done.stderr.strip() or f"exit code {done.returncode}"


def _version() -> str:
    done = subprocess.run(["bwrap", "--version"], capture_output=True, text=True, check=False, env=ENVIRONMENT)
    return done.stdout.strip() or "bubblewrap"


def _free_user() -> int:
    """A user id without a name and without processes."""
    taken = {entry.pw_uid for entry in pwd.getpwall()}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            taken.add(process.stat().st_uid)
        except OSError:
            continue  # it has ended meanwhile
    return next(user for user in itertools.count(_FIRST_USER) if user not in taken)


_BUBBLEWRAP = (
    *("bwrap", "--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"),
    *("--unshare-cgroup-try", "--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL"),
    # In its own user namespace only, and not for programs: to make their namespaces and to take these very two away.
    *("--cap-add", "CAP_SYS_ADMIN", "--cap-add", "CAP_SETPCAP", "--hostname", "sandbox"),
)


def _become(user: int | None) -> tuple[str, ...]:
    """What becomes an unprivileged user first, and early in line when the kernel runs out of memory."""
    dropping = () if user is None else ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--")
    return (*dropping, "choom", "-n", "500", "--")


def _environment() -> tuple[str, ...]:
    settings = {**ENVIRONMENT, "HOME": "/tmp", "TMPDIR": "/tmp"}
    return ("--clearenv", *(part for name, value in settings.items() for part in ("--setenv", name, value)))


def _system_files() -> tuple[str, ...]:
    """What is shown of this machine's files, all of it read-only."""
    parts = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = Path("/") / name
        if path.is_symlink():
            parts += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            parts += ["--ro-bind", str(path), str(path)]
    for name in _SETTINGS:
        parts += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    return tuple(parts)


def _own_files() -> tuple[str, ...]:
    """What has nothing of this machine.

    No bubblewrap's --dev: for the sake of its terminals that needs a second user namespace, and the command could not
    get at the process namespace, which belongs to the first.
    """
    parts = ["--proc", "/proc", "--tmpfs", "/dev"]
    for device in _DEVICES:
        parts += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    parts += ["--symlink", "/proc/self/fd", "/dev/fd"]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        parts += ["--symlink", f"/proc/self/fd/{number}", f"/dev/{name}"]
    parts += ["--dir", "/dev/shm", "--remount-ro", "/dev"]
    return (*parts, "--size", str(_TMP_BYTES), "--tmpfs", "/tmp", "--dir", FOLDER)


def memory_file(name: str, content: bytes) -> int:
    """A descriptor of a file that lies nowhere on the disk, to be inherited; the caller closes it."""
    number = os.memfd_create(name, os.MFD_CLOEXEC)
    with os.fdopen(os.dup(number), "wb") as out:
        out.write(content)
    os.lseek(number, 0, os.SEEK_SET)
    return number
