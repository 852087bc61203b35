"""The inner walls: what is put around each job and each of its programs, inside the sandbox.

Owns the system calls that make namespaces and mounts, take privileges away, load the filter, set limits and kill. Runs
in the processes of `keeper`, from its bare text and the standard library alone. Knows nothing of languages, jobs'
contents or results.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from typing import Any

_OPEN_FILES = 256
_OWN_PROCESSES = 2  # the keeper and a job's process 1 count towards the user's limit
_SHARED_MEMORY_MIB = 64
_FILES_IN_TMP = 100_000

_CLONE_NEWNS, _CLONE_NEWIPC, _CLONE_NEWPID, _CLONE_NEWNET = 0x20000, 0x08000000, 0x20000000, 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER = 4, 22, 24, 36
_SECCOMP_MODE_FILTER = 2
_CAP_SETPCAP, _CAP_SYS_ADMIN = 8, 21
_CAPABILITY_VERSION_3 = 0x20080522


class _FilterProgram(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


class Walls:
    """What is put around a job and around each of its programs; nothing but limits where `enabled` is false."""

    def __init__(self, settings: dict[str, Any], system_calls: bytes) -> None:
        self.enabled: bool = settings["walls"]
        self.folder: str = settings["folder"]
        self._tmp_mib: int = settings["tmp_mib"]
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._filter = _FilterProgram(len(system_calls) // 8, system_calls)
        self._own_processes = os.open("/proc/self/ns/pid", os.O_RDONLY) if self.enabled else -1

    def begin(self) -> None:
        """Gives the next fork a process namespace of its own."""
        if self.enabled:
            self._call("setns", self._own_processes, _CLONE_NEWPID)
            self._call("unshare", _CLONE_NEWPID)

    def enter(self) -> None:
        """Puts this process, a job's process 1, into fresh file systems and takes every privilege from it."""
        if not self.enabled:
            self._call("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            os.chdir(self.folder)
            return
        self._call("unshare", _CLONE_NEWNS | _CLONE_NEWIPC | _CLONE_NEWNET)
        self._mount(b"tmpfs", b"/tmp", f"mode=1777,size={self._tmp_mib}m,nr_inodes={_FILES_IN_TMP}")
        self._mount(b"tmpfs", b"/dev/shm", f"mode=1777,size={_SHARED_MEMORY_MIB}m,nr_inodes=1000")
        self._mount(b"proc", b"/proc", None, _MS_NOEXEC)
        os.mkdir(self.folder)  # noqa: PTH102 - pathlib is not loaded here
        os.chdir(self.folder)
        for capability in (_CAP_SYS_ADMIN, _CAP_SETPCAP):
            self._call("prctl", _PR_CAPBSET_DROP, capability, 0, 0, 0)
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        self._call("capset", header, (ctypes.c_uint32 * 6)())
        # Programs have the same user id: this keeps them from looking into process 1 by way of /proc.
        self._call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)

    def confine(self) -> None:
        """The last wall, around this process, which is about to become a program."""
        if self.enabled:
            self._call("prctl", _PR_SET_DUMPABLE, 1, 0, 0, 0)
        with open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
            file.write("1000")
        if self.enabled:
            self._call("prctl", _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(self._filter), 0, 0)

    def limit(self, limits: dict[str, Any]) -> None:
        """Limits this process, and each that it starts."""
        memory = resource.RLIMIT_AS if limits["memory_limit"] == "address-space" else resource.RLIMIT_DATA
        # A second between the soft limit, whose signal names the cause, and the hard one, which cannot be ignored.
        wanted = [
            (resource.RLIMIT_CPU, limits["cpu_seconds"], limits["cpu_seconds"] + 1),
            (memory, limits["memory_bytes"], limits["memory_bytes"]),
            (resource.RLIMIT_NOFILE, _OPEN_FILES, _OPEN_FILES),
            (resource.RLIMIT_FSIZE, limits["file_bytes"], limits["file_bytes"]),
            (resource.RLIMIT_CORE, 0, 0),
        ]
        if self.enabled:  # else it would count what else the user runs
            processes = limits["processes"] + _OWN_PROCESSES
            wanted.append((resource.RLIMIT_NPROC, processes, processes))
        for kind, soft, hard in wanted:
            allowed = resource.getrlimit(kind)[1]
            if allowed != resource.RLIM_INFINITY:
                soft, hard = min(soft, allowed), min(hard, allowed)
            resource.setrlimit(kind, (soft, hard))

    def kill_all(self) -> None:
        """Kills every process of the job but this one."""
        if self.enabled:
            try:
                os.kill(-1, signal.SIGKILL)  # as process 1: everything in its namespace
            except ProcessLookupError:
                return
            return
        for process in _descendants(os.getpid()):
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def _mount(self, kind: bytes, target: bytes, options: str | None, flags: int = 0) -> None:
        given = None if options is None else options.encode()
        self._call("mount", kind, target, kind, _MS_NOSUID | _MS_NODEV | flags, given)

    def _call(self, name: str, *arguments: object) -> None:
        if getattr(self._libc, name)(*arguments):
            number = ctypes.get_errno()
            raise OSError(number, f"{name}: {os.strerror(number)}")


def _descendants(parent: int) -> list[int]:
    try:
        with open(f"/proc/{parent}/task/{parent}/children") as file:  # noqa: PTH123
            children = [int(child) for child in file.read().split()]
    except OSError:
        return []
    return children + [process for child in children for process in _descendants(child)]
