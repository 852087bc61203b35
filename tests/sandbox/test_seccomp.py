"""The filter is checked by what it does to programs, beside what bubblewrap and missing privileges do already."""

import struct
import sys

import pytest

from codechoir.errors import ToolMissingError
from codechoir.sandbox.cells import Cell
from codechoir.sandbox.isolation import open_sandbox
from codechoir.sandbox.jobs import Job, Step, StepLimits
from codechoir.sandbox.seccomp import system_call_filter

LIMITS = StepLimits(cpu_seconds=5, wall_seconds=20.0, memory_mib=256)


@pytest.fixture(scope="module")
def cell():
    with Cell(open_sandbox("bubblewrap"), "/usr/bin/python3") as cell:
        yield cell


def errors(cell, expression):
    """The error number, or 0, of each of the calls that a Python expression makes."""
    program = f"import ctypes, errno, os\nlibc = ctypes.CDLL(None, use_errno=True)\nprint([{expression}])"
    [result] = cell.run(
        Job(
            files={"main.py": program.encode()},
            steps=(Step(name="run", argv=("main.py",), limits=LIMITS, warm_python=True),),
            marker=b"",
        )
    )
    assert result.exit_code == 0, result
    return result.output.decode().strip()


def test_the_filter_is_whole_instructions():
    content = system_call_filter()
    assert content and len(content) % 8 == 0
    code, _, _, _ = struct.unpack_from("=HBBI", content, len(content) - 8)
    assert code & 7 == 6  # the last instruction returns


@pytest.mark.parametrize(
    ("call", "error"),
    [
        # Without the filter each of these is allowed to anyone, or fails for another reason.
        ("libc.unshare(0x10000000)", "EPERM"),
        ("libc.ptrace(0, 0, 0, 0)", "EPERM"),
        ("libc.syscall(248, b'user', b'n', b's', 1, -3)", "EPERM"),  # add_key
        ("libc.syscall(303, -100, b'x', 0, 0, 0)", "EPERM"),  # name_to_handle_at
        ("libc.syscall(435, 0, 0)", "ENOSYS"),  # clone3
        ("libc.syscall(319, b'x', 0)", "ENOSYS"),  # memfd_create
        ("libc.shmget(0, 4096, 0o1600)", "ENOSYS"),
        ("libc.syscall(425, 1, 0)", "EPERM"),  # io_uring_setup
        ("libc.socket(16, 3, 0)", "EAFNOSUPPORT"),  # netlink
        ("libc.socket(40, 1, 0)", "EAFNOSUPPORT"),  # the host of a virtual machine
        ("libc.socket(ctypes.c_long((1 << 32) | 16), 3, 0)", "EAFNOSUPPORT"),
        ("libc.ioctl(0, 0x5412, b'x')", "EPERM"),
        ("libc.ioctl(0, ctypes.c_long((1 << 32) | 0x5412), b'x')", "EPERM"),
        ("libc.personality(0x0400000)", "EPERM"),
        ("libc.prlimit(1, 0, 0, 0)", "EPERM"),
    ],
)
@pytest.mark.skipif(sys.maxsize < 2**32 or not sys.platform.startswith("linux"), reason="numbers of x86-64")
def test_what_is_denied(cell, call, error):
    assert errors(cell, f"errno.errorcode[ctypes.get_errno()] if {call} < 0 else 'allowed'") == f"['{error}']"


def test_what_toolchains_need_is_allowed(cell):
    calls = (
        "libc.personality(-1) >= 0, libc.personality(0) >= 0, libc.personality(0x40000) >= 0, "
        "libc.socket(1, 1, 0) >= 0, libc.socket(2, 1, 0) >= 0, libc.socket(10, 1, 0) >= 0, "
        "libc.prlimit(0, 0, 0, 0) >= 0, "
        "os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)[1] == 0, os.pidfd_open(os.getpid()) >= 0"
    )
    assert errors(cell, calls) == str([True] * 9)


def test_a_machine_without_the_library_is_told_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyseccomp", None)
    system_call_filter.cache_clear()
    with pytest.raises(ToolMissingError, match="libseccomp2"):
        system_call_filter()
