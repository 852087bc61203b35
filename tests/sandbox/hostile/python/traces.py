# Traces, reads and writes other processes.
# expect: passed
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
for pid in (1, os.getppid()):
    if libc.ptrace(16, pid, 0, 0) == 0 or libc.ptrace(0x4206, pid, 0, 0) == 0:
        print("BREACH: attached to", pid)
if libc.ptrace(0, 0, 0, 0) == 0:
    print("BREACH: asked to be traced")
buffer = ctypes.create_string_buffer(8)
vector = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 8)
if libc.process_vm_readv(os.getpid(), vector, 1, vector, 1, 0) >= 0:
    print("BREACH: read memory")
if libc.syscall(438, os.pidfd_open(1), 3, 0) >= 0:
    print("BREACH: took a descriptor of process 1")
