# Mounts, unmounts and changes the root.
# expect: passed
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
os.mkdir("here")
attempts = {
    "mount": lambda: libc.mount(b"tmpfs", b"here", b"tmpfs", 0, None),
    "bind": lambda: libc.mount(b"/", b"here", None, 4096, None),
    "remount": lambda: libc.mount(None, b"/", None, 32, None),
    "proc": lambda: libc.mount(b"proc", b"here", b"proc", 0, None),
    "umount /proc": lambda: libc.umount2(b"/proc", 2),
    "umount /tmp": lambda: libc.umount2(b"/tmp", 2),
    "pivot_root": lambda: libc.syscall(155, b"/tmp", b"/tmp/program"),
    "chroot": lambda: libc.chroot(b"here"),
    "fsopen": lambda: libc.syscall(430, b"tmpfs", 0),
    "open_tree": lambda: libc.syscall(428, -100, b"/", 1),
}
for name, attempt in attempts.items():
    if attempt() >= 0:
        print("BREACH:", name)
