"""The system calls that an untrusted program may not make, as a filter that the kernel runs.

Out comes a BPF program in bytes, for whoever starts the program to load. Knows nothing of who that is.

A list of what is denied, not of what is allowed: compilers and runtimes of twenty languages go on working, and what a
process without privileges could use to look into or leave its namespaces, or to reach rarely tested parts of the
kernel, is gone. Everything needs privileges that programs lack anyway, or is cut off by namespaces: this is a second
wall, not the first.
"""

from __future__ import annotations

import errno
import tempfile
from functools import cache

from codechoir.errors import ToolMissingError

# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_CLONE_FLAGS = (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
# Making namespaces, changing what the file system looks like.
_NAMESPACES = (
    *("unshare", "setns", "mount", "umount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "fsopen"),
    *("fsconfig", "fsmount", "fspick", "mount_setattr", "open_by_handle_at", "name_to_handle_at"),
)
# Looking into or steering other processes.
_PROCESSES = (
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "kcmp"),
    *("pidfd_getfd", "migrate_pages", "move_pages"),
)
# What belongs to the machine as a whole, and parts of the kernel that have often been a way in.
_KERNEL = (
    *("keyctl", "add_key", "request_key", "bpf", "perf_event_open", "userfaultfd", "lookup_dcookie", "syslog"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register", "fanotify_init", "kexec_load", "kexec_file_load"),
    *("init_module", "finit_module", "delete_module", "create_module", "query_module", "get_kernel_syms"),
    *("quotactl", "quotactl_fd", "swapon", "swapoff", "reboot", "acct", "nfsservctl", "sysfs", "_sysctl", "uselib"),
    *("settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "stime", "sethostname", "setdomainname"),
    *("iopl", "ioperm", "modify_ldt", "vm86", "vm86old", "vhangup", "ustat"),
)
# Memory that limits on address space do not count. Absent, as on an older kernel: programs then go without.
_UNCOUNTED_MEMORY = ("memfd_create", "memfd_secret", "shmget")
_SOCKET_FAMILIES = (1, 2, 10)  # UNIX, INET, INET6, for the loopback; no netlink, no packets, no virtual machine's host
_TERMINAL_REQUESTS = (0x5412, 0x541C)  # TIOCSTI and TIOCLINUX: typing into the terminal
_PERSONALITIES = (0x0100000, 0x0200000, 0x0400000, 0x0800000, 0x1000000, 0x2000000, 0x4000000, 0x8000000)


@cache
def system_call_filter() -> bytes:
    """The filter for this machine's processor. Raises ToolMissingError where libseccomp is missing."""
    try:
        import pyseccomp  # here, because it looks for the C library as it is imported, and fails without
    except (ImportError, RuntimeError, OSError) as error:
        raise ToolMissingError(
            "libseccomp is needed to run untrusted programs",
            seen=error,
            next_step="apt-get install libseccomp2 and pip install pyseccomp",
        ) from error
    denied, absent = pyseccomp.ERRNO(errno.EPERM), pyseccomp.ERRNO(errno.ENOSYS)
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    rules.set_attr(pyseccomp.Attr.ACT_BADARCH, pyseccomp.KILL_PROCESS)

    def deny(name: str, *conditions: pyseccomp.Arg, action: int = denied) -> None:
        try:
            number = pyseccomp.resolve_syscall(pyseccomp.system_arch(), name)
        except OSError:
            return  # unknown to this libseccomp
        rules.add_rule(action, number, *conditions)

    for name in (*_NAMESPACES, *_PROCESSES, *_KERNEL):
        deny(name)
    # Its flags lie in memory, where a filter cannot look; the C libraries then fall back on clone.
    deny("clone3", action=absent)
    for name in _UNCOUNTED_MEMORY:
        deny(name, action=absent)
    for flag in _CLONE_FLAGS:
        deny("clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, flag, flag))
    unfit = pyseccomp.ERRNO(errno.EAFNOSUPPORT)
    for family in set(range(max(_SOCKET_FAMILIES))) - set(_SOCKET_FAMILIES):
        deny("socket", pyseccomp.Arg(0, pyseccomp.EQ, family), action=unfit)
    deny("socket", pyseccomp.Arg(0, pyseccomp.GT, max(_SOCKET_FAMILIES)), action=unfit)
    for request in _TERMINAL_REQUESTS:
        deny("ioctl", pyseccomp.Arg(1, pyseccomp.MASKED_EQ, 0xFFFFFFFF, request))
    for personality in _PERSONALITIES:
        deny("personality", pyseccomp.Arg(0, pyseccomp.EQ, personality))
    # Limits of other processes: process 1 has the same user.
    deny("prlimit64", pyseccomp.Arg(0, pyseccomp.NE, 0))
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()
