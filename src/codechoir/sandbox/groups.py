"""Control groups, versions 1 and 2: memory and processes of a whole tree, limited, measured, and killed for memory.

In goes nothing but this machine's own state; out come groups to start a command in, or None where this process may
not make any (an ordinary user without delegation). Knows nothing of sandboxes or programs.

A group is two folders in version 1 (one each of the `memory` and the `pids` hierarchy), one in version 2. Those that
a killed process has left are removed by the next one.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_PREFIX = "codechoir-"
_ATTACH = 'for file in $0; do echo $$ > "$file" || exit 125; done; exec "$@"'
_TRIAL_SECONDS = 30
_counter = itertools.count()


@dataclass(frozen=True, slots=True)
class _Names:
    """What the files of the memory controller are called."""

    limit: str
    swap: str  # how much of it, or how eagerly: 0 for none
    usage: str
    peak: str
    events: str  # has a line `oom_kill N`


_NAMES = {
    1: _Names(
        limit="memory.limit_in_bytes",
        swap="memory.swappiness",
        usage="memory.usage_in_bytes",
        peak="memory.max_usage_in_bytes",
        events="memory.oom_control",
    ),
    2: _Names(
        limit="memory.max",
        swap="memory.swap.max",
        usage="memory.current",
        peak="memory.peak",
        events="memory.events",
    ),
}


@dataclass(frozen=True, slots=True)
class GroupParent:
    """Folders below which this process may make groups."""

    version: Literal[1, 2]
    memory: Path
    processes: Path  # the same in version 2

    def make(self) -> Group:
        """A new group without limits. Raises OSError."""
        name = f"{_PREFIX}{os.getpid()}-{next(_counter)}"
        return Group(self.version, self.memory / name, self.processes / name)


class Group:
    """A control group; gone after `close`."""

    def __init__(self, version: Literal[1, 2], memory: Path, processes: Path) -> None:
        self._names, self._memory, self._processes = _NAMES[version], memory, processes
        self._limits: tuple[int, int] | None = None
        self._peak, self._usage, self._kills = -1, 0, 0
        try:
            for folder in self._folders():
                folder.mkdir()
            with contextlib.suppress(OSError):  # a kernel without swap
                (memory / self._names.swap).write_text("0")
            with contextlib.suppress(OSError):
                self._peak = os.open(memory / self._names.peak, os.O_RDWR | os.O_CLOEXEC)
            self._kills = self._num_kills()
            (processes / "pids.max").write_text("max")
        except OSError:
            self.close()
            raise

    def command(self) -> tuple[str, ...]:
        """What to put before a command, so that it and all that it starts are in the group."""
        return ("/bin/sh", "-c", _ATTACH, " ".join(str(folder / "cgroup.procs") for folder in self._folders()))

    def limit(self, memory_bytes: int, processes: int) -> None:
        """Limits what the group may use from now on, and starts to measure. Raises OSError where it uses more."""
        if self._limits != (memory_bytes, processes):
            (self._memory / self._names.limit).write_text(str(memory_bytes))
            (self._processes / "pids.max").write_text(str(processes))
            self._limits = (memory_bytes, processes)
        self._kills = self._num_kills()
        self._usage = int((self._memory / self._names.usage).read_text())
        if self._peak >= 0:
            os.pwrite(self._peak, b"0", 0)

    def peak_bytes(self) -> int | None:
        """The most that was used since `limit`, beyond what was used then; None where this kernel does not say."""
        return None if self._peak < 0 else max(0, int(os.pread(self._peak, 32, 0)) - self._usage)

    def ran_out(self) -> bool:
        """Whether the kernel has killed a process of the group for its memory since `limit`."""
        return self._num_kills() > self._kills

    def close(self) -> None:
        """Removes the group, which must be empty by now; one that is not is left to `find_groups` of another day."""
        if self._peak >= 0:
            os.close(self._peak)
            self._peak = -1
        for folder in self._folders():
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _num_kills(self) -> int:
        lines = (self._memory / self._names.events).read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)

    def _folders(self) -> tuple[Path, ...]:
        return (self._memory,) if self._memory == self._processes else (self._memory, self._processes)


def find_groups() -> GroupParent | None:
    """Where this process may make groups that work, seen by making one; None where it may not."""
    mounts = Path("/proc/self/mountinfo").read_text()
    own = Path("/proc/self/cgroup").read_text()
    for parent in candidates(mounts, own):
        _sweep(parent)
        if _works(parent):
            return parent
    return None


def candidates(mounts: str, own: str) -> Iterator[GroupParent]:
    """Every place to try, from the texts of /proc/self/mountinfo and /proc/self/cgroup: the nearest group first."""
    paths: dict[str, str] = {}
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)
    unified: list[Path] = []
    hierarchies: dict[str, list[Path]] = {}
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        root, point = (_unescaped(field) for field in before.split()[3:5])
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2" and "" in paths:
            unified = _upwards(root, point, paths[""])
        elif kind == "cgroup":
            for controller in {"memory", "pids"} & set(options.split(",")) & set(paths):
                hierarchies[controller] = _upwards(root, point, paths[controller])
    for folder in unified:
        yield GroupParent(2, folder, folder)
    if len(hierarchies) == 2:
        # Both from the nearest on, each held at its top once it has got there.
        for step in range(max(map(len, hierarchies.values()))):
            memory, pids = (hierarchies[name][min(step, len(hierarchies[name]) - 1)] for name in ("memory", "pids"))
            yield GroupParent(1, memory, pids)


def _upwards(root: str, point: str, path: str) -> list[Path]:
    """The folder of a group under a mount that shows the hierarchy from `root` on, and all the folders above it."""
    below = Path(path).relative_to(root) if Path(path).is_relative_to(root) else Path()
    folder, top = Path(point) / below, Path(point)
    return [each for each in (folder, *folder.parents) if each.is_relative_to(top)]


def _unescaped(field: str) -> str:
    return field.encode().decode("unicode_escape")


def _works(parent: GroupParent) -> bool:
    if parent.version == 2 and not _enable(parent.memory):
        return False
    try:
        group = parent.make()
    except OSError:
        return False
    try:
        group.limit(64 * 2**20, 8)
        done = subprocess.run(
            [*group.command(), "true"],
            capture_output=True,
            timeout=_TRIAL_SECONDS,
            check=False,
            env={"PATH": os.defpath},
        )
        return done.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
    finally:
        group.close()


def _enable(folder: Path) -> bool:
    """Whether groups below a folder of version 2 get both controllers, which is seen to where it is allowed."""
    control = folder / "cgroup.subtree_control"
    with contextlib.suppress(OSError):
        if not {"memory", "pids"} <= set(control.read_text().split()):
            control.write_text("+memory +pids")
        return True
    return False


def _sweep(parent: GroupParent) -> None:
    """Removes the groups of processes that are no more."""
    for folder in {parent.memory, parent.processes}:
        for left in folder.glob(f"{_PREFIX}*-*"):
            owner = left.name.removeprefix(_PREFIX).partition("-")[0]
            if not Path("/proc", owner).exists():
                with contextlib.suppress(OSError):
                    left.rmdir()
