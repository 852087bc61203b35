# Anonymous files and shared segments are counted by no limit on address space.
# expect: passed
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
try:
    os.memfd_create("hidden")
    print("BREACH: an anonymous file")
except OSError:
    pass
if libc.shmget(0, 1 << 20, 0o1666) >= 0:
    print("BREACH: a shared segment")
