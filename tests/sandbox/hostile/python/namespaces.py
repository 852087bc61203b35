# Makes namespaces of its own, in which it would be root.
# expect: passed
import ctypes

libc = ctypes.CDLL(None, use_errno=True)
flags = {"user": 0x10000000, "mount": 0x20000, "pid": 0x20000000, "net": 0x40000000, "ipc": 0x08000000, "time": 0x80}
for name, flag in flags.items():
    for wanted in (flag, flag | flags["user"]):
        if libc.unshare(wanted) == 0:
            print("BREACH: unshare", name)
        if name != "time" and libc.syscall(56, wanted | 17, 0, 0, 0, 0) >= 0:
            print("BREACH: clone", name)
    try:
        descriptor = open("/proc/self/ns/" + {"mount": "mnt"}.get(name, name))
        if libc.setns(descriptor.fileno(), 0) == 0:
            print("BREACH: setns", name)
    except OSError:
        pass
if libc.syscall(435, (ctypes.c_uint64 * 11)(flags["user"]), 88) >= 0:
    print("BREACH: clone3")
