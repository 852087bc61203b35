"""The walls around an untrusted program: which files, users, processes and networks it can see.

Owns the bubblewrap command line and the check that it works on this machine. In go a shell script and the files it
needs; out comes a command for `process.watch`. Knows nothing of languages, limits or verdicts.

Inside: namespaces of its own (user, process, network, IPC, host name, control group), /usr and the few parts of /etc
that compilers need, read-only, a private /tmp of limited size, no home, a minimal environment, no capabilities. The
script is process 1, so when it ends or is killed the kernel kills whatever the program has left running. As root the
whole runs as the user nobody, since the kernel does not hold root to its limit on processes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from codechoir.errors import ToolMissingError

SandboxKind = Literal["bubblewrap", "unsafe-no-sandbox"]
SEARCH_PATH = "/usr/local/bin:/usr/bin:/bin"
ENVIRONMENT = {"PATH": SEARCH_PATH, "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}

_NOBODY = "65534"
_TMP_BYTES = 256 * 2**20
_FOLDER = "/tmp/program"  # inside the sandbox
_PROBE_SECONDS = 30
_UNSAFE_STEP = "or set evaluate.sandbox to unsafe-no-sandbox on a machine that you can afford to lose"


@dataclass(frozen=True, slots=True)
class Launch:
    """A command ready to start, with the file descriptors it inherits."""

    command: tuple[str, ...]
    folder: Path | None
    inherited: tuple[int, ...]


@dataclass(frozen=True)
class Sandbox:
    """A way to start untrusted programs. Make one with `open_sandbox`."""

    kind: SandboxKind
    description: str  # "bubblewrap 0.8.0", or "none"

    @contextmanager
    def launch(self, script: str, files: dict[str, bytes], visible: Sequence[str] = ()) -> Iterator[Launch]:
        """The command that runs `script` by /bin/sh in a fresh folder holding `files`.

        `visible` are folders outside /usr that the script needs to read. Files are handed over as descriptors, so
        nothing of the program ever lies on this machine's disk.
        """
        shell = ("/bin/sh", "-c", script)
        if self.kind == "unsafe-no-sandbox":
            with TemporaryDirectory(prefix="codechoir-program-", ignore_cleanup_errors=True) as folder:
                for name, content in files.items():
                    (Path(folder) / name).write_bytes(content)
                yield Launch(shell, Path(folder), ())
            return
        descriptors: dict[str, int] = {}
        try:
            for name, content in files.items():
                descriptors[name] = _memory_file(name, content)
            handed = [part for name, number in descriptors.items() for part in _file_arguments(name, number)]
            binds = [part for path in visible for part in ("--ro-bind", path, path)]
            command = (*self._walls, *binds, *handed, "--chdir", _FOLDER, "--remount-ro", "/", "--", *shell)
            yield Launch(command, None, tuple(descriptors.values()))
        finally:
            for number in descriptors.values():
                os.close(number)

    @cached_property
    def _walls(self) -> tuple[str, ...]:
        return (*_drop_root(), *_BUBBLEWRAP, *_environment(), *_system_files())


def open_sandbox(kind: SandboxKind) -> Sandbox:
    """A sandbox that has been seen to start a program. Raises ToolMissingError where this machine cannot."""
    if kind == "unsafe-no-sandbox":
        return Sandbox(kind, "none")
    if shutil.which("bwrap", path=SEARCH_PATH) is None:
        raise ToolMissingError(
            "bubblewrap is needed to run untrusted programs", next_step=f"apt-get install bubblewrap, {_UNSAFE_STEP}"
        )
    version = _version()
    sandbox = Sandbox(kind, version)
    with sandbox.launch("echo works", {"probe": b""}) as launch:
        try:
            done = subprocess.run(
                launch.command,
                pass_fds=launch.inherited,
                capture_output=True,
                text=True,
                timeout=_PROBE_SECONDS,
                env=ENVIRONMENT,
                check=False,
            )
            seen = (done.stderr.strip() or f"exit code {done.returncode}") if done.stdout != "works\n" else ""
        except (OSError, subprocess.TimeoutExpired) as error:
            seen = str(error)
    if seen:
        raise ToolMissingError(
            "bubblewrap cannot make a sandbox here",
            seen=f"{version}: {seen}",
            next_step=f"allow unprivileged user namespaces (sysctl user.max_user_namespaces), {_UNSAFE_STEP}",
        )
    return sandbox


def _version() -> str:
    done = subprocess.run(["bwrap", "--version"], capture_output=True, text=True, check=False, env=ENVIRONMENT)
    return done.stdout.strip() or "bubblewrap"


_BUBBLEWRAP = (
    *("bwrap", "--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"),
    *("--unshare-cgroup-try", "--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL"),
)


def _drop_root() -> tuple[str, ...]:
    """What becomes an unprivileged user first, and the first in line when the kernel runs out of memory."""
    user = ("setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--") if os.geteuid() == 0 else ()
    return (*user, "choom", "-n", "1000", "--")


def _environment() -> tuple[str, ...]:
    settings = {**ENVIRONMENT, "HOME": "/tmp", "TMPDIR": "/tmp"}
    return ("--clearenv", *(part for name, value in settings.items() for part in ("--setenv", name, value)))


def _system_files() -> tuple[str, ...]:
    """Read-only system files, and the only two places that can be written to: /tmp, limited, and nothing else."""
    parts = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = Path("/") / name
        if path.is_symlink():
            parts += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            parts += ["--ro-bind", str(path), str(path)]
    java = sorted(str(path) for path in Path("/etc").glob("java-*-openjdk"))
    for needed in ("/etc/alternatives", "/etc/ld.so.cache", *java):
        parts += ["--ro-bind-try", needed, needed]
    parts += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    return (*parts, "--size", str(_TMP_BYTES), "--tmpfs", "/tmp", "--dir", _FOLDER)


def _memory_file(name: str, content: bytes) -> int:
    number = os.memfd_create(name, os.MFD_CLOEXEC)
    with os.fdopen(os.dup(number), "wb") as out:
        out.write(content)
    os.lseek(number, 0, os.SEEK_SET)
    return number


def _file_arguments(name: str, number: int) -> tuple[str, ...]:
    return ("--file", str(number), f"{_FOLDER}/{name}")
